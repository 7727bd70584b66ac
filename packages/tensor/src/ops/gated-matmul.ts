import type { CpuContext } from '../cpu/context.js';
import { isQuantized } from '../dtype.js';
import { ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import type { Sample } from '../sample.js';
import { showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { type GpuDispatch, Scratch, type Whole } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';
import { fusedDot } from './dot-wgsl.js';
import { multiplyWeight, rowsByMatrix, seenRows } from './matmul.js';
import { matmulWgsl } from './matmul-wgsl.js';
import { siluMulWgsl } from './silu-mul.js';

/** The product by its parts, for operations that make its rows: M rows (M, K) by b (2 I, K). */
export const gatedProduct = {
  sizes([x, b]: readonly Spec[]): { M: number; K: number; I: number } {
    const { M, K, N } = rowsByMatrix('gatedMatmul', x!, b!);
    if (N % 2 !== 0) throw new ShapeError(`gatedMatmul: b holds gate and up rows, an even number; got ${showShape(b!.shape)}`);
    return { M, K, I: N / 2 };
  },
  cpu(c: CpuContext, rows: number, b: Tensor, y: Tensor, M: number): void {
    const [N, K] = b.shape as [number, number];
    const both = c.scratch(M * N * 4);
    multiplyWeight(c, rows, b, both, M, K, N);
    c.kernels.siluMul(both, c.at(y), N / 2, 0, M);
  },
  /** In two dispatches or more. */
  wgsl(rows: Whole, b: Tensor, y: Tensor, M: number, traits: GpuTraits): GpuDispatch[] {
    const [N, K] = b.shape as [number, number];
    const both = new Scratch(M * N * 4);
    return [
      ...matmulWgsl({ batch: 1, M, K, N, sharedB: true, transposeA: false, transposeB: true }, rows, b, both, traits),
      ...siluMulWgsl(both, y, M, N / 2, traits),
    ];
  },
};

export const gatedMatmulOp = defineOp<null>({
  name: 'gatedMatmul',
  weight: 1,
  infer(inputs) {
    expectDTypes('gatedMatmul', inputs, ['f32', 'f32'], 1);
    return [{ shape: [...inputs[0]!.shape.slice(0, -1), gatedProduct.sizes(inputs).I], dtype: 'f32' }];
  },
  reference([x, b], _, [y]) {
    const { M, K, I } = gatedProduct.sizes([x!, b!]);
    const rows = seenRows(x!.data, b!, M, K);
    const dot = (m: number, n: number) => {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += rows[m * K + k]! * b!.data[n * K + k]!;
      return sum;
    };
    for (let i = 0; i < M * I; i++) {
      const gate = dot(Math.floor(i / I), i % I);
      y!.data[i] = (gate / (1 + Math.exp(-gate))) * dot(Math.floor(i / I), I + (i % I));
    }
  },
  cpu(c, [x, b], _, [y]) {
    if (y!.size === 0) return;
    gatedProduct.cpu(c, c.at(x!), b!, y!, gatedProduct.sizes([x!, b!]).M);
  },
  wgsl([x, b], _, [y], traits) {
    if (y!.size === 0) return [];
    const { M, K, I } = gatedProduct.sizes([x!, b!]);
    const fused = fusedDot({ left: 'plain', gated: true, inputs: [x!], b: b!, c: y!, M, N: I, K }, traits);
    return fused ?? gatedProduct.wgsl(x!, b!, y!, M, traits);
  },
  vjp: 'it keeps no gate and up values; for a gradient use siluMul(matmul(x, b, { transposeB: true }))',
  samples(g) {
    const samples: Sample<null>[] = [];
    for (const [rows, K, I] of [
      [[1, 1], 8, 12],
      [[1], 64, 30],
      [[2, 2], 8, 4],
      [[g.int(1, 9)], g.int(1, 20), g.int(1, 20)],
      [[3], 5, 1],
      [[0], 4, 4],
      [[2], 0, 3],
      [[20], 16, 24],
    ] as const)
      samples.push({ inputs: [g.f32([...rows, K], -1, 1), g.f32([2 * I, K], -1, 1)], attrs: null, absolute: 1e-4, relative: 2e-5 });
    for (const [format, rows, K, I] of [
      ['f16', [1, 1], 64, 16],
      ['bf16', [2, 2], 36, 8],
      ['q8', [1], 64, 16],
      ['q8', [3], 36, 8],
      ['q8', [3], 33, 5],
      ['q8', [2], 0, 8],
      ['q8', [20], 72, 24],
      ['q4', [g.int(1, 2)], 4 * g.int(1, 20), 8 * g.int(1, 3)],
    ] as const) {
      const x = isQuantized(format) ? g.codes([...rows, K]) : g.f32([...rows, K], -1, 1);
      // Small gates: where silu is large, so is the difference that the last digit makes.
      const small = { ...x, data: x.data.map((v) => (isQuantized(format) ? v / 256 : v)) };
      samples.push({ inputs: [small, g.weight([2 * I, K], format)], attrs: null, absolute: 1e-4, relative: 3e-5 });
    }
    return samples;
  },
});

/** silu(x . gate) * (x . up) for x (..., K) and b (2 I, K) with the gate rows first -> (..., I): the inner half of a gated MLP. */
export function gatedMatmul(x: Tensor, b: Tensor): Tensor<'f32'> {
  return apply1(gatedMatmulOp, [x, b], null) as Tensor<'f32'>;
}
