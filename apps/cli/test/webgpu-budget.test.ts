import { readFileSync } from 'node:fs';
import { type EmbeddedName, loadEmbedded } from '@unroll/pretrained';
import { parameterShapes, paramsFromNames, parseRecurrentConfig, RecurrentModel, type WeightDType } from '@unroll/recurrent';
import type { Tensor } from '@unroll/tensor';
import { createWebGPUDevice, type GpuLike, type WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SHARED_FIXTURES } from './support.js';

// Dawn without a driver computes nothing and counts alike.
let device: WebGPUDevice;
beforeAll(async () => {
  const { create } = await import('webgpu');
  device = await createWebGPUDevice({ gpu: create(['backend=null']) as unknown as GpuLike });
  // As adapters have; with the eight of this one, biases of q and k take a dispatch of their own.
  device.traits = { ...device.traits, storageBuffers: 10 };
});
afterAll(() => device.dispose());

const dispatchesOf = (f: () => void) => {
  const before = device.stats().dispatches;
  f();
  return device.stats().dispatches - before;
};

/** A model of zeros. */
function modelOf(config: unknown, dtype: WeightDType): RecurrentModel {
  const parsed = parseRecurrentConfig(config);
  const zeros = [...parameterShapes(parsed)].map(([name, shape]): [string, Tensor] => [
    name,
    device.zeros(shape, { dtype: shape.length === 2 ? dtype : 'f32', memory: 'weights' }),
  ]);
  return new RecurrentModel(device, parsed, paramsFromNames(new Map(zeros)));
}

/** Dispatches of a core step for one new token, replayed, by block. */
function ofBlock(model: RecurrentModel): number {
  const cache = model.createCache();
  const pass = cache.begin(Int32Array.of(0));
  const [e, state] = [model.device.zeros([1, 1, model.config.width]), model.device.zeros([1, 1, model.config.width])] as [Tensor, Tensor];
  const run = (loops: number) => model.steps(e, state, { from: 0, to: loops }, pass).dispose();
  run(4);
  const [four, three] = [4, 3].map((loops) => dispatchesOf(() => run(loops))) as [number, number];
  for (const owner of [e, state, pass, cache]) owner.dispose();
  return (four - three) / model.config.coreLayers;
}

const shape = (n_embd: number, heads: number, layers: number) => ({
  n_embd,
  n_heads: heads,
  intermediate_size: 64,
  vocab_size: 24,
  block_size: 64,
  n_layers_in_prelude: 1,
  n_layers_in_recurrent_block: layers,
  n_layers_in_coda: 1,
  mean_recurrence: 4,
  norm_eps: 1e-6,
  tie_embeddings: true,
  qk_bias: true,
});

const configs = async (): Promise<[string, unknown][]> => [
  ...(await Promise.all(
    (['adder', 'reckoner'] as EmbeddedName[]).map(async (name): Promise<[string, unknown]> => [name, (await loadEmbedded(name)).config]),
  )),
  ...SHARED_FIXTURES.map((folder): [string, unknown] => [folder, JSON.parse(readFileSync(`${folder}/config.json`, 'utf8'))]),
];

describe('a block of a core step takes at most seven dispatches', () => {
  it.each(['f32', 'f16', 'bf16', 'q8', 'q4'] as const)('of the embedded models and the fixtures, in %s', async (dtype) => {
    const counts: [string, number][] = [];
    for (const [name, config] of await configs()) {
      const model = modelOf(config, dtype);
      counts.push([name, ofBlock(model)]);
      model.dispose();
    }
    expect(counts.filter(([, count]) => !(count <= 7))).toEqual([]);
  });

  it.each([
    [1, 7],
    [4, 6.5],
  ])('of a wide model with %i core layers, exactly %f', (layers, count) => {
    for (const dtype of ['f32', 'f16', 'q8'] as const) {
      const model = modelOf(shape(1088, 17, layers), dtype);
      expect(ofBlock(model)).toBe(count);
      model.dispose();
    }
  });
});
