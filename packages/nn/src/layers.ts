import { affine, gatherRows, matmul, reshape, siluMul, type Tensor } from '@unroll/tensor';

export interface Weight {
  readonly weight: Tensor;
}

/** x (..., K) times weight (N, K) -> (..., N); no bias. */
export function linear({ weight }: Weight, x: Tensor): Tensor<'f32'> {
  const width = x.shape[x.shape.length - 1]!;
  const rows = reshape(x, [x.size / Math.max(1, width), width]);
  const y = matmul(rows, weight, { transposeB: true });
  return reshape(y, [...x.shape.slice(0, -1), weight.shape[0]!]);
}

/** Rows of weight (V, C) for tokens (...) i32, times `scale` -> (..., C). */
export function embedding({ weight }: Weight, tokens: Tensor, scale = 1): Tensor<'f32'> {
  const rows = gatherRows(weight as Tensor<'f32'>, tokens);
  return scale === 1 ? rows : affine(rows, { scale });
}

/** proj(silu(gate) * up), with gate and up rows fused in fc (2 I, C), gate first: (..., C) -> (..., C). */
export function gatedMlp(params: { readonly fc: Weight; readonly proj: Weight }, x: Tensor): Tensor<'f32'> {
  return linear(params.proj, siluMul(linear(params.fc, x)));
}
