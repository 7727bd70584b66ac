import { type Device, UnsupportedError } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { createWebGPUDevice, type GpuLike, type WebGPUDevice } from '@unroll/tensor/webgpu';
import type { DeviceInfo, DeviceWish } from './protocol.js';

// (module (func (result v128) i32.const 1 i8x16.splat i32.const 2 i8x16.splat i8x16.relaxed_swizzle))
const RELAXED_PROBE = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11,
];

const gpuOf = (): GpuLike | undefined => (navigator as { gpu?: GpuLike }).gpu;

/** A device with what the page says about it. */
export interface Chosen {
  readonly device: Device;
  readonly info: DeviceInfo;
}

interface Found {
  readonly device: WebGPUDevice | undefined;
  /** Why there is none. */
  readonly missing: string;
}

async function findGpu(): Promise<Found> {
  if (gpuOf() === undefined) return { device: undefined, missing: 'this browser has no WebGPU' };
  try {
    return { device: await createWebGPUDevice({ gpu: gpuOf() }), missing: '' };
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    return { device: undefined, missing: 'this browser has WebGPU but found no graphics adapter' };
  }
}

function facts(gpu: DeviceInfo['gpu']): Pick<DeviceInfo, 'simd' | 'isolated' | 'gpu'> {
  const simd = WebAssembly.validate(Uint8Array.from(RELAXED_PROBE)) ? 'relaxed' : 'plain';
  return { simd, isolated: globalThis.crossOriginIsolated === true, gpu };
}

const cpuChoice = (reason: string, gpu: DeviceInfo['gpu']): Chosen => {
  const device = createCpuDevice();
  return { device, info: { kind: 'cpu', reason, description: device.description, threads: 1, ...facts(gpu) } };
};

const gpuChoice = (device: WebGPUDevice, reason: string): Chosen => ({
  device,
  info: { kind: 'webgpu', reason, description: device.description, threads: 0, ...facts(device.software ? 'software' : 'hardware') },
});

/** Below this many bytes of weights a recurrence costs less than telling a GPU to run it. */
export const SMALL_MODEL_BYTES = 32e6;

/**
 * Chooses a device for a model of so many bytes and says why. A wish for WebGPU that cannot be met throws UnsupportedError: nothing falls
 * back silently.
 */
export async function chooseDevice(wish: DeviceWish, weightBytes: number): Promise<Chosen> {
  if (wish === 'webgpu') return gpuChoice(await createWebGPUDevice({ gpu: gpuOf() }), 'you chose WebGPU');
  const { device, missing } = await findGpu();
  const kind = device === undefined ? 'none' : device.software ? 'software' : 'hardware';
  if (wish === 'auto' && device !== undefined && !device.software && weightBytes > SMALL_MODEL_BYTES) {
    return gpuChoice(device, 'a graphics adapter is here, and this model is large enough to gain from it');
  }
  device?.dispose();
  if (wish === 'cpu') return cpuChoice('you chose the CPU', kind);
  if (kind === 'none') return cpuChoice(missing, kind);
  if (kind === 'software')
    return cpuChoice('the only WebGPU adapter here computes in software, which is slower than the CPU kernels', kind);
  return cpuChoice('this model is small: a recurrence costs less on the CPU than telling a GPU to run it', kind);
}
