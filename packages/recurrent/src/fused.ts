import { type LayerCall, linear, type Pass } from '@unroll/nn';
import { addNormGatedMatmul, addNormMatmul, addRmsNorm, gatedMatmul, normMatmul, reshape, type Tensor } from '@unroll/tensor';
import { headDim } from './config.js';
import type { RecurrentModel } from './model.js';
import type { BlockParams } from './params.js';

/**
 * Up to this width the norms before an MLP are taken into its first product. Each few columns then read four rows of the width instead of
 * one beside their weights, which costs less than an operation of its own while such rows are short.
 */
const narrow = 1024;

/**
 * The sandwich blocks of a part, one after the other, over one new token of each sequence: what `sandwichBlock` computes, on the CPU bit for
 * bit, in six operations a block, five in narrow models and where a part is one block. The residual sum and norm that end a block are one operation with the norm and product that begin the next.
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
  // A core of one block has the adapter and its last norm to itself: with six operations beside them it would have eight.
  const joined = model.config.width <= narrow || blocks.length === 1;
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
    let [y, inner]: [Tensor, Tensor] = [x, x];
    if (joined) [inner, y] = addNormGatedMatmul(x, attended, norm_2.weight, norm_3!.weight, mlp.fc.weight, { eps });
    else {
      const [sum, normed] = addRmsNorm(x, attended, [norm_2.weight, norm_3!.weight], { eps });
      [inner, y] = [gatedMatmul(normed, mlp.fc.weight), sum];
    }
    open = { y, m: linear(mlp.proj, inner), norm: norm_4!.weight };
  });
  return open === undefined ? x : addRmsNorm(open.y, open.m, [open.norm], { eps })[0];
}
