import { parseKVPolicy } from '@unroll/nn';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, expect, it, vi } from 'vitest';
import { initParams, parseRecurrentConfig, RecurrentModel, type RecurrentParts, sandwichBlock } from '../src/index.js';

const device = createCpuDevice();
afterAll(() => {
  expect(device.memory().bytes).toMatchObject({ kv: 0, scratch: 0 });
  device.dispose();
});

const config = parseRecurrentConfig({
  n_embd: 32,
  n_heads: 2,
  intermediate_size: 48,
  vocab_size: 24,
  block_size: 96,
  n_layers_in_prelude: 1,
  n_layers_in_recurrent_block: 2,
  n_layers_in_coda: 1,
  mean_recurrence: 6,
  norm_eps: 1e-6,
  tie_embeddings: true,
  qk_bias: true,
});
const params = initParams(device, config, { seed: 3 });
const block: RecurrentParts['block'] = (...args) => sandwichBlock(...args);

/** Logits of tokens that run one by one, in two sequences, beyond the first size of the tables, with a rollback between. */
async function decode(parts: Partial<RecurrentParts>, policy: string): Promise<Float32Array[]> {
  const model = new RecurrentModel(device, config, params, parts);
  const cache = model.createCache({ batch: 2, policy: parseKVPolicy(policy) });
  const read: Float32Array[] = [];
  for (let at = 0, turn = 0; at < 70; at++, turn++) {
    if (turn === 40) {
      cache.truncate(20);
      at = 20;
    }
    const pass = cache.begin(Int32Array.of(at, at));
    const token = device.tensor([(at * 7 + turn) % 24, (at * 5) % 24], [2, 1], { dtype: 'i32' });
    const e = model.prelude(token, pass);
    const start = model.initialState(pass, { seed: 4 });
    const state = model.steps(e, start, { from: 0, to: 3 }, pass);
    const logits = model.readout(state, pass);
    read.push(Float32Array.from(await logits.data()));
    for (const owner of [token, e, start, state, logits, pass]) owner.dispose();
  }
  cache.dispose();
  model.rope.dispose();
  return read;
}

it.each(['full', 'latest-m4', 'skip', 'always-last-m4', 'last-only', 'compress-s2', 'compress-r2', 'compress-anchor'])(
  'recorded, in fused or in single operations, decoding has the bits of direct calls under %s',
  async (policy) => {
    const direct = await decode({ block }, policy);
    expect(await decode({}, policy)).toEqual(direct);
    expect(await decode({ block, recordable: true }, policy)).toEqual(direct);
  },
);

it('records each part once, however often the pool of keys grows', async () => {
  const model = new RecurrentModel(device, config, params);
  const cache = model.createCache();
  const recorded = vi.spyOn(device, 'record');
  const pools = new Set<number>();
  for (let at = 0; at < 60; at++) {
    const pass = cache.begin(Int32Array.of(at));
    const token = device.tensor([at % 24], [1, 1], { dtype: 'i32' });
    const e = model.prelude(token, pass);
    const start = model.initialState(pass, { seed: 4 });
    const state = model.steps(e, start, { from: 0, to: 3 }, pass);
    const logits = model.readout(state, pass);
    pools.add(cache.usage().allocatedBytes);
    for (const owner of [token, e, start, state, logits, pass]) owner.dispose();
  }
  expect(pools.size).toBeGreaterThan(3);
  expect(recorded).toHaveBeenCalledTimes(3);
  recorded.mockRestore();
  cache.dispose();
  model.rope.dispose();
});

it('records nothing for parts of a model of its own unless told so', () => {
  const recorded = (parts: Partial<RecurrentParts>) => {
    const model = new RecurrentModel(device, config, params, parts);
    const { recordable } = model.parts;
    model.rope.dispose();
    return recordable;
  };
  expect([recorded({}), recorded({ block }), recorded({ block, recordable: true })]).toEqual([true, false, true]);
});
