import { ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import type { Sample } from '../sample.js';
import { showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { Scratch } from '../webgpu/kernel.js';
import { fusedDot } from './dot-wgsl.js';
import { multiplyWeight, rowsByMatrix, seenRows } from './matmul.js';
import { matmulWgsl } from './matmul-wgsl.js';
import { siluMulWgsl } from './silu-mul.js';

function plan([x, b]: readonly Spec[]): { M: number; K: number; I: number } {
  const { M, K, N } = rowsByMatrix('gatedMatmul', x!, b!);
  if (N % 2 !== 0) throw new ShapeError(`gatedMatmul: b holds gate and up rows, an even number; got ${showShape(b!.shape)}`);
  return { M, K, I: N / 2 };
}

export const gatedMatmulOp = defineOp<null>({
  name: 'gatedMatmul',
  weight: 1,
  infer(inputs) {
    expectDTypes('gatedMatmul', inputs, ['f32', 'f32'], 1);
    return [{ shape: [...inputs[0]!.shape.slice(0, -1), plan(inputs).I], dtype: 'f32' }];
  },
  reference([x, b], _, [y]) {
    const { M, K, I } = plan([x!, b!]);
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
    const { M, K, I } = plan([x!, b!]);
    const both = c.scratch(M * I * 8);
    multiplyWeight(c, c.at(x!), b!, both, M, K, 2 * I);
    c.kernels.siluMul(both, c.at(y!), I, 0, M);
  },
  wgsl([x, b], _, [y], traits) {
    if (y!.size === 0) return [];
    const { M, K, I } = plan([x!, b!]);
    const fused = fusedDot({ left: 'plain', gated: true, inputs: [x!], b: b!, c: y!, M, N: I, K }, traits);
    if (fused !== undefined) return fused;
    const both = new Scratch(M * I * 8);
    return [
      ...matmulWgsl({ batch: 1, M, K, N: 2 * I, sharedB: true, transposeA: false, transposeB: true }, x!, b!, both, traits),
      ...siluMulWgsl(both, y!, M, I, traits),
    ];
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
    return samples;
  },
});

/** silu(x . gate) * (x . up) for x (..., K) and b (2 I, K) with the gate rows first -> (..., I): the inner half of a gated MLP. */
export function gatedMatmul(x: Tensor, b: Tensor): Tensor<'f32'> {
  return apply1(gatedMatmulOp, [x, b], null) as Tensor<'f32'>;
}
