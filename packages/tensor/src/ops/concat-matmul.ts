import { isQuantized } from '../dtype.js';
import { ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import type { Sample, SampleInput } from '../sample.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { Scratch } from '../webgpu/kernel.js';
import { fusedDot } from './dot-wgsl.js';
import { copyRuns } from './layout.js';
import { multiplyWeight, rowsByMatrix, seenRows } from './matmul.js';
import { matmulWgsl } from './matmul-wgsl.js';

function plan([x, y, b]: readonly Spec[]): { M: number; K: number; N: number; K1: number; K2: number } {
  const [K1, K2] = [x!.shape[x!.shape.length - 1], y!.shape[y!.shape.length - 1]];
  if (K1 === undefined || K2 === undefined || !sameShape(x!.shape.slice(0, -1), y!.shape.slice(0, -1))) {
    throw new ShapeError(`concatMatmul: x and y may differ in their last axis only; got x=${showShape(x!.shape)} y=${showShape(y!.shape)}`);
  }
  return { ...rowsByMatrix('concatMatmul', x!, b!, K1 + K2), K1, K2 };
}

export const concatMatmulOp = defineOp<null>({
  name: 'concatMatmul',
  weight: 2,
  infer(inputs) {
    expectDTypes('concatMatmul', inputs, ['f32', 'f32', 'f32'], 2);
    const { N } = plan(inputs);
    return [{ shape: [...inputs[0]!.shape.slice(0, -1), N], dtype: 'f32' }];
  },
  reference([x, y, b], _, [out]) {
    const { M, K, N, K1, K2 } = plan([x!, y!, b!]);
    const pair = Array.from({ length: M * K }, (_, i) => {
      const [m, k] = [Math.floor(i / K), i % K];
      return k < K1 ? x!.data[m * K1 + k]! : y!.data[m * K2 + k - K1]!;
    });
    const rows = seenRows(pair, b!, M, K);
    for (let i = 0; i < M * N; i++) {
      const [m, n] = [Math.floor(i / N), i % N];
      let sum = 0;
      for (let k = 0; k < K; k++) sum += rows[m * K + k]! * b!.data[n * K + k]!;
      out!.data[i] = sum;
    }
  },
  cpu(c, [x, y, b], _, [out]) {
    if (out!.size === 0) return;
    const { M, K, N, K1, K2 } = plan([x!, y!, b!]);
    const rows = c.scratch(M * K * 4);
    c.kernels.copyRuns(c.at(x!), rows, M, K1 * 4, K1 * 4, K * 4);
    c.kernels.copyRuns(c.at(y!), rows + K1 * 4, M, K2 * 4, K2 * 4, K * 4);
    multiplyWeight(c, rows, b!, c.at(out!), M, K, N);
  },
  wgsl([x, y, b], _, [out], traits) {
    if (out!.size === 0) return [];
    const { M, K, N, K1, K2 } = plan([x!, y!, b!]);
    const fused = fusedDot({ left: 'pair', inputs: [x!, y!], b: b!, c: out!, M, N, K, K1 }, traits);
    if (fused !== undefined) return fused;
    const rows = new Scratch(Math.max(4, M * K * 4));
    return [
      ...copyRuns(x!, rows, { runs: M, width: K1, src: [0, K1], dst: [0, K] }, traits),
      ...copyRuns(y!, rows, { runs: M, width: K2, src: [0, K2], dst: [K1, K] }, traits),
      ...matmulWgsl({ batch: 1, M, K, N, sharedB: true, transposeA: false, transposeB: true }, rows, b!, out!, traits),
    ];
  },
  vjp({ inputs: [x, y, b], grads: [g], wants }, o) {
    const { K, K1 } = plan([x!, y!, b!]);
    const back = wants[0] || wants[1] ? o.matmul(g!, b!) : undefined;
    const flat = (t: Tensor) => o.reshape(t, [t.size / Math.max(1, t.shape[t.shape.length - 1]!), t.shape[t.shape.length - 1]!]);
    return [
      wants[0] ? o.slice(back!, -1, 0, K1) : undefined,
      wants[1] ? o.slice(back!, -1, K1, K) : undefined,
      wants[2] ? o.matmul(flat(g!), flat(o.concat([x!, y!], -1)), { transposeA: true }) : undefined,
    ];
  },
  samples(g) {
    const [K1, K2, N] = [g.int(1, 20), g.int(1, 20), g.int(1, 20)];
    const samples: Sample<null>[] = [];
    for (const [rows, k1, k2, n] of [
      [[1, 1], 8, 12, 5],
      [[1], 64, 64, 64],
      [[2, 2], 8, 4, 9],
      [[g.int(1, 9)], K1, K2, N],
      [[3], 4, 0, 6],
      [[0], 4, 4, 6],
      [[20], 16, 8, 24],
    ] as const)
      samples.push({
        inputs: [g.f32([...rows, k1]), g.f32([...rows, k2]), g.f32([n, k1 + k2])],
        attrs: null,
        absolute: 2e-5,
        relative: 1e-5,
      });
    for (const [format, rows, k1, k2, n] of [
      ['f16', [1, 1], 32, 64, 16],
      ['bf16', [2, 2], 36, 28, 9],
      ['q8', [1], 32, 64, 16],
      ['q8', [3], 36, 28, 9],
      ['q8', [3], 5, 28, 21],
      ['q8', [20], 40, 24, 24],
      ['q4', [g.int(1, 2)], 4 * K1, 4 * K2, N],
    ] as const) {
      const x = isQuantized(format) ? g.codes([...rows, k1 + k2]) : g.f32([...rows, k1 + k2]);
      const part = (from: number, to: number): SampleInput => ({
        shape: [...rows, to - from],
        dtype: 'f32',
        data: x.data.filter((_, i) => i % (k1 + k2) >= from && i % (k1 + k2) < to) as Float32Array,
      });
      samples.push({
        inputs: [part(0, k1), part(k1, k1 + k2), g.weight([n, k1 + k2], format)],
        attrs: null,
        absolute: 1e-4,
        relative: 1e-5,
      });
    }
    return samples;
  },
});

/** matmul([x ; y], b) for x (..., K1), y (..., K2) and b (N, K1 + K2) -> (..., N), without a copy of the pair where few rows meet a large matrix. */
export function concatMatmul(x: Tensor, y: Tensor, b: Tensor): Tensor<'f32'> {
  return apply1(concatMatmulOp, [x, y, b], null) as Tensor<'f32'>;
}
