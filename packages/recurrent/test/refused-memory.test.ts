import { disposeTree, valueAndGrad } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { findLeaks } from '@unroll/tensor/testing';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import {
  forward,
  initModel,
  latentStates,
  loadRecurrentModel,
  parameterShapes,
  parseRecurrentConfig,
  type RecurrentModel,
  trainingLoss,
} from '../src/index.js';

// Where a device has no room, whoever asked is told, and nothing stays behind: the next, smaller try must have all of the memory.

vi.setConfig({ testTimeout: 120_000 });
const device = createCpuDevice({ threads: 1 });
const json = {
  n_embd: 8,
  n_heads: 2,
  intermediate_size: 12,
  vocab_size: 16,
  block_size: 32,
  n_layers_in_prelude: 1,
  n_layers_in_recurrent_block: 1,
  n_layers_in_coda: 1,
  mean_recurrence: 2,
  norm_eps: 1e-6,
  tie_embeddings: true,
  qk_bias: true,
};
const config = parseRecurrentConfig(json);
let model: RecurrentModel;
beforeAll(() => {
  model = initModel(device, config, { seed: 1 });
});
afterAll(() => {
  model.dispose();
  expect(device.memory().buffers).toBe(0);
  device.dispose();
});

const rows = [
  [1, 2, 3],
  [4, 5, 6],
];

it.each<[string, () => unknown]>([
  ['initModel', () => initModel(device, config, { seed: 2 }).dispose()],
  [
    'loadRecurrentModel',
    async () => {
      const entries = new Map([...parameterShapes(config)].map(([name, shape]) => [name, { dtype: 'F32', shape }]));
      const read = async (name: string) => new Uint8Array(4 * entries.get(name)!.shape.reduce((product, n) => product * n, 1));
      (await loadRecurrentModel({ device, config: json, weights: { name: 'zeros', entries, read } })).dispose();
    },
  ],
  ['forward', () => forward(model, rows, { recurrences: 2 }).dispose()],
  [
    'forward with a cache',
    () => {
      const cache = model.createCache({ use: 'mixed-depth' });
      try {
        for (let i = 0; i < 3; i++) forward(model, [[i]], { recurrences: 2 + i, cache }).dispose();
      } finally {
        cache.dispose();
      }
    },
  ],
  [
    'latentStates',
    async () => {
      for await (const _ of latentStates(model, rows, { recurrences: 2 }));
    },
  ],
  [
    'a gradient',
    () => {
      const batch = { batch: 1, tokens: Int32Array.of(1, 2, 3), targets: Int32Array.of(2, 3, 4) };
      disposeTree(valueAndGrad(() => trainingLoss(model, batch, { n: 1, k: 1, recompute: true }), model.params));
    },
  ],
])('%s gives everything back, whichever allocation is refused', async (_, f) => {
  expect(await findLeaks(device, f)).toEqual([]);
});
