import { forward, initModel, latentStates, parseRecurrentConfig, trainingLoss } from '@unroll/recurrent';
import { disposeTree, grad } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { injections, preNorm, preNormBlock } from '../src/pre-norm.js';
import { plainEntropy, plainPreNorm } from './plain.js';
import { compareSlopes, randomModel, randomState, read, sizes, weightsOf, worst } from './support.js';

const device = createCpuDevice({ threads: 1 });
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

const tokens = [11, 1, 2, 2, 1, 12, 0];
const { C, V } = sizes;

describe.each(injections)('pre-norm blocks with %s injection', (injection) => {
  const family = preNorm(injection);
  const gated = injection === 'gated';

  it('equal a plain float64 model at every loop', async () => {
    const model = randomModel(device, family);
    const s0 = randomState(device, tokens.length, C);
    const expected = plainPreNorm(tokens, s0.rows, 4, weightsOf(model), sizes, gated);
    let seen = 0;
    for await (const { recurrence, state, pass } of latentStates(model, [tokens], { recurrences: 4, initialState: s0.tensor })) {
      expect(worst(read(model.readout(state, pass)), expected.logits[recurrence - 1]!.flat())).toBeLessThan(2e-5);
      expect(worst(device.readSync(state), expected.states[recurrence - 1]!.flat())).toBeLessThan(1e-5);
      seen++;
    }
    expect(seen).toBe(4);
    s0.tensor.dispose();
    model.dispose();
  });

  it('have the gradient of the plain loss by every parameter', () => {
    const model = randomModel(device, family);
    const s0 = randomState(device, tokens.length, C);
    const targets = Int32Array.of(-1, 2, 2, -1, 12, 0, -1);
    const batch = { batch: 1, tokens: Int32Array.from(tokens), targets };
    const grads = grad(() => trainingLoss(model, batch, { n: 0, k: 3, initialState: s0.tensor }), model.params);
    const found = compareSlopes(grads, weightsOf(model), (weights) => {
      const logits = plainPreNorm(tokens, s0.rows, 3, weights, sizes, gated).logits[2]!;
      const losses = [...targets].flatMap((target, t) => (target < 0 ? [] : [plainEntropy(logits[t]!, target)]));
      return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
    });
    // Embedding, last norm, six of each of three blocks; the gate has two.
    expect(found.parameters).toBe(gated ? 22 : 20);
    expect(found.worst, found.name).toBeLessThan(2e-4);
    disposeTree(grads);
    s0.tensor.dispose();
    model.dispose();
  });

  it('decode with the cache what they compute without, bit for bit', () => {
    const model = randomModel(device, family);
    const whole = read(forward(model, [tokens], { recurrences: 3, initialState: { seed: 7 } }));
    const cache = model.createCache();
    for (const [t, token] of tokens.entries()) {
      const step = read(forward(model, [[token]], { recurrences: 3, initialState: { seed: 7 }, cache }));
      expect(Array.from(step), `position ${t}`).toEqual(Array.from(whole.subarray(t * V, (t + 1) * V)));
    }
    cache.dispose();
    model.dispose();
  });

  it('may be recorded: replayed loops have the bits of direct ones', () => {
    // Between the two models nothing differs but that.
    const decode = (recordable: boolean) => {
      const model = randomModel(device, { ...family, parts: { ...family.parts, recordable } });
      const cache = model.createCache();
      const steps = tokens.map((token) => Array.from(read(forward(model, [[token]], { recurrences: 5, cache }))));
      cache.dispose();
      model.dispose();
      return steps;
    };
    expect(decode(true)).toEqual(decode(false));
  });
});

it('a gate starts half open', () => {
  const json = { ...small, n_layers_in_prelude: 0 };
  const model = initModel(device, parseRecurrentConfig(json), { seed: 1, family: preNorm('gated') });
  expect(device.readSync(model.params.transformer.own!.gate!.bias!).every((x) => x === 0)).toBe(true);
  model.dispose();
});

it('may have a prelude as well: its length is the config’s affair', () => {
  const model = initModel(device, parseRecurrentConfig({ ...small, n_layers_in_prelude: 2 }), { seed: 1, family: preNorm('add') });
  expect(model.params.transformer.prelude).toHaveLength(2);
  expect(model.parts.block).toBe(preNormBlock);
  expect(read(forward(model, [tokens], { recurrences: 2 })).every(Number.isFinite)).toBe(true);
  model.dispose();
});

const small = {
  n_embd: C,
  num_attention_heads: 2,
  intermediate_size: 12,
  vocab_size: V,
  block_size: 64,
  norm_eps: 1e-6,
  tie_embeddings: true,
  qk_bias: false,
  n_layers_in_recurrent_block: 1,
  n_layers_in_coda: 1,
  mean_recurrence: 2,
};
