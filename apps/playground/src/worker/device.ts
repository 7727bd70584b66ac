import { type Device, UnsupportedError } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { createWebGPUDevice, type GpuLike, type WebGPUDevice } from '@unroll/tensor/webgpu';
import type { DeviceInfo, DeviceWish } from './protocol.js';

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

const facts = (gpu: DeviceInfo['gpu']): Pick<DeviceInfo, 'isolated' | 'gpu'> => ({
  isolated: globalThis.crossOriginIsolated === true,
  gpu,
});

const cpuChoice = (reason: string, gpu: DeviceInfo['gpu']): Chosen => {
  const device = createCpuDevice();
  return { device, info: { kind: 'cpu', reason, description: device.description, threads: device.threads, ...facts(gpu) } };
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
