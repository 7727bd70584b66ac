import { gatedMlp, type LayerCall, type Pass } from '@unroll/nn';
import { add, rmsNorm, type Tensor } from '@unroll/tensor';
import type { RecurrentModel } from '../model.js';
import type { BlockParams } from '../params.js';
import { selfAttention } from './attention.js';

/** The block of Huginn (arXiv 2502.05171, section 3.2): the norms behind attention and MLP sit on the residual sum. */
export function sandwichBlock(model: RecurrentModel, params: BlockParams, x: Tensor, call: LayerCall, pass: Pass): Tensor {
  const norm = (weights: { weight: Tensor }, input: Tensor) => rmsNorm(input, weights.weight, { eps: model.config.normEps });
  const y = norm(params.norm_2, add(x, selfAttention(model, params.attn, norm(params.norm_1, x), call, pass)));
  return norm(params.norm_4!, add(y, gatedMlp(params.mlp, norm(params.norm_3!, y))));
}
