import type { Device, Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { Generate } from '@unroll/tensor/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { plainForward } from '../../../tooling/reference-models/plain-model.js';
import { forward, latentStates, loadParams, type RecurrentConfig, RecurrentModel, type WeightDType } from '../src/index.js';
import { randomWeights, tinyConfig, worst } from './helpers.js';
import { vulkanDevice } from './vulkan.js';

// Head sizes 32 to 128, odd numbers of heads, and widths, MLPs and vocabularies that are multiples of nothing a kernel works in.

const shapes: [D: number, H: number, Hk: number, I: number, V: number][] = [
  [32, 3, 3, 71, 101],
  [48, 7, 7, 129, 259],
  [64, 3, 1, 45, 33],
  [80, 5, 5, 203, 67],
  [96, 5, 5, 90, 403],
  [112, 1, 1, 57, 29],
  [128, 3, 1, 131, 257],
];

const devices: Device[] = [];
beforeAll(async () => {
  // The last has bindings so small that quantised matrices are split by rows, as those of a large model are.
  devices.push(createCpuDevice(), await vulkanDevice(), await vulkanDevice({ maxBindingBytes: 128 * 1024 }));
});
afterAll(() => {
  for (const device of devices) {
    expect(device.memory().buffers).toBe(0);
    device.dispose();
  }
});

const tokens = [1, 4, 0, 22, 2, 4, 28];
const R = 2;

const read = async (tensor: Tensor): Promise<Float32Array> => {
  const data = await tensor.data();
  tensor.dispose();
  return data as Float32Array;
};

async function load(device: Device, config: RecurrentConfig, dtype: WeightDType): Promise<RecurrentModel> {
  const weights = randomWeights(config);
  const source = {
    name: 'random',
    entries: new Map([...weights].map(([name, { shape }]) => [name, { dtype: 'F32', shape }])),
    read: async (name: string) => new Uint8Array(weights.get(name)!.data.buffer),
  };
  return new RecurrentModel(device, config, await loadParams(device, config, source, { dtype }));
}

describe.each(shapes)('head size %i, %i heads of which %i for keys, MLP %i, vocabulary %i', (D, H, Hk, I, V) => {
  const config: RecurrentConfig = {
    ...tinyConfig,
    width: D * H,
    heads: H,
    kvHeads: Hk,
    qkBias: H === Hk,
    mlpWidth: I,
    vocabularySize: V,
    coreLayers: 1,
  };
  const C = config.width;
  const T = tokens.length;
  const start = new Generate(9).f32([1, T, C]).data;

  it('equals a plain float64 model on both devices', async () => {
    const rows = Array.from({ length: T }, (_, t) => Array.from(start.subarray(t * C, (t + 1) * C)));
    const layers = { prelude: config.preludeLayers, core_block: config.coreLayers, coda: config.codaLayers };
    const weights = new Map([...randomWeights(config)].map(([name, { data }]) => [name, data]));
    const plain = plainForward(tokens, rows, R, weights, { C, H, Hk, I, V, eps: 1e-6, ropeBase: 50000, layers });
    for (const device of devices.slice(0, 2)) {
      const model = await load(device, config, 'f32');
      const initial = device.tensor(start, [1, T, C]);
      for await (const { recurrence, state, pass } of latentStates(model, [tokens], { recurrences: R, initialState: initial })) {
        expect(worst(await state.data(), plain.states[recurrence]!.flat()), `${device.kind}, state ${recurrence}`).toBeLessThan(3e-5);
        if (recurrence < R) continue;
        expect(worst(await read(model.readout(state, pass)), plain.logits.flat()), `${device.kind}, logits`).toBeLessThan(1e-4);
      }
      initial.dispose();
      model.dispose();
    }
  });

  const formats: WeightDType[] = H === 7 ? ['q4', 'q8', 'bf16', 'f16'] : ['q4'];
  it.each(formats)('has the same logits in %s on both, for a prompt and token by token', async (dtype) => {
    const halves = dtype === 'f16' || dtype === 'bf16';
    const all: Float32Array[] = [];
    for (const device of halves || H === 1 ? devices.slice(0, 2) : devices) {
      const model = await load(device, config, dtype);
      const whole = await read(forward(model, [tokens], { recurrences: R, initialState: { seed: 7 } }));
      const cache = model.createCache();
      const steps: number[] = [];
      for (const token of tokens.slice(0, 3))
        steps.push(...(await read(forward(model, [[token]], { recurrences: R, initialState: { seed: 7 }, cache }))));
      cache.dispose();
      model.dispose();
      all.push(whole, Float32Array.from(steps));
    }
    const [whole, ...others] = all as [Float32Array, ...Float32Array[]];
    for (const other of others) {
      const same = whole.slice(0, other.length);
      // Beside q8 and q4, activations are rounded to int8, where a last bit can become a step.
      expect(worst(other, same)).toBeLessThan(halves ? 2e-5 : 0.2);
      const apart = Array.from(other, (value, i) => Math.abs(value - same[i]!)).sort((a, b) => a - b);
      expect(apart[apart.length >> 1]).toBeLessThan(halves ? 5e-6 : 0.01);
    }
  });
});
