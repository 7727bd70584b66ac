import { type LayerCall, linear, type Pass } from '@unroll/nn';
import { addNormMatmul, addRmsNorm, gatedMatmul, normMatmul, reshape, type Tensor } from '@unroll/tensor';
import { headDim } from './config.js';
import type { RecurrentModel } from './model.js';
import type { BlockParams } from './params.js';

/**
 * The sandwich blocks of a part, one after the other, over one new token of each sequence: what `sandwichBlock` computes, on the CPU bit for
 * bit, in six operations a block. The residual sum and norm that end a block are one operation with the norm and product that begin the next.
 */
export function fusedBlocks(
  model: RecurrentModel,
  blocks: readonly BlockParams[],
  input: Tensor,
  call: Omit<LayerCall, 'layer'>,
  attend: NonNullable<Pass['attend']>,
): Tensor {
  const { heads, kvHeads, normEps: eps } = model.config;
  const D = headDim(model.config);
  let x = input;
  // The residual sum of the block before, not taken yet: z = norm_4(y + m).
  let open: { readonly y: Tensor; readonly m: Tensor; readonly norm: Tensor } | undefined;
  blocks.forEach(({ norm_1, norm_2, norm_3, norm_4, attn, mlp }, layer) => {
    let qkv: Tensor;
    if (open === undefined) qkv = normMatmul(x, norm_1.weight, attn.Wqkv.weight, { eps });
    else [qkv, x] = addNormMatmul(open.y, open.m, open.norm, norm_1.weight, attn.Wqkv.weight, { eps });
    const bias = attn.qk_bias === undefined ? undefined : reshape(attn.qk_bias, [heads + kvHeads, D]);
    const mixed = attend({ ...call, layer }, qkv, { heads, table: model.rope, bias });
    const attended = linear(attn.proj, reshape(mixed, [...x.shape.slice(0, -1), heads * D]));
    const [y, h] = addRmsNorm(x, attended, [norm_2.weight, norm_3!.weight], { eps });
    open = { y, m: linear(mlp.proj, gatedMatmul(h, mlp.fc.weight)), norm: norm_4!.weight };
  });
  return open === undefined ? x : addRmsNorm(open.y, open.m, [open.norm], { eps })[0];
}
