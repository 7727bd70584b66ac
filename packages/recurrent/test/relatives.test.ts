import { leftPaddedPositions } from '@unroll/nn';
import { type Device, ropeTable, type Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { Generate } from '@unroll/tensor/testing';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { type PlainRelative, plainRelative } from '../../../tooling/reference-models/plain-relatives.js';
import { cases, llama3, ouroJson, randomWeights, retrofitJson, sizes } from '../../../tooling/reference-models/relative-cases.js';
import {
  familyOf,
  forward,
  latentStates,
  loadRecurrentModel,
  parseRecurrentConfig,
  type RecurrentModel,
  type TensorSource,
} from '../src/index.js';
import { worst } from './helpers.js';

const device = createCpuDevice();
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

const read = async (tensor: Tensor): Promise<Float32Array> => {
  const data = await tensor.data();
  tensor.dispose();
  return data as Float32Array;
};

function sourceOf(weights: ReturnType<typeof randomWeights>): TensorSource {
  return {
    name: 'test.safetensors',
    entries: new Map([...weights].map(([name, { shape }]) => [name, { dtype: 'F32', shape }])),
    read: async (name) => {
      const { data } = weights.get(name)!;
      return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    },
  };
}

const load = (c: PlainRelative, json: unknown, on: Device = device): Promise<RecurrentModel> =>
  loadRecurrentModel({ device: on, config: json, weights: sourceOf(randomWeights(c)) });

describe.each(cases)('%s', (_, plain, json) => {
  const tokens = [1, 4, 0, 22, 2, 4, 1];
  const V = sizes.V;

  it('is recognised by its names', () => {
    expect(familyOf(randomWeights(plain).keys()).name).toBe(plain.kind);
  });

  it('equals a plain float64 model at every loop', async () => {
    const model = await load(plain, json);
    const weights = new Map([...randomWeights(plain)].map(([name, { data }]) => [name, data]));
    const s0 = new Generate(9).f32([1, tokens.length, sizes.C], plain.kind === 'ouro' ? 0 : -1, plain.kind === 'ouro' ? 0 : 1).data;
    const initial = device.tensor(s0, [1, tokens.length, sizes.C]);
    const rows = tokens.map((_, t) => Array.from(s0.subarray(t * sizes.C, (t + 1) * sizes.C)));
    const expected = plainRelative(tokens, rows, 3, weights, plain);
    let seen = 0;
    for await (const { recurrence, state, pass } of latentStates(model, [tokens], { recurrences: 3, initialState: initial })) {
      expect(worst(await state.data(), expected.states[recurrence - 1]!.flat()), `state ${recurrence}`).toBeLessThan(3e-5);
      expect(worst(await read(model.readout(state, pass)), expected.logits[recurrence - 1]!.flat())).toBeLessThan(5e-5);
      if (plain.kind === 'ouro') expect(worst(await read(model.exitLogits(state)), expected.gates[recurrence - 1]!)).toBeLessThan(2e-5);
      seen++;
    }
    expect(seen).toBe(3);
    initial.dispose();
    model.dispose();
  });

  it('decodes with the cache what it computes without, bit for bit, and rows of a padded batch what they get alone', async () => {
    const model = await load(plain, json);
    const whole = await read(forward(model, [tokens], { recurrences: 3, initialState: { seed: 7 } }));
    const cache = model.createCache();
    for (const [t, token] of tokens.entries()) {
      const step = await read(forward(model, [[token]], { recurrences: 3, initialState: { seed: 7 }, cache }));
      expect(Array.from(step), `position ${t}`).toEqual(Array.from(whole.slice(t * V, (t + 1) * V)));
    }
    cache.dispose();
    const short = tokens.slice(0, 3);
    const alone = await read(forward(model, [short], { recurrences: 3, initialState: { seed: 7 } }));
    const padded = [tokens, [...new Array<number>(tokens.length - 3).fill(0), ...short]];
    const both = await read(
      forward(model, padded, { recurrences: 3, initialState: { seed: [5, 7] }, positions: leftPaddedPositions([tokens.length, 3]) }),
    );
    expect(Array.from(both.slice(-3 * V))).toEqual(Array.from(alone));
    model.dispose();
  });

  it('lets sequences run at loops of their own', async () => {
    const model = await load(plain, json);
    const cache = model.createCache({ batch: 2, use: 'mixed-depth' });
    const input = device.tensor([1, 4], [2, 1], { dtype: 'i32' });
    const pass = cache.begin(Int32Array.of(0, 0));
    const e = model.prelude(input, pass);
    const start = model.initialState(pass, { seed: 1 });
    const both = model.step(e, start, [0, 2], pass);
    const alone = model.step(e, start, 0, pass);
    const C = sizes.C;
    expect((await both.data()).slice(0, C)).toEqual((await alone.data()).slice(0, C));
    if (plain.kind === 'ouro') expect((await both.data()).slice(C)).not.toEqual((await alone.data()).slice(C));
    for (const owner of [input, e, start, both, alone, pass, cache, model]) owner.dispose();
  });
});

describe('numbers of the relatives', () => {
  it('start where their checkpoints say', async () => {
    for (const [, plain, json] of cases) {
      const model = await load(plain, json);
      const pass = model.createCache().begin(Int32Array.from({ length: 60 }, (_, i) => i));
      const state = await read(model.initialState(pass));
      const deviation = Math.sqrt(state.reduce((sum, x) => sum + x * x, 0) / state.length);
      if (plain.kind === 'ouro') expect(deviation).toBe(0);
      // The cut at 3 sigma leaves 98.7 % of the deviation.
      else expect(deviation / 0.0087038828).toBeCloseTo(0.987, 1);
      pass.dispose();
      model.dispose();
    }
  });

  it('take scales that differ from what the width gives from init_values, and those alone', () => {
    const { embeddingScale, stateStd } = parseRecurrentConfig(retrofitJson);
    expect(embeddingScale).toBe(1);
    expect(stateStd).toBeCloseTo(0.0087038828, 9);
    const usual = { std: Math.sqrt(2 / 120) * (1 + 1e-8), embed_scale: Math.sqrt(24) };
    expect(parseRecurrentConfig({ ...retrofitJson, init_values: usual })).not.toHaveProperty('stateStd');
    expect(() => parseRecurrentConfig({ ...retrofitJson, init_values: { std: -1 } })).toThrow(
      /"init_values": "std" must be a number from 0/,
    );
  });

  it('refuse what is not implemented', () => {
    const bad = (change: object) => () => parseRecurrentConfig({ ...retrofitJson, ...change });
    expect(bad({ rope_scaling: { ...llama3, rope_type: 'yarn' } })).toThrow(/"rope_scaling": "rope_type" "yarn" is not implemented/);
    expect(bad({ rope_scaling: { ...llama3, high_freq_factor: 1 } })).toThrow(/"low_freq_factor" must be below "high_freq_factor"/);
    expect(bad({ rope_scaling: { ...llama3, beta: 1 } })).toThrow(/"rope_scaling": unknown field "beta"/);
    const badOuro = (change: object) => () => parseRecurrentConfig({ ...ouroJson, ...change });
    expect(badOuro({ hidden_act: 'gelu' })).toThrow(/"hidden_act" "gelu" is not implemented/);
    expect(badOuro({ layer_types: ['sliding_attention', 'full_attention', 'full_attention'] })).toThrow(/"layer_types" must be a list/);
    expect(badOuro({ head_dim: 16 })).toThrow(/"head_dim" must be hidden_size \/ heads = 8; got 16/);
    expect(badOuro({ n_embd: 3 })).toThrow(/unknown field "n_embd"/);
  });

  it('name what is missing by the names of the checkpoint', async () => {
    const plain = cases[3]![1];
    const weights = randomWeights(plain);
    weights.delete('model.layers.1.self_attn.k_proj.weight');
    weights.set('model.layers.0.mlp.up_proj.weight', { shape: [19, 24], data: new Float32Array(19 * 24) });
    const error = loadRecurrentModel({ device, config: ouroJson, weights: sourceOf(weights) });
    await expect(error).rejects.toThrow(/model.layers.1.self_attn.k_proj.weight is missing; it must be \[24,24\]/);
    await expect(loadRecurrentModel({ device, config: ouroJson, weights: sourceOf(weights) })).rejects.toThrow(
      /model.layers.0.mlp.up_proj.weight is \[19,24\]; it must be \[20,24\]/,
    );
  });

  it('have the frequencies of Llama 3.2', async () => {
    // Three pairs of a model with base 500000 and head size 64: fast (kept), between, slow (divided by 32), as the published formula gives.
    const model = await load(cases[1]![1], {
      ...retrofitJson,
      n_embd: 24,
      rope_theta: 500000,
      rope_scaling: { ...llama3, original_max_position_embeddings: 8192 },
    });
    const table = await model.rope.data();
    const plainTable = ropeTable(64, 4, 500000);
    expect(table.slice(4, 6)).toEqual(plainTable.slice(4, 6));
    const slow = 500000 ** (-1 / 2);
    const wavelength = (2 * Math.PI) / slow;
    const smooth = (8192 / wavelength - 1) / 3;
    expect(smooth).toBeGreaterThan(0);
    expect(Math.asin(table[4 + 3]!)).toBeCloseTo(((1 - smooth) * slow) / 32 + smooth * slow, 8);
    model.dispose();
  });
});
