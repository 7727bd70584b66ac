import { leftPaddedPositions, parseKVPolicy } from '@unroll/nn';
import type { Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { Generate } from '@unroll/tensor/testing';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { plainForward } from '../../../tooling/reference-models/plain-model.js';
import { forward, initParams, latentStates, type RecurrentConfig, RecurrentModel } from '../src/index.js';
import { randomWeights, tinyConfig, tinyModel, worst } from './helpers.js';

const device = createCpuDevice();
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

const read = async (tensor: Tensor): Promise<Float32Array> => {
  const data = await tensor.data();
  tensor.dispose();
  return data as Float32Array;
};
const variants: [string, Partial<RecurrentConfig>][] = [
  ['one prelude, two core, one coda layer', {}],
  ['no prelude, no coda', { preludeLayers: 0, codaLayers: 0, coreLayers: 1 }],
  ['two, three, two layers, untied head', { preludeLayers: 2, coreLayers: 3, codaLayers: 2, tiedHead: false }],
  ['grouped key heads, no q and k bias', { heads: 6, kvHeads: 2, qkBias: false }],
  ['one head of odd half size', { width: 22, heads: 1, kvHeads: 1, mlpWidth: 7, vocabularySize: 5 }],
];

describe.each(variants)('model with %s', (_, change) => {
  const config: RecurrentConfig = { ...tinyConfig, ...change };
  const tokens = [1, 4, 0, 3, 2, 4, 1];
  const C = config.width;
  const s0 = () => device.tensor(new Generate(9).f32([1, tokens.length, C]).data, [1, tokens.length, C]);

  it('equals a plain float64 model stage by stage', async () => {
    const model = tinyModel(device, config);
    const weights = new Map([...randomWeights(config)].map(([name, { data }]) => [name, data]));
    const initial = s0();
    const rows = Array.from({ length: tokens.length }, (_, t) =>
      Array.from(new Generate(9).f32([1, tokens.length, C]).data.subarray(t * C, (t + 1) * C)),
    );
    const layers = { prelude: config.preludeLayers, core_block: config.coreLayers, coda: config.codaLayers };
    const plainConfig = {
      C,
      H: config.heads,
      Hk: config.kvHeads,
      I: config.mlpWidth,
      V: config.vocabularySize,
      eps: 1e-6,
      ropeBase: 50000,
      layers,
    };
    const plain = plainForward(tokens, rows, 3, weights, plainConfig);
    for await (const { recurrence, state, pass } of latentStates(model, [tokens], { recurrences: 3, initialState: initial })) {
      expect(worst(await state.data(), plain.states[recurrence]!.flat()), `state ${recurrence}`).toBeLessThan(2e-5);
      if (recurrence === 3) expect(worst(await read(model.readout(state, pass)), plain.logits.flat())).toBeLessThan(5e-5);
    }
    initial.dispose();
    model.dispose();
  });

  it('decodes with the cache what it computes without, bit for bit', async () => {
    const model = tinyModel(device, config);
    const cache = model.createCache();
    const whole = await read(forward(model, [tokens], { recurrences: 3, initialState: { seed: 7 } }));
    for (const [t, token] of tokens.entries()) {
      const step = await read(forward(model, [[token]], { recurrences: 3, initialState: { seed: 7 }, cache }));
      const V = config.vocabularySize;
      expect(Array.from(step), `position ${t}`).toEqual(Array.from(whole.slice(t * V, (t + 1) * V)));
    }
    cache.dispose();
    model.dispose();
  });

  it('gives the same bits for a prompt in chunks', async () => {
    const model = tinyModel(device, config);
    const cache = model.createCache();
    const V = config.vocabularySize;
    const whole = await read(forward(model, [tokens], { recurrences: 2, initialState: { seed: 3 } }));
    const first = await read(forward(model, [tokens.slice(0, 3)], { recurrences: 2, initialState: { seed: 3 }, cache }));
    const rest = await read(forward(model, [tokens.slice(3)], { recurrences: 2, initialState: { seed: 3 }, cache }));
    expect([...first, ...rest]).toEqual(Array.from(whole));
    expect(first.length).toBe(3 * V);
    cache.dispose();
    model.dispose();
  });

  it('gives left-padded rows what they get alone, with and without a cache', async () => {
    const model = tinyModel(device, config);
    const V = config.vocabularySize;
    const short = tokens.slice(0, 3);
    const padded = [tokens, [...new Array<number>(tokens.length - 3).fill(0), ...short]];
    const positions = leftPaddedPositions([tokens.length, 3]);
    const options = { recurrences: 3, initialState: { seed: [5, 6] } };
    const alone = await read(forward(model, [short], { recurrences: 3, initialState: { seed: 6 } }));
    for (const cache of [undefined, model.createCache({ batch: 2 })]) {
      const both = await read(forward(model, padded, { ...options, positions, ...(cache === undefined ? {} : { cache }) }));
      expect(Array.from(both.slice(-3 * V))).toEqual(Array.from(alone));
      cache?.dispose();
    }
    model.dispose();
  });
});

describe('initial state', () => {
  const model = () => tinyModel(device);
  const draw = async (m: RecurrentModel, tokens: number[][], options: Parameters<typeof forward>[2]) =>
    read(forward(m, tokens, { recurrences: 1, ...options }));

  it('depends on the seed and the position alone', async () => {
    const m = model();
    const pass = m.createCache({ batch: 2 });
    const opened = pass.begin(Int32Array.of(0, 1, 2, -1, 0, 1));
    const state = m.initialState(opened, { seed: [4, 4] });
    const values = await read(state);
    const row = (b: number, t: number) => Array.from(values.slice((b * 3 + t) * 24, (b * 3 + t + 1) * 24));
    expect(row(0, 0)).toEqual(row(1, 1));
    expect(row(0, 1)).toEqual(row(1, 2));
    expect(row(0, 0)).not.toEqual(row(0, 1));
    opened.dispose();
    pass.dispose();
    m.dispose();
  });

  it('has a deviation of 0.624 for every width, within 3 sigma of 0.632', async () => {
    const wide = new RecurrentModel(
      device,
      { ...tinyConfig, width: 384, contextLength: 64 },
      initParams(device, { ...tinyConfig, width: 384, contextLength: 64 }, { seed: 0 }),
    );
    const cache = wide.createCache();
    const pass = cache.begin(Int32Array.from({ length: 64 }, (_, i) => i));
    const values = await read(wide.initialState(pass, { seed: 11 }));
    const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
    const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length);
    expect(deviation).toBeCloseTo(0.624, 2);
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(Math.max(...values.map(Math.abs))).toBeLessThan(3 * Math.sqrt(2 / 5) + 1e-4);
    pass.dispose();
    cache.dispose();
    wide.dispose();
  });

  it('is zero at scale 0 and scales otherwise', async () => {
    const m = model();
    expect(Array.from(await draw(m, [[1, 2]], { initialState: { scale: 0, seed: 1 } }))).toEqual(
      Array.from(await draw(m, [[1, 2]], { initialState: { scale: 0, seed: 2 } })),
    );
    expect(Array.from(await draw(m, [[1, 2]], { initialState: { seed: 1 } }))).not.toEqual(
      Array.from(await draw(m, [[1, 2]], { initialState: { seed: 2 } })),
    );
    m.dispose();
  });
});

