import { apply, apply1, defineOp, expectDTypes, type HostOperand, type Spec } from '../op.js';
import type { Tensor } from '../tensor.js';
import { Scratch } from '../webgpu/kernel.js';
import { addRmsNormOp, checkAddNorm, normRows } from './add-rms-norm.js';
import { fusedDot } from './dot-wgsl.js';
import { multiplyWeight, rowsByMatrix, seenRows } from './matmul.js';
import { matmulWgsl } from './matmul-wgsl.js';
import { normedSamples } from './norm-samples.js';
import { rmsNormOp, rmsNormWgsl } from './rms-norm.js';

interface NormMatmulAttrs {
  readonly eps: number;
}

const layout = { batch: 1, sharedB: true, transposeA: false, transposeB: true } as const;

/** y (M, N) = x (M, K) times b (N, K), in plain loops. */
function multiply(
  x: ArrayLike<number>,
  b: HostOperand,
  y: { [i: number]: number },
  { M, K, N }: { M: number; K: number; N: number },
): void {
  const rows = seenRows(x, b, M, K);
  for (let i = 0; i < M * N; i++) {
    let sum = 0;
    for (let k = 0; k < K; k++) sum += rows[Math.floor(i / N) * K + k]! * b.data[(i % N) * K + k]!;
    y[i] = sum;
  }
}

const rowsAndColumns = (rows: Spec, N: number): Spec => ({ shape: [...rows.shape.slice(0, -1), N], dtype: 'f32' });

export const normMatmulOp = defineOp<NormMatmulAttrs>({
  name: 'normMatmul',
  weight: 2,
  infer(inputs, attrs) {
    expectDTypes('normMatmul', inputs, ['f32', 'f32', 'f32'], 2);
    const [x, w, b] = inputs as [Spec, Spec, Spec];
    rmsNormOp.infer([x, w], attrs);
    return [rowsAndColumns(x, rowsByMatrix('normMatmul', x, b).N)];
  },
  reference([x, w, b], { eps }, [y]) {
    const normed = new Float64Array(x!.data.length);
    normRows(x!.data, w!.data, normed, eps);
    multiply(normed, b!, y!.data, rowsByMatrix('normMatmul', x!, b!));
  },
  cpu(c, [x, w, b], { eps }, [y]) {
    if (y!.size === 0) return;
    const { M, K, N } = rowsByMatrix('normMatmul', x!, b!);
    const normed = c.scratch(M * K * 4);
    c.kernels.rmsNorm(c.at(x!), c.at(w!), normed, K, eps, 0, M);
    multiplyWeight(c, normed, b!, c.at(y!), M, K, N);
  },
  wgsl([x, w, b], { eps }, [y], traits) {
    if (y!.size === 0) return [];
    const { M, K, N } = rowsByMatrix('normMatmul', x!, b!);
    const fused = fusedDot({ left: 'norm', inputs: [x!, w!], b: b!, c: y!, M, N, K, eps }, traits);
    if (fused !== undefined) return fused;
    const normed = new Scratch(Math.max(4, M * K * 4));
    return [...rmsNormWgsl(x!, w!, normed, M, eps, traits), ...matmulWgsl({ ...layout, M, K, N }, normed, b!, y!, traits)];
  },
  vjp: 'it keeps no normed rows; for a gradient use matmul(rmsNorm(x, weight), b, { transposeB: true })',
  samples: (g) => normedSamples(g, { sum: false }),
});

/** matmul(rmsNorm(x, weight), b) for x (..., K), weight (K) and b (N, K) -> (..., N). */
export function normMatmul(x: Tensor, weight: Tensor, b: Tensor, { eps }: { readonly eps: number }): Tensor<'f32'> {
  return apply1(normMatmulOp, [x, weight, b], { eps }) as Tensor<'f32'>;
}

export const addNormMatmulOp = defineOp<NormMatmulAttrs>({
  name: 'addNormMatmul',
  weight: 4,
  infer(inputs, { eps }) {
    expectDTypes('addNormMatmul', inputs, ['f32', 'f32', 'f32', 'f32', 'f32'], 4);
    checkAddNorm('addNormMatmul', inputs.slice(0, 4), eps);
    return [rowsAndColumns(inputs[0]!, rowsByMatrix('addNormMatmul', inputs[0]!, inputs[4]!).N), inputs[0]!];
  },
  reference([a, r, w0, w, b], { eps }, [y, z]) {
    const normed = { ...a!, data: new Float32Array(a!.data.length) };
    addRmsNormOp.reference([a!, r!, w0!, w!], { eps }, [z!, normed]);
    multiply(normed.data, b!, y!.data, rowsByMatrix('addNormMatmul', a!, b!));
  },
  cpu(c, [a, r, w0, w, b], { eps }, [y, z]) {
    const { M, K, N } = rowsByMatrix('addNormMatmul', a!, b!);
    addRmsNormOp.cpu(c, [a!, r!, w0!], { eps }, [z!]);
    if (y!.size === 0) return;
    const normed = c.scratch(M * K * 4);
    c.kernels.rmsNorm(c.at(z!), c.at(w!), normed, K, eps, 0, M);
    multiplyWeight(c, normed, b!, c.at(y!), M, K, N);
  },
  wgsl([a, r, w0, w, b], { eps }, [y, z], traits) {
    const { M, K, N } = rowsByMatrix('addNormMatmul', a!, b!);
    const fused =
      y!.size === 0 ? undefined : fusedDot({ left: 'addNorm', inputs: [a!, r!, w0!, w!], b: b!, c: y!, z: z!, M, N, K, eps }, traits);
    if (fused !== undefined) return fused;
    const sum = addRmsNormOp.wgsl([a!, r!, w0!], { eps }, [z!], traits);
    if (y!.size === 0) return sum;
    const normed = new Scratch(Math.max(4, M * K * 4));
    return [...sum, ...rmsNormWgsl(z!, w!, normed, M, eps, traits), ...matmulWgsl({ ...layout, M, K, N }, normed, b!, y!, traits)];
  },
  vjp: 'it keeps no normed rows; for a gradient use rmsNorm, add and matmul',
  samples: (g) => normedSamples(g, { sum: true }),
});

/**
 * [matmul(rmsNorm(z, weight), b), z] with z = rmsNorm(x + y, outer): the residual sum that ends a block and the norm and product that begin
 * the next. x and y (..., K), weights (K), b (N, K) -> (..., N) and (..., K).
 */
export function addNormMatmul(
  x: Tensor,
  y: Tensor,
  outer: Tensor,
  weight: Tensor,
  b: Tensor,
  { eps }: { readonly eps: number },
): [Tensor<'f32'>, Tensor<'f32'>] {
  return apply(addNormMatmulOp, [x, y, outer, weight, b], { eps }) as [Tensor<'f32'>, Tensor<'f32'>];
}
