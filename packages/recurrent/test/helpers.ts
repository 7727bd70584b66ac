import { type Device, forEachTensor, type Tensor } from '@unroll/tensor';
import { Generate } from '@unroll/tensor/testing';
import { parameterShapes, paramsFromNames, type RecurrentConfig, RecurrentModel } from '../src/index.js';

export const tinyConfig: RecurrentConfig = {
  vocabularySize: 23,
  contextLength: 32,
  width: 24,
  heads: 3,
  kvHeads: 3,
  mlpWidth: 20,
  preludeLayers: 1,
  coreLayers: 2,
  codaLayers: 1,
  meanRecurrence: 4,
  meanBackpropDepth: 2,
  normEps: 1e-6,
  ropeBase: 50000,
  tiedHead: true,
  qkBias: true,
};

/** The public layout's config.json of a config. */
export function configJson(config: RecurrentConfig): Record<string, unknown> {
  return {
    n_embd: config.width,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    intermediate_size: config.mlpWidth,
    vocab_size: config.vocabularySize,
    block_size: config.contextLength,
    n_layers_in_prelude: config.preludeLayers,
    n_layers_in_recurrent_block: config.coreLayers,
    n_layers_in_coda: config.codaLayers,
    mean_recurrence: config.meanRecurrence,
    mean_backprop_depth: config.meanBackpropDepth,
    norm_eps: config.normEps,
    rope_base: config.ropeBase,
    tie_embeddings: config.tiedHead,
    qk_bias: config.qkBias,
  };
}

/** Random weights by name, norms and biases random too, so that a forgotten one shows. */
export function randomWeights(config: RecurrentConfig, seed = 1): Map<string, { shape: readonly number[]; data: Float32Array }> {
  const generate = new Generate(seed);
  const weights = new Map<string, { shape: readonly number[]; data: Float32Array }>();
  for (const [name, shape] of parameterShapes(config)) {
    const spread = shape.length === 1 ? 0 : name.endsWith('qk_bias') ? 0.5 : Math.sqrt(3 / shape[shape.length - 1]!);
    const { data } = shape.length === 1 ? generate.f32(shape, 0.5, 1.5) : generate.f32(shape, -spread, spread);
    weights.set(name, { shape, data: data as Float32Array });
  }
  return weights;
}

export function tinyModel(device: Device, config: RecurrentConfig = tinyConfig, seed = 1): RecurrentModel {
  const tensors = new Map<string, Tensor>();
  for (const [name, { shape, data }] of randomWeights(config, seed)) tensors.set(name, device.tensor(data, shape, { memory: 'weights' }));
  return new RecurrentModel(device, config, paramsFromNames(tensors));
}

export function namesOf(tree: unknown): string[] {
  const names: string[] = [];
  forEachTensor(tree, (_, path) => names.push(path));
  return names;
}

/** Largest difference, and where. */
export function worst(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let most = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= most)) most = difference;
  }
  return most;
}
