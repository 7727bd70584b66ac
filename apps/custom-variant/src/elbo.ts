import { unrollBatch } from '@unroll/recurrent';
import { add, affine, concat, exp, logSumExp, mul, neg, OptionError, reshape, sub, sum, type Tensor, tidy } from '@unroll/tensor';
import type { Objective } from '@unroll/train';

// #region distribution
/**
 * log p_t (..., r) of ending at loop t = 1 ... r, from the gate's logits x_t, (..., 1) for each loop. The gate stops with l_t = sigmoid(x_t),
 * so p_t = l_t (1 - l_1) ... (1 - l_{t-1}); the last loop takes what is left: p_r = (1 - l_1) ... (1 - l_{r-1}).
 */
export function logExitDistribution(logits: readonly Tensor[]): Tensor {
  const [first] = logits;
  if (first === undefined) throw new OptionError('logExitDistribution: needs the gate at one loop at least');
  return tidy(first.device, () => {
    // log(1 - l) = -log(e^0 + e^x), which is exact where 1 - l would be rounded to 0; and log l = x + log(1 - l).
    const logStay = (x: Tensor) => neg(logSumExp(concat([sub(x, x), x], -1), { axis: -1, keepDims: true }));
    let left: Tensor = affine(first, { scale: 0 });
    const each = logits.map((x, t) => {
      if (t === logits.length - 1) return left;
      const stay = logStay(x);
      const here = add(left, add(x, stay));
      left = add(left, stay);
      return here;
    });
    return concat(each, -1);
  });
}
// #endregion distribution

// #region losses
/**
 * sum_t p_t CE_t - beta H(p) at each token: the expected cross-entropy, less a reward for not being sure where to end. Up to a constant
 * it is the ELBO with a uniform prior over the loops. `entropies` (..., r) has CE_t, `logP` (..., r) has log p_t.
 */
export const elboLosses = (entropies: Tensor, logP: Tensor, beta: number): Tensor =>
  tidy(entropies.device, () => sum(mul(exp(logP), add(entropies, affine(logP, { scale: beta }))), { axis: -1 }));

/** Ouro's first stage (arXiv 2510.25741): model and gate are trained at once, with a readout behind every loop. */
export function elbo(beta: number): Objective {
  if (!(beta >= 0 && Number.isFinite(beta))) throw new OptionError(`elbo: beta must be a number from 0; got ${beta}`);
  return {
    name: `elbo ${beta}`,
    losses(model, batch, options) {
      if (options.n > 0)
        throw new OptionError(`elbo: every loop needs its gradient; got n = ${options.n}, so set depth.gradient to the depth`);
      return unrollBatch(model, batch, options, ({ states, entropy, counted }) => {
        const loops = states.slice(1);
        const each = loops.map(entropy);
        const [B, T] = each[0]!.shape as [number, number];
        const entropies = concat(
          each.map((one) => reshape(one, [B, T, 1])),
          -1,
        );
        const logP = logExitDistribution(loops.map((state) => model.exitLogits(state)));
        // H(p) is not 0 where the target is ignored.
        return { minimised: mul(elboLosses(entropies, logP, beta), counted()), crossEntropy: each[each.length - 1]! };
      });
    },
  };
}
// #endregion losses
