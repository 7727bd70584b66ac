import { measureToken, type RecurrentModel } from '@unroll/recurrent';
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

/** A model on the device that was chosen for it. */
export interface Placed {
  readonly chosen: Chosen;
  readonly model: RecurrentModel;
}

type Load = (device: Device) => Promise<RecurrentModel>;

async function place(chosen: Chosen, load: Load): Promise<Placed> {
  try {
    return { chosen, model: await load(chosen.device) };
  } catch (error) {
    chosen.device.dispose();
    throw error;
  }
}

export function giveBack({ chosen, model }: Placed): void {
  try {
    model.dispose();
  } finally {
    chosen.device.dispose();
  }
}

const because = ({ chosen: { device, info }, model }: Placed, reason: string): Placed => ({
  chosen: { device, info: { ...info, reason } },
  model,
});

const milliseconds = (ms: number): string => `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;

interface Trial {
  readonly placed: Placed;
  readonly ms: number;
}

/** Gives the error where the model cannot be loaded or run there. */
async function tryOut(chosen: Chosen, load: Load, measure: typeof measureToken): Promise<Trial | Error> {
  let placed: Placed | undefined;
  try {
    placed = await place(chosen, load);
    return { placed, ms: await measure(placed.model) };
  } catch (error) {
    if (placed !== undefined) giveBack(placed);
    return error instanceof Error ? error : new Error(String(error));
  }
}

const firstLine = ({ message }: Error): string => message.split('\n')[0]!;

/** Loads the model in both places, measures a token in each, and keeps the faster one; its reason says what was measured. */
export async function placeByMeasure(gpu: Chosen, openCpu: () => Chosen, load: Load, measure = measureToken): Promise<Placed> {
  const onGpu = await tryOut(gpu, load, measure);
  let cpu: Chosen;
  try {
    cpu = openCpu();
  } catch (error) {
    if (!(onGpu instanceof Error)) giveBack(onGpu.placed);
    throw error;
  }
  const onCpu = await tryOut(cpu, load, measure);
  if (onCpu instanceof Error) {
    if (onGpu instanceof Error) throw onCpu;
    return because(onGpu.placed, `the CPU cannot run this model here: ${firstLine(onCpu)}`);
  }
  if (onGpu instanceof Error) return because(onCpu.placed, `the graphics adapter here cannot run this model: ${firstLine(onGpu)}`);
  const depth = `a token at depth ${onCpu.placed.model.meanRecurrence}`;
  const [faster, slower, elsewhere] = onCpu.ms <= onGpu.ms ? [onCpu, onGpu, 'the graphics adapter'] : [onGpu, onCpu, 'the CPU'];
  giveBack(slower.placed);
  return because(
    faster.placed,
    `measured, it is the faster one: ${depth} takes ${milliseconds(faster.ms)} here and ${milliseconds(slower.ms)} on ${elsewhere}`,
  );
}

/** With more bytes of weights than this both devices are not tried: the CPU would need as much memory again, and takes seconds a token. */
export const MOST_MEASURED_BYTES = 512e6;

/**
 * Loads a model of so many bytes on the device that is wished for, and says why it is that one; "auto" measures the model on both where there
 * is a choice. A wish for WebGPU that cannot be met throws UnsupportedError: nothing falls back silently.
 */
export async function placeModel(wish: DeviceWish, weightBytes: number, load: Load): Promise<Placed> {
  if (wish === 'webgpu') return place(gpuChoice(await createWebGPUDevice({ gpu: gpuOf() }), 'you chose WebGPU'), load);
  const { device, missing } = await findGpu();
  const kind = device === undefined ? 'none' : device.software ? 'software' : 'hardware';
  const onCpu = (reason: string) => place(cpuChoice(reason, kind), load);
  if (wish === 'auto' && device !== undefined && !device.software) {
    if (weightBytes > MOST_MEASURED_BYTES)
      return place(gpuChoice(device, 'a graphics adapter is here, and this model is too large to try it on the CPU as well'), load);
    return placeByMeasure(gpuChoice(device, ''), () => cpuChoice('', kind), load);
  }
  device?.dispose();
  if (wish === 'cpu') return onCpu('you chose the CPU');
  if (kind === 'none') return onCpu(missing);
  return onCpu('the only WebGPU adapter here computes in software, which is slower than the CPU kernels');
}
