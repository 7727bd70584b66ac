import type { Tensor } from '../tensor.js';
import { fold, type GpuDispatch, type Kernel, kernel } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';
import { each, type FusedDot, type LeftSide, leftValue, reads, rowsFor, scales } from './left-side-wgsl.js';
import { quantizedDot } from './quant-dot-wgsl.js';
import { bytesOf, type MatrixStorage, matrixReads, storageOf } from './storage-wgsl.js';

const dotParams = {
  M: 'u32',
  N: 'u32',
  K: 'u32',
  K1: 'u32',
  n0: 'u32',
  NC: 'u32',
  z0: 'u32',
  stepA: 'u32',
  stepB: 'u32',
  stepC: 'u32',
  eps: 'f32',
} as const;

const lanes = 64;

/** How the threads share the work: one for all of k, without barriers, as software adapters like it; or a workgroup, whose sums meet in subgroups of any size or in shared memory. */
type Family = 'serial' | 'subgroup' | 'plain';

/** A thread or a workgroup computes R rows by 4 columns of C. */
const dotKernel = (left: LeftSide, gated: boolean, R: number, family: Family, storage: MatrixStorage) =>
  kernel(`dot.${left}${gated ? '.gated' : ''}`, [R, family, ...(storage === 'f32' ? [] : [storage])], () => {
    const matrix = matrixReads(storage, true);
    const normed = left === 'norm' || left === 'addNorm';
    const sums = ['sum', ...(gated ? ['up'] : []), ...(normed ? ['square'] : [])];
    const A = sums.length;
    const serial = family === 'serial';
    const grouped = family === 'subgroup';
    const unit = serial ? 'index' : 'group';
    // The sums of a row, named as in `sums`, are at hand.
    const finish = (row: string) => `${scales[left] ?? ''}
    ${left === 'addNorm' ? `for (var k = ${unit}; k < K4; k += (p.N + 3u) / 4u) { z[${row} * K4 + k] = (a[${row} * K4 + k] + a2[${row} * K4 + k]) * inner * w0[k]; }` : ''}
    ${normed ? `let dots = sum * scale;${gated ? '\n    let ups = up * scale;' : ''}` : `let dots = sum;${gated ? '\n    let ups = up;' : ''}`}
    let to = (wg.z + p.z0) * p.stepC + ${row} * p.NC + p.n0 + n;
    for (var j = 0u; j < 4u; j++) {
      if (n + j < p.N) { c[to + j] = ${gated ? 'dots[j] * sigmoid_f(dots[j]) * ups[j]' : 'dots[j]'}; }
    }`;
    const gather = (from: string) => each(A, (i) => `var ${sums[i]} = partial[${from} + ${i * R}u + lane];`);
    const meet = grouped
      ? `${each(R, (r) => sums.map((name) => `${name}${r} = subgroupAdd(${name}${r});`).join(' '))}
  // Lanes follow each other in subgroups on all known drivers; the self-test at start would see another order.
  if (lane % subgroup_width == 0u) {
    let at = (lane / subgroup_width) * ${A * R}u;
    ${each(R, (r) => sums.map((name, i) => `partial[at + ${i * R + r}u] = ${name}${r};`).join(' '))}
  }
  workgroupBarrier();
  if (lane < ${R}u && lane < p.M) {
    ${gather('0u')}
    let count = (${lanes}u + subgroup_width - 1u) / subgroup_width;
    for (var i = 1u; i < count; i++) {
      ${each(A, (i) => `${sums[i]} += partial[i * ${A * R}u + ${i * R}u + lane];`)}
    }`
      : `${each(R, (r) => sums.map((name, i) => `partial[lane * ${A * R}u + ${i * R + r}u] = ${name}${r};`).join(' '))}
  for (var step = ${lanes / 2}u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      for (var i = 0u; i < ${A * R}u; i++) { partial[lane * ${A * R}u + i] += partial[(lane + step) * ${A * R}u + i]; }
    }
  }
  workgroupBarrier();
  if (lane < ${R}u && lane < p.M) {
    ${gather('0u')}`;
    const ends = serial
      ? each(R, (r) => `if (${r}u < p.M) {\n    ${each(A, (i) => `let ${sums[i]} = ${sums[i]}${r};`)}\n    ${finish(`${r}u`)}\n  }`)
      : `${meet}\n    ${finish('lane')}\n  }`;
    const dots = (name: string, b: string) => `${name} += vec4f(${[0, 1, 2, 3].map((j) => `dot(x, ${b}${j})`).join(', ')});`;
    return {
      params: dotParams,
      read: { ...Object.fromEntries(reads[left].map((name) => [name, 'vec4f'])), b: matrix.type },
      write: { c: 'f32', ...(left === 'addNorm' ? { z: 'vec4f' } : {}) },
      ...(gated ? { uses: ['sigmoid'] } : {}),
      workgroup: lanes,
      enable: [...matrix.enable, ...(grouped ? ['subgroups'] : [])],
      ...(grouped ? { builtins: ', @builtin(subgroup_size) subgroup_width: u32' } : {}),
      outside: [matrix.outside, serial ? '' : `var<workgroup> partial: array<vec4f, ${lanes * R * A}>;`]
        .filter((part) => part !== '')
        .join('\n'),
      body: `let n = ${unit} * 4u;
  if (n >= p.N) { return; }
  let K4 = p.K / 4u;
  ${left === 'pair' ? 'let K14 = p.K1 / 4u;' : ''}
  ${left === 'plain' ? 'let startA = (wg.z + p.z0) * p.stepA / 4u;' : ''}
  let startB = (wg.z + p.z0) * p.stepB / 4u;
  ${each(4, (j) => `let c${j} = startB + min(n + ${j}u, p.N - 1u) * K4;`)}
  ${each(R, (r) => `let m${r} = min(${r}u, p.M - 1u);`)}
  ${each(R, (r) => sums.map((name) => `var ${name}${r} = vec4f();`).join(' '))}
  for (var k = ${serial ? '0u' : 'lane'}; k < K4; k += ${serial ? 1 : lanes}u) {
    ${each(4, (j) => `let b${j} = ${matrix.at(`c${j} + k`)};`)}
    ${gated ? each(4, (j) => `let g${j} = ${matrix.at(`c${j} + p.N * K4 + k`)};`) : ''}
    ${normed ? 'let wk = w[k];' : ''}
    ${each(R, (r) => `{\n      ${leftValue(left, r)}\n      ${dots(`sum${r}`, 'b')}${gated ? `\n      ${dots(`up${r}`, 'g')}` : ''}\n    }`)}
  }
  ${ends}`,
    };
  });