describe('refusals', () => {
  it.each([
    [{ recurrences: 0 }, /recurrences \(depth\) must be a whole number from 1 to 65536; got 0/],
    [{ recurrences: -3 }, /got -3/],
    [{ recurrences: 1e9 }, /got 1000000000/],
    [{ recurrences: 1.5 }, /got 1.5/],
    [{ depth: 3 }, /unknown option "depth"/],
    [{ initialState: { seed: -1 } }, /seed must be a whole number/],
    [{ initialState: { scale: Number.NaN } }, /scale must be from 0/],
    [{ initialState: { noise: 1 } }, /unknown option "noise"/],
    [{ positions: Int32Array.of(31, 32) }, /position 32 is beyond the context of 32/],
  ])('%j', (options, message) => {
    const m = tinyModel(device);
    expect(() => forward(m, [[1, 2]], options as never)).toThrow(message);
    m.dispose();
  });

  it('tokens outside the vocabulary, ragged rows, no tokens', () => {
    const m = tinyModel(device);
    expect(() => forward(m, [[1, 99]], {})).toThrow(/gatherRows/);
    expect(() => forward(m, [[1, 2], [1]], {})).toThrow(/row 1 has 1/);
    expect(() => forward(m, [], {})).toThrow(/at least one token/);
    m.dispose();
  });

  it('what is no rows of token ids', () => {
    const m = tinyModel(device);
    for (const [tokens, message] of [
      [[1, 2, 3], /tokens must be rows of token ids.*got \[1, 2, 3\]/],
      ['abc', /rows of token ids.*got string/],
      [
        [
          [1, 2],
          [3, 0.5],
        ],
        /token 1 of row 1 is 0\.5/,
      ],
      [[['1']], /whole numbers; token 0 of row 0 is 1/],
    ] as const)
      expect(() => forward(m, tokens as never)).toThrow(message);
    m.dispose();
  });

  it('rows may be typed arrays', async () => {
    const m = tinyModel(device);
    const [typed, plain] = [forward(m, [Int32Array.of(1, 2)] as never), forward(m, [[1, 2]])];
    expect(await read(typed)).toEqual(await read(plain));
    m.dispose();
  });

  it('a policy may be named; what is none is refused', () => {
    const m = tinyModel(device);
    const [named, given] = [
      m.createCache({ policy: 'latest-compress-s2' }),
      m.createCache({ policy: parseKVPolicy('latest-compress-s2') }),
    ];
    expect(named.policy).toEqual(given.policy);
    named.dispose();
    given.dispose();
    expect(() => m.createCache({ policy: 'lates' })).toThrow(/unknown KV policy "lates"/);
    expect(() => m.createCache({ policy: 3 as never })).toThrow(/policy must be a name.*got 3/);
    expect(() => m.createCache({ policy: { lookup: 'own' } as never })).toThrow(/policy must be a name/);
    m.dispose();
  });
});

it('leaves nothing behind over 50 forwards and abandoned iterations', async () => {
  const m = tinyModel(device);
  const before = device.memory();
  for (let i = 0; i < 50; i++) {
    forward(m, [[1, 2, 3]], { recurrences: 2 }).dispose();
    for await (const { recurrence } of latentStates(m, [[1, 2, 3]], { recurrences: 9 })) if (recurrence === 2) break;
  }
  expect(device.memory().bytes).toEqual(before.bytes);
  expect(device.memory().reserved).toBeLessThanOrEqual(before.reserved + 65536);
  m.dispose();
});
