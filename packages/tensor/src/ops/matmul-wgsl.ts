import type { Tensor } from '../tensor.js';
import { fold, type GpuDispatch, type Kernel, kernel, type Operand, rowRanges, type Whole } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';
import { matvecKernel, matvecParams } from './dot-wgsl.js';
import { each, rowsFor } from './left-side-wgsl.js';
import { quantizedMatmulWgsl } from './quant-matmul-wgsl.js';
import { bytesOf, type MatrixStorage, matrixReads, storageOf } from './storage-wgsl.js';

/** How a product is laid out: `batch` products of M x K by K x N. */
export interface MatmulPlan {
  readonly batch: number;
  readonly M: number;
  readonly K: number;
  readonly N: number;
  readonly sharedB: boolean;
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

// z0 is the first product of the batch; m0 is the first row and MA the number of rows of a transposed A; n0 the first column of this dispatch; N columns of it, NC of all of C.
const params = {
  M: 'u32',
  N: 'u32',
  K: 'u32',
  m0: 'u32',
  MA: 'u32',
  n0: 'u32',
  NC: 'u32',
  z0: 'u32',
  stepA: 'u32',
  stepB: 'u32',
  stepC: 'u32',
} as const;

const named = (storage: MatrixStorage) => (storage === 'f32' ? [] : [storage]);

/**
 * `rows`: a thread computes R rows by 4 columns of C, without shared memory and barriers. `wide` reads four values at a time.
 * Every kernel but those of dot-wgsl.ts sums over k in its order, as the reference does.
 */
const rowsKernel = (R: number, transposeA: boolean, transposeB: boolean, wide: boolean, storage: MatrixStorage) =>
  kernel('matmul.rows', [R, transposeA ? 'T' : 'N', transposeB ? 'T' : 'N', wide ? 4 : 1, ...named(storage)], () => {
    const matrix = matrixReads(storage, wide);
    const a = (r: number) => (transposeA ? `a[startA + k * p.MA + m${r} + p.m0]` : `a[startA + m${r} * p.K + k]`);
    const b = (j: number) => matrix.at(transposeB ? `startB + c${j} * p.K + k` : `startB + k * p.N + c${j}`);
    const narrow = `for (var k = 0u; k < p.K; k++) {
    let bk = vec4f(${[0, 1, 2, 3].map(b).join(', ')});
    ${each(R, (r) => `sum${r} += ${a(r)} * bk;`)}
  }`;
    const columns = transposeB
      ? `${each(4, (j) => `let r${j} = ${matrix.at(`startB + c${j} * K4 + k`)};`)}
  ${each(4, (j) => `let b${j} = vec4f(${[0, 1, 2, 3].map((i) => `r${i}.${'xyzw'[j]}`).join(', ')});`)}`
      : each(4, (j) => `let b${j} = ${matrix.at(`startB + (k * 4u + ${j}u) * (p.N / 4u) + n / 4u`)};`);
    const vectors = `let K4 = p.K / 4u;
  for (var k = 0u; k < K4; k++) {
    ${columns}
    ${each(R, (r) => `let a${r} = a[startA + m${r} * K4 + k];`)}
    ${each(R, (r) => `sum${r} = sum${r} + a${r}.x * b0;\n  sum${r} = sum${r} + a${r}.y * b1;\n  sum${r} = sum${r} + a${r}.z * b2;\n  sum${r} = sum${r} + a${r}.w * b3;`)}
  }`;
    return {
      params,
      read: { a: wide ? 'vec4f' : 'f32', b: matrix.type },
      write: { c: 'f32' },
      enable: matrix.enable,
      outside: matrix.outside,
      body: `let across = (p.N + 3u) / 4u;
  let m = (index / across) * ${R}u;
  let n = (index % across) * 4u;
  if (m >= p.M) { return; }
  let startA = (wg.z + p.z0) * p.stepA${wide ? ' / 4u' : ''};
  let startB = (wg.z + p.z0) * p.stepB${wide ? ' / 4u' : ''};
  ${each(R, (r) => `let m${r} = min(m + ${r}u, p.M - 1u);`)}
  ${wide && !transposeB ? '' : each(4, (j) => `let c${j} = min(n + ${j}u, p.N - 1u);`)}
  ${each(R, (r) => `var sum${r} = vec4f();`)}
  ${wide ? vectors : narrow}
  let to = (wg.z + p.z0) * p.stepC + m * p.NC + p.n0 + n;
  ${each(
    R,
    (r) => `if (m + ${r}u < p.M) {
    c[to + ${r}u * p.NC] = sum${r}.x;
    if (n + 1u < p.N) { c[to + ${r}u * p.NC + 1u] = sum${r}.y; }
    if (n + 2u < p.N) { c[to + ${r}u * p.NC + 2u] = sum${r}.z; }
    if (n + 3u < p.N) { c[to + ${r}u * p.NC + 3u] = sum${r}.w; }
  }`,
  )}`,
    };
  });

/** `tiled`: a workgroup of 256 threads computes 64 x 64 of C from tiles of 16 along k in shared memory, 4 x 4 a thread. */
const tiledKernel = (transposeA: boolean, transposeB: boolean, storage: MatrixStorage) =>
  kernel('matmul.tiled', [transposeA ? 'T' : 'N', transposeB ? 'T' : 'N', ...named(storage)], () => {
    const matrix = matrixReads(storage, false);
    // Neighbouring threads load neighbouring values, whichever axis is the contiguous one.
    const load = (name: string, transposed: boolean, size: string, value: string) => `for (var i = lane; i < 1024u; i += 256u) {
      let k = first + ${transposed ? 'i / 64u' : 'i % 16u'};
      let r = ${transposed ? 'i % 64u' : 'i / 16u'};
      let at = ${name === 'tile_a' ? 'm' : 'n'} + r;
      var value = 0.0;
      if (k < p.K && at < ${size}) { value = ${value}; }
      ${name}[(k - first) * 65u + r] = value;
    }`;
    return {
      params,
      read: { a: 'f32', b: matrix.type },
      write: { c: 'f32' },
      workgroup: 256,
      enable: matrix.enable,
      outside: `${matrix.outside === '' ? '' : `${matrix.outside}\n`}var<workgroup> tile_a: array<f32, 1040>;\nvar<workgroup> tile_b: array<f32, 1040>;`,
      body: `let across = (p.N + 63u) / 64u;
  let m = (group / across) * 64u;
  let n = (group % across) * 64u;
  if (m >= p.M) { return; }
  let startA = (wg.z + p.z0) * p.stepA;
  let startB = (wg.z + p.z0) * p.stepB;
  let row = (lane / 16u) * 4u;
  let column = (lane % 16u) * 4u;
  ${each(4, (r) => `var sum${r} = vec4f();`)}
  for (var first = 0u; first < p.K; first += 16u) {
    ${load('tile_a', transposeA, 'p.M', transposeA ? 'a[startA + k * p.MA + at + p.m0]' : 'a[startA + at * p.K + k]')}
    ${load('tile_b', !transposeB, 'p.N', matrix.at(transposeB ? 'startB + at * p.K + k' : 'startB + k * p.N + at'))}
    workgroupBarrier();
    for (var k = 0u; k < 16u; k++) {
      let at = k * 65u + column;
      let bk = vec4f(tile_b[at], tile_b[at + 1u], tile_b[at + 2u], tile_b[at + 3u]);
      ${each(4, (r) => `sum${r} += tile_a[k * 65u + row + ${r}u] * bk;`)}
    }
    workgroupBarrier();
  }
  ${each(
    4,
    (r) => `if (m + row + ${r}u < p.M) {
    let to = (wg.z + p.z0) * p.stepC + (m + row + ${r}u) * p.NC + p.n0 + n + column;
    for (var j = 0u; j < 4u; j++) {
      if (n + column + j < p.N) { c[to + j] = sum${r}[j]; }
    }
  }`,
  )}`,
    };
  });

interface Choice {
  readonly kernel: Kernel;
  /** Workgroups for M by N. */
  groups(M: number, N: number): number;
}

/**
 * The rule, and its reasons. On adapters that compute on the CPU barriers cost most (platform measurements: tiles in shared memory 0.05 to
 * 0.9 GFLOPS on SwiftShader, 8 rows x vec4 without them 2.1): `rows` always. On GPUs: `matvec` for at most 8 rows, where the whole of B is
 * read once and lanes must share out k to fill the GPU; `tiled` from 16 rows and columns on, where values are used again; `rows` between.
 */
export function chooseMatmul(plan: MatmulPlan, storage: MatrixStorage, traits: GpuTraits): Choice {
  const { M, K, N, transposeA, transposeB } = plan;
  const aligned = K % 4 === 0;
  if (!traits.software) {
    if (M <= 8 && transposeB && !transposeA && aligned && K > 0) {
      return { kernel: matvecKernel(M, storage, traits), groups: (_, n) => Math.ceil(n / 4) };
    }
    if (M >= 16 && N >= 16)
      return { kernel: tiledKernel(transposeA, transposeB, storage), groups: (m, n) => Math.ceil(m / 64) * Math.ceil(n / 64) };
  }
  const R = rowsFor(M);
  const wide = aligned && !transposeA && (transposeB || N % 4 === 0);
  const k = rowsKernel(R, transposeA, transposeB, wide, storage);
  return { kernel: k, groups: (m, n) => Math.ceil((Math.ceil(m / R) * Math.ceil(n / 4)) / k.workgroup) };
}

export function matmulWgsl(plan: MatmulPlan, a: Whole, b: Whole, c: Whole, traits: GpuTraits): GpuDispatch[] {
  const { batch, M, K, N, sharedB, transposeA, transposeB } = plan;
  if (batch * M * N === 0) return [];
  const storage = storageOf(b, traits);
  if (storage === undefined) return quantizedMatmulWgsl(plan, a, b as Tensor, c, traits);
  const choice = chooseMatmul(plan, storage, traits);
  const dispatches: GpuDispatch[] = [];
  const add = (bind: [Operand, Operand, Operand], m0: number, m: number, n0: number, n: number, z: number, z0 = 0) => {
    const steps = { stepA: M * K, stepB: sharedB ? 0 : K * N, stepC: M * N };
    dispatches.push({
      kernel: choice.kernel,
      bind,
      params: { ...matvecParams, M: m, N: n, K, z0, m0, MA: M, n0, NC: N, ...steps },
      groups: fold(choice.groups(m, n), traits, z),
    });
  };
  if (batch > 1) {
    const bytesB = sharedB ? 0 : K * N * 4;
    for (const { rows, part } of rowRanges('matmul', batch, [M * K * 4, bytesB, M * N * 4], traits)) {
      const bind: [Operand, Operand, Operand] = [part(a, M * K * 4), sharedB ? b : part(b, bytesB), part(c, M * N * 4)];
      for (let z0 = 0; z0 < rows; z0 += traits.maxWorkgroups) add(bind, 0, M, 0, N, Math.min(traits.maxWorkgroups, rows - z0), z0);
    }
    return dispatches;
  }
  // Rows of A and C are cut together; rows of B, where they are columns of C. Other layouts cannot be cut in contiguous parts.
  for (const rows of rowRanges('matmul', M, transposeA ? [N * 4] : [K * 4, N * 4], traits)) {
    const ranges = transposeB
      ? rowRanges('matmul', N, [K * bytesOf[storage]], traits)
      : [{ start: 0, rows: N, part: (whole: Whole) => whole }];
    for (const columns of ranges) {
      const bind: [Operand, Operand, Operand] = [
        transposeA ? a : rows.part(a, K * 4),
        columns.part(b, K * bytesOf[storage]),
        rows.part(c, N * 4),
      ];
      add(bind, transposeA ? rows.start : 0, rows.rows, columns.start, columns.rows, 1);
    }
  }
  return dispatches;
}