const familyOf = (traits: GpuTraits): Family => (traits.software ? 'serial' : traits.subgroups ? 'subgroup' : 'plain');

/** The kernel of `matmul` for at most 8 rows on GPUs: K a multiple of 4, b (N, K). */
export const matvecKernel = (M: number, storage: MatrixStorage, traits: GpuTraits): Kernel =>
  dotKernel('plain', false, rowsFor(M), traits.subgroups ? 'subgroup' : 'plain', storage);

export const matvecParams = { K1: 0, eps: 0 } as const;

/** More rows would need more shared memory than every adapter has; from there on, separate kernels lose nothing. */
const fusedRows = 4;

/** The one dispatch of a fused product, or undefined where it must be done in parts: many rows, a K that is no multiple of 4, a b beyond the binding limit. */
export function fusedDot(dot: FusedDot, traits: GpuTraits): GpuDispatch[] | undefined {
  const { left, gated = false, M, N, K, K1 = 0, eps = 0 } = dot;
  if (M > fusedRows || K === 0 || K % 4 !== 0 || K1 % 4 !== 0) return undefined;
  const storage = storageOf(dot.b, traits);
  if (storage === undefined) return quantizedDot(dot, dot.b as Tensor, traits);
  if (bytesOf[storage] * K * N * (gated ? 2 : 1) > traits.maxBindingBytes) return undefined;
  const k = dotKernel(left, gated, rowsFor(M), familyOf(traits), storage);
  const groups = Math.ceil(N / 4);
  return [
    {
      kernel: k,
      bind: [...dot.inputs, dot.b, dot.c, ...(dot.z === undefined ? [] : [dot.z])],
      params: { M, N, K, K1, n0: 0, NC: N, z0: 0, stepA: 0, stepB: 0, stepC: 0, eps },
      groups: fold(traits.software ? Math.ceil(groups / k.workgroup) : groups, traits),
    },
  ];
}
