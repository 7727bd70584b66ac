import { initModel, type ModelFamily, parseRecurrentConfig, type RecurrentModel } from '@unroll/recurrent';
import { type Device, forEachTensor, type Tensor } from '@unroll/tensor';
import type { CpuDevice } from '@unroll/tensor/cpu';
import { Generate } from '@unroll/tensor/testing';
import type { PlainSizes, Rows, Weights } from './plain.js';

export const sizes: PlainSizes = { C: 16, H: 2, I: 12, V: 24, eps: 1e-6, ropeBase: 2000, core: 2, coda: 1 };

const configOf = ({ C, H, I, V, eps, ropeBase, core, coda }: PlainSizes) =>
  parseRecurrentConfig({
    n_embd: C,
    num_attention_heads: H,
    intermediate_size: I,
    vocab_size: V,
    block_size: 64,
    rope_base: ropeBase,
    norm_eps: eps,
    tie_embeddings: true,
    qk_bias: false,
    n_layers_in_prelude: 0,
    n_layers_in_recurrent_block: core,
    n_layers_in_coda: coda,
    mean_recurrence: 4,
    mean_backprop_depth: 4,
  });

/** A model with random weights; norms, gates and biases random too, so that a forgotten one shows. */
export function randomModel(device: Device, family: ModelFamily, of: PlainSizes = sizes, seed = 5): RecurrentModel {
  const model = initModel(device, configOf(of), { seed, family });
  const generate = new Generate(seed);
  forEachTensor(model.params, (tensor, name) => {
    const spread = Math.sqrt(3 / tensor.shape[tensor.shape.length - 1]!);
    const [low, high] = name.endsWith('bias') ? [-0.5, 0.5] : tensor.shape.length === 1 ? [0.5, 1.5] : [-spread, spread];
    // The embedding is the tied head, and is multiplied by sqrt(C): small, or one token has all the probability.
    const scale = name.includes('wte') ? 0.3 : 1;
    device.write(
      tensor,
      (generate.f32([...tensor.shape], low, high).data as Float32Array).map((x) => x * scale),
    );
  });
  return model;
}

const valuesOf = (tensor: Tensor) => (tensor.device as CpuDevice).readSync(tensor);

/** What the plain models take. */
export function weightsOf(model: RecurrentModel): Map<string, Float64Array> {
  const weights = new Map<string, Float64Array>();
  forEachTensor(model.params, (tensor, name) => weights.set(name, Float64Array.from(valuesOf(tensor))));
  return weights;
}

export function read(tensor: Tensor): Float32Array {
  const data = Float32Array.from(valuesOf(tensor));
  tensor.dispose();
  return data;
}

/** A random (T, C), as numbers and as the model takes it. */
export function randomState(device: Device, T: number, C: number): { rows: Rows; tensor: Tensor } {
  const data = new Generate(9).f32([1, T, C], -1, 1).data as Float32Array;
  return {
    rows: Array.from({ length: T }, (_, t) => Array.from(data.subarray(t * C, (t + 1) * C))),
    tensor: device.tensor(data, [1, T, C]),
  };
}

/** Largest difference. */
export const worst = (actual: ArrayLike<number>, expected: ArrayLike<number>): number => {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  return Array.from(actual, (x, i) => Math.abs(x - expected[i]!)).reduce((most, x) => Math.max(most, x), 0);
};

/**
 * Compares gradients with central differences of a float64 loss, at some places of every parameter: the largest deviation, relative to the
 * largest slope of that parameter, and its name.
 */
export function compareSlopes(
  grads: unknown,
  weights: Weights,
  loss: (weights: Weights) => number,
  places = 4,
): { readonly worst: number; readonly name: string; readonly parameters: number } {
  const generate = new Generate(2);
  let found = { worst: 0, name: '', parameters: 0 };
  forEachTensor(grads, (tensor, name) => {
    const slopes = valuesOf(tensor) as Float32Array;
    const values = weights.get(name)!;
    const largest = slopes.reduce((best, x, i) => (Math.abs(x) > Math.abs(slopes[best]!) ? i : best), 0);
    let most = Math.abs(slopes[largest]!);
    let deviation = 0;
    for (const place of [largest, ...Array.from({ length: places - 1 }, () => generate.int(0, slopes.length - 1))]) {
      const was = values[place]!;
      const at = (by: number) => {
        values[place] = was + by;
        return loss(weights);
      };
      const slope = (at(1e-5) - at(-1e-5)) / 2e-5;
      values[place] = was;
      most = Math.max(most, Math.abs(slope));
      deviation = Math.max(deviation, Math.abs(slope - slopes[place]!));
    }
    const relative = deviation / most;
    found = {
      parameters: found.parameters + 1,
      ...(relative <= found.worst ? { worst: found.worst, name: found.name } : { worst: relative, name }),
    };
  });
  return found;
}
