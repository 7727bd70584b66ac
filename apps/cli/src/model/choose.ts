import { measureToken, type RecurrentModel } from '@unroll/recurrent';
import type { Device } from '@unroll/tensor';
import type { Io } from '../io.js';
import { type DeviceName, type OpenedDevice, openCpu, openWebGPU } from './device.js';

export interface Placed extends OpenedDevice {
  readonly model: RecurrentModel;
}

async function place(opened: OpenedDevice, load: (device: Device) => Promise<RecurrentModel>): Promise<Placed> {
  try {
    return { ...opened, model: await load(opened.device) };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

async function give(placed: Placed): Promise<void> {
  placed.model.dispose();
  await placed.close();
}

/** Loads the model on both devices, measures a token on each, keeps the faster and says on stderr which, and why. */
async function placeByMeasure(load: (device: Device) => Promise<RecurrentModel>, io: Io): Promise<Placed> {
  const say = (text: string) => io.stderr.write(`--device auto: ${text}\n`);
  let gpu: Placed | undefined;
  let gpuMs = Number.POSITIVE_INFINITY;
  try {
    gpu = await place(await openWebGPU(), load);
    gpuMs = await measureToken(gpu.model);
  } catch (error) {
    if (gpu !== undefined) await give(gpu).catch(() => undefined);
    const cpu = await place(await openCpu(), load);
    say(`cpu, since webgpu cannot be used: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`);
    return cpu;
  }
  let cpu: Placed | undefined;
  let cpuMs: number;
  try {
    cpu = await place(await openCpu(), load);
    cpuMs = await measureToken(cpu.model);
  } catch (error) {
    if (cpu !== undefined) await give(cpu);
    await give(gpu);
    throw error;
  }
  const took = (ms: number) => `${ms.toFixed(ms < 10 ? 2 : 0)} ms`;
  const depth = `a token at depth ${cpu.model.meanRecurrence}`;
  const name = gpu.device.description.split(';')[0];
  if (cpuMs <= gpuMs) {
    await give(gpu);
    say(`cpu, since ${depth} takes ${took(cpuMs)} there and ${took(gpuMs)} on ${name}`);
    return cpu;
  }
  await give(cpu);
  say(`webgpu, since ${depth} takes ${took(gpuMs)} on ${name} and ${took(cpuMs)} on cpu`);
  return gpu;
}

/** Opens the device, or the faster of both, and loads the model there. */
export async function placeModel(name: DeviceName, load: (device: Device) => Promise<RecurrentModel>, io: Io): Promise<Placed> {
  if (name === 'auto') return placeByMeasure(load, io);
  return place(await (name === 'cpu' ? openCpu() : openWebGPU()), load);
}
