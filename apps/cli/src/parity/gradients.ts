import { beginPass, type RecurrentModel } from '@unroll/recurrent';
import { crossEntropy, forEachTensor, mul, sum, type Tensor, tidy, valueAndGrad, withoutGradient } from '@unroll/tensor';

export interface GradientRun {
  /** Recurrences without and with gradient. */
  readonly n: number;
  readonly k: number;
}

/**
 * Mean next-token cross-entropy of the rows after n recurrences without and k with gradient, and its gradient by parameter name. The
 * caller disposes the gradients.
 */
export function gradientsOf(
  model: RecurrentModel,
  rows: readonly (readonly number[])[],
  state0: Tensor,
  { n, k }: GradientRun,
): Map<string, Tensor> {
  const { device } = model;
  const { grads } = tidy(device, () =>
    valueAndGrad((): Tensor => {
      const { pass, input } = beginPass(model, rows, {});
      try {
        const e = model.prelude(input, pass);
        let state = withoutGradient(device, () =>
          tidy(device, () => {
            let here = state0;
            for (let loop = 0; loop < n; loop++) {
              const next = model.step(e, here, loop, pass);
              if (here !== state0) here.dispose();
              here = next;
            }
            return here;
          }),
        );
        for (let loop = n; loop < n + k; loop++) state = model.step(e, state, loop, pass);
        const logits = model.readout(state, pass);
        const ignoreIndex = -1;
        const labels = rows.flatMap((row) => [...row.slice(1), ignoreIndex]);
        const targets = device.tensor(labels, logits.shape.slice(0, -1), { dtype: 'i32' });
        const weight = device.tensor([1 / (labels.length - rows.length)], []);
        return mul(sum(crossEntropy(logits, targets, { ignoreIndex })), weight);
      } finally {
        pass.dispose();
      }
    }, model.params),
  );
  const named = new Map<string, Tensor>();
  forEachTensor(grads, (grad, path) => named.set(path, grad));
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
