import { gatedMlp, type LayerCall, type Pass } from '@unroll/nn';
import { add, rmsNorm, type Tensor } from '@unroll/tensor';
import type { RecurrentModel } from '../model.js';
import type { BlockParams } from '../params.js';
import { selfAttention } from './attention.js';

/** The block of OLMo-2, which its retrofit keeps (arXiv 2511.07384): norms behind attention and MLP, on the branch, and norms of q and k. */
export function olmo2Block(model: RecurrentModel, params: BlockParams, x: Tensor, call: LayerCall, pass: Pass): Tensor {
  const norm = (weights: { weight: Tensor }, input: Tensor) => rmsNorm(input, weights.weight, { eps: model.config.normEps });
  const y = add(x, norm(params.norm_1, selfAttention(model, params.attn, x, call, pass, 'half')));
  return add(y, norm(params.norm_2, gatedMlp(params.mlp, y)));
}
