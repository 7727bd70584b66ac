import { type LayerCall, linear, type Pass } from '@unroll/nn';
import { add, attention, concat, type RopeLayout, reshape, rmsNorm, rope, split, type Tensor } from '@unroll/tensor';
import { headDim } from '../config.js';
import type { RecurrentModel } from '../model.js';
import type { BlockParams } from '../params.js';

/**
 * Causal self-attention of x (B, T, C) over what the pass may read, with q and k biases or norms where the parameters have them, and
 * rotary positions in either layout. H heads of queries share Hk heads of keys.
 */
export function selfAttention(
  model: RecurrentModel,
  params: BlockParams['attn'],
  x: Tensor,
  call: LayerCall,
  pass: Pass,
  layout: RopeLayout = 'interleaved',
): Tensor {
  const { heads: H, kvHeads: Hk } = model.config;
  const D = headDim(model.config);
  const [B, T] = [pass.batch, pass.length];
  // Queries and keys lie side by side and are treated alike: together they take half the calls.
  const [qk0, v0] = split(linear(params.Wqkv, x), -1, [(H + Hk) * D, Hk * D]) as [Tensor, Tensor];
  const byHead = reshape(normed(model, params, qk0), [B, T, H + Hk, D]);
  const biased = params.qk_bias === undefined ? byHead : add(byHead, reshape(params.qk_bias, [H + Hk, D]));
  const [q, k] = split(rope(biased, model.rope, pass.positionTensor, { layout }), 2, [H, Hk]) as [Tensor, Tensor];
  const keys = pass.keys(call, k, reshape(v0, [B, T, Hk, D]));
  const mixed = attention(q, keys.k, keys.v, keys.keyRows, keys.visible);
  return linear(params.proj, reshape(mixed, [B, T, H * D]));
}

/** q and k (B, T, (H + Hk) D) with their norms, each over all of its heads. */
function normed(model: RecurrentModel, { q_norm, k_norm }: BlockParams['attn'], qk: Tensor): Tensor {
  if (q_norm === undefined || k_norm === undefined) return qk;
  const [q, k] = split(qk, -1, [q_norm.weight.size, k_norm.weight.size]) as [Tensor, Tensor];
  const { normEps: eps } = model.config;
  return concat([rmsNorm(q, q_norm.weight, { eps }), rmsNorm(k, k_norm.weight, { eps })], -1);
}
