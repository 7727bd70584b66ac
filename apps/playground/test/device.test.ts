import { bytesSource, openSafetensors } from '@unroll/checkpoint';
import { loadEmbedded } from '@unroll/pretrained';
import { loadRecurrentModel, type RecurrentModel } from '@unroll/recurrent';
import { type Device, OutOfMemoryError } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { expect, test } from 'vitest';
import { type Chosen, giveBack, type Placed, placeByMeasure } from '../src/worker/device.js';

/** Two places for the adder, both on the CPU: which is which is what is tested. */
async function places() {
  const { config, weights } = await loadEmbedded('adder');
  const opened: Device[] = [];
  const choose = (kind: 'cpu' | 'webgpu'): Chosen => {
    const device = createCpuDevice({ threads: 1 });
    opened.push(device);
    return { device, info: { kind, reason: '', description: device.description, threads: 1, isolated: true, gpu: 'hardware' } };
  };
  const load = async (device: Device): Promise<RecurrentModel> =>
    loadRecurrentModel({ device, config, weights: await openSafetensors(bytesSource(weights)) });
  /** Loading, or measuring, fails on the device that was opened as number `i`. */
  const failing =
    <R>(f: (device: Device) => Promise<R>, ...numbers: readonly number[]) =>
    async (device: Device): Promise<R> => {
      if (numbers.includes(opened.indexOf(device))) throw new OutOfMemoryError(`device ${opened.indexOf(device)} is full\nof it`);
      return f(device);
    };
  const took =
    (...ms: readonly number[]) =>
    async ({ device }: RecurrentModel) =>
      ms[opened.indexOf(device)]!;
  /** The kind and reason of what was kept; all else must have been given back. */
  const end = async (placed: Placed): Promise<string> => {
    const { device, info } = placed.chosen;
    expect(device.memory().bytes.weights).toBeGreaterThan(800_000);
    for (const other of opened) if (other !== device) expect(other.memory().bytes.weights).toBe(0);
    giveBack(placed);
    return `${info.kind}: ${info.reason}`;
  };
  return { opened, choose, load, failing, took, end };
}

test('the faster device is kept, and its reason says what was measured', async () => {
  const here = await places();
  const cpu = () => here.choose('cpu');
  const fast = await placeByMeasure(here.choose('webgpu'), cpu, here.load, here.took(2.345, 17));
  expect(await here.end(fast)).toBe('webgpu: measured, it is the faster one: a token at depth 8 takes 2.35 ms here and 17 ms on the CPU');
  const there = await places();
  const slow = await placeByMeasure(there.choose('webgpu'), () => there.choose('cpu'), there.load, there.took(30, 1.5));
  expect(await there.end(slow)).toBe(
    'cpu: measured, it is the faster one: a token at depth 8 takes 1.50 ms here and 30 ms on the graphics adapter',
  );
});

test('a token is really measured', async () => {
  const { choose, load, end } = await places();
  const reason = await end(await placeByMeasure(choose('webgpu'), () => choose('cpu'), load));
  const [, here, there] = /takes ([\d.]+) ms here and ([\d.]+) ms on/.exec(reason)!.map(Number);
  expect(here).toBeGreaterThan(0);
  expect(there).toBeGreaterThanOrEqual(here!);
});

test('where one device cannot, the other one does and says so; where none can, the error comes through', async () => {
  const full = await places();
  const one = await placeByMeasure(full.choose('webgpu'), () => full.choose('cpu'), full.failing(full.load, 0), full.took(1, 1));
  expect(await full.end(one)).toBe('cpu: the graphics adapter here cannot run this model: device 0 is full');
  const small = await places();
  const two = await placeByMeasure(small.choose('webgpu'), () => small.choose('cpu'), small.failing(small.load, 1), small.took(1, 1));
  expect(await small.end(two)).toBe('webgpu: the CPU cannot run this model here: device 1 is full');
  const none = await places();
  await expect(
    placeByMeasure(none.choose('webgpu'), () => none.choose('cpu'), none.failing(none.load, 0, 1), none.took(1, 1)),
  ).rejects.toThrow('device 1 is full');
});
