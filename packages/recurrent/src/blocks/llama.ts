import { gatedMlp, type LayerCall, type Pass } from '@unroll/nn';
import { add, rmsNorm, type Tensor } from '@unroll/tensor';
import type { RecurrentModel } from '../model.js';
import type { BlockParams } from '../params.js';
import { selfAttention } from './attention.js';

/** The block of Llama, which retrofits of Llama and TinyLlama keep (arXiv 2511.07384): norms before attention and MLP, half-split rotary pairs. */
export function llamaBlock(model: RecurrentModel, params: BlockParams, x: Tensor, call: LayerCall, pass: Pass): Tensor {
  const norm = (weights: { weight: Tensor }, input: Tensor) => rmsNorm(input, weights.weight, { eps: model.config.normEps });
  const y = add(x, selfAttention(model, params.attn, norm(params.norm_1, x), call, pass, 'half'));
  return add(y, gatedMlp(params.mlp, norm(params.norm_2, y)));
}
