import { gatedMlp, type LayerCall, type Pass } from '@unroll/nn';
import { add, mul, rmsNorm, type Tensor } from '@unroll/tensor';
import type { RecurrentModel } from '../model.js';
import type { BlockParams } from '../params.js';
import { selfAttention } from './attention.js';

/** The block of Ouro (arXiv 2510.25741): norms before attention and MLP and behind them, on the branch. */
export function ouroBlock(model: RecurrentModel, params: BlockParams, x: Tensor, call: LayerCall, pass: Pass): Tensor {
  const norm = (weights: { weight: Tensor }, input: Tensor) => rmsNorm(input, weights.weight, { eps: model.config.normEps });
  const y = add(x, norm(params.norm_2, selfAttention(model, params.attn, norm(params.norm_1, x), call, pass, 'half')));
  return add(y, norm(params.norm_4!, gatedMlp(params.mlp, norm(params.norm_3!, y))));
}

/**
 * What Ouro's first loop sees is the embedding, what later ones see is the state. The state before the first loop is an offset from the
 * embedding: zeros, unless a caller gives another.
 */
export function embeddingAtFirst(model: RecurrentModel, state: Tensor, e: Tensor, loop: number | readonly number[]): Tensor {
  if (typeof loop === 'number') return loop === 0 ? add(state, e) : state;
  if (loop.every((one) => one > 0)) return state;
  const first = model.device.tensor(
    loop.map((one) => Number(one === 0)),
    [loop.length, 1, 1],
  );
  return add(state, mul(e, first));
}
