import { ignoreTarget, type RecurrentModel, type TrainingDepth, trainingLoss } from '@unroll/recurrent';
import { forEachTensor, grad, type Tensor } from '@unroll/tensor';

/**
 * The gradient, by parameter name, of the mean next-token cross-entropy of the rows after n recurrences without and k with gradient. The
 * caller disposes it.
 */
export function gradientsOf(
  model: RecurrentModel,
  rows: readonly (readonly number[])[],
  initialState: Tensor,
  depth: TrainingDepth,
): Map<string, Tensor> {
  const tokens = Int32Array.from(rows.flat());
  const targets = Int32Array.from(rows.flatMap((row) => [...row.slice(1), ignoreTarget]));
  const grads = grad(() => trainingLoss(model, { batch: rows.length, tokens, targets }, { ...depth, initialState }), model.params);
  const named = new Map<string, Tensor>();
  forEachTensor(grads, (tensor, path) => named.set(path, tensor));
  return named;
}

/** |actual - expected| / |expected|, as L2 norms; of two zeros 0. */
export function relativeDistance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let distance = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    distance += (actual[i]! - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  return distance === 0 ? 0 : Math.sqrt(distance / size);
}
