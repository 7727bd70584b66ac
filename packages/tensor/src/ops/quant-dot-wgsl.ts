import type { Tensor } from '../tensor.js';
import { fold, type GpuDispatch, kernel, type Operand } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';
import { each, type FusedDot, type LeftSide, leftValue, reads, scales } from './left-side-wgsl.js';
import { blockBytes, blockParts, dotSource, halfSource, type QuantFormat, roundSource, weightProducts, wordsOf } from './quant-wgsl.js';

/** Rows that a thread or workgroup takes at once: it reads a word of weights for all of them. */
const rowsFor = (M: number) => (M >= 3 ? 4 : M);

/**
 * R rows by a block of 8 columns: `serial`, a thread for all of k, as software adapters like it; else a workgroup, whose lanes take a group
 * of 32 columns each in turn and meet in shared memory. The left rows are rounded to int8 on the way, as on the CPU: norms do not change
 * what a value is rounded to, since a group's scale goes by its largest. `wide` reads four values at a time, for a K that is a multiple of 4.
 */
const dotKernel = (format: QuantFormat, left: LeftSide, gated: boolean, R: number, wide: boolean, traits: GpuTraits) =>
  kernel(
    `dot.${format}.${left}${gated ? '.gated' : ''}`,
    [R, traits.software ? 'serial' : 'group', ...(wide ? [] : ['narrow']), ...(traits.packedDot ? [] : ['unpacked'])],
    () => {
      const serial = traits.software;
      const normed = left === 'norm' || left === 'addNorm';
      const halves = gated ? ['low', 'high', 'ulow', 'uhigh'] : ['low', 'high'];
      const sums = [...halves, ...(normed ? ['square'] : [])];
      const A = sums.length;
      // Every adapter has 16 KiB of shared memory.
      const lanes = R * A > 16 ? 32 : 64;
      const unit = serial ? 'index' : 'group';
      const product = (block: string, low: string, high: string) => `{
      let cell = (${block}) * p.G + g;
      let s = scales[cell];
      let slow = vec4f(half_f(s.x & 0xffffu), half_f(s.x >> 16u), half_f(s.y & 0xffffu), half_f(s.y >> 16u));
      let shigh = vec4f(half_f(s.z & 0xffffu), half_f(s.z >> 16u), half_f(s.w & 0xffffu), half_f(s.w >> 16u));
      let at = cell * ${wordsOf[format] * 8}u;
      ${each(R, (r) => weightProducts[format].begin(r))}
      for (var j = 0u; j < 8u; j++) {
        ${each(wordsOf[format], (i) => `let w${i} = b[at + j * ${wordsOf[format]}u + ${i}u];`)}
        ${each(R, (r) => `{\n          let q = q${r}[j];\n          ${weightProducts[format].add(r)}\n        }`)}
      }
      ${each(R, (r) => `${low}${r} += vec4f(${weightProducts[format].low(r)}) * (slow * scale${r});\n      ${high}${r} += vec4f(${weightProducts[format].high(r)}) * (shigh * scale${r});`)}
    }`;
      const value = wide
        ? (r: number) => `${normed ? 'let wk = w[k];\n          ' : ''}${leftValue(left, r)}`
        : (r: number) => `let x = four(m${r}, k * 4u);`;
      const finish = (row: string) => `${scales[left] ?? ''}
    ${left === 'addNorm' ? `for (var k = ${unit}; k < K4; k += p.B) { z[${row} * K4 + k] = (a[${row} * K4 + k] + a2[${row} * K4 + k]) * inner * w0[k]; }` : ''}
    ${each(halves.length, (i) => `let ${halves[i]}_sum = ${halves[i]}${normed ? ' * scale' : ''};`)}
    let to = ${row} * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      ${each(2, (i) => {
        const half = halves[i]!;
        const y = gated ? `${half}_sum[j] * sigmoid_f(${half}_sum[j]) * u${half}_sum[j]` : `${half}_sum[j]`;
        return `if (block * 8u + j + ${4 * i}u < p.N) { c[to + j + ${4 * i}u] = ${y}; }`;
      })}
    }`;
      const ends = serial
        ? each(
            R,
            (r) => `if (m + ${r}u < p.M) {\n    ${each(A, (i) => `let ${sums[i]} = ${sums[i]}${r};`)}\n    ${finish(`(m + ${r}u)`)}\n  }`,
          )
        : `${each(R, (r) => sums.map((name, i) => `partial[lane * ${A * R}u + ${i * R + r}u] = ${name}${r};`).join(' '))}
  for (var step = ${lanes / 2}u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      for (var i = 0u; i < ${A * R}u; i++) { partial[lane * ${A * R}u + i] += partial[(lane + step) * ${A * R}u + i]; }
    }
  }
  workgroupBarrier();
  if (lane < ${R}u && m + lane < p.M) {
    ${each(A, (i) => `let ${sums[i]} = partial[${i * R}u + lane];`)}
    ${finish('(m + lane)')}
  }`;
      const arrays = reads[left].map((name) => [name, wide ? 'vec4f' : 'f32']);
      return {
        params: { M: 'u32', N: 'u32', K: 'u32', K1: 'u32', G: 'u32', B: 'u32', up: 'u32', n0: 'u32', NC: 'u32', eps: 'f32' },
        read: { ...Object.fromEntries(arrays), b: 'u32', scales: 'vec4u' },
        write: { c: 'f32', ...(left === 'addNorm' ? { z: 'vec4f' } : {}) },
        workgroup: lanes,
        ...(gated ? { uses: ['sigmoid'] } : {}),
        ...(traits.packedDot ? { requires: ['packed_4x8_integer_dot_product'] } : {}),
        outside: [
          halfSource,
          dotSource(traits.packedDot),
          roundSource,
          ...(wide
            ? []
            : [
                `fn four(row: u32, k: u32) -> vec4f {
  var x = vec4f();
  for (var i = 0u; i < min(4u, p.K - k); i++) { x[i] = a[row * p.K + k + i]; }
  return x;
}`,
              ]),
          ...(serial ? [] : [`var<workgroup> partial: array<vec4f, ${A * R * lanes}>;`]),
        ].join('\n'),
        body: `let block = ${unit} % p.B;
  let m = (${unit} / p.B) * ${R}u;
  if (m >= p.M) { return; }
  let K4 = (p.K + 3u) / 4u;
  ${left === 'pair' ? 'let K14 = p.K1 / 4u;' : ''}
  ${left === 'plain' && wide ? 'let startA = 0u;' : ''}
  ${each(R, (r) => `let m${r} = min(m + ${r}u, p.M - 1u);\n  ${sums.map((name) => `var ${name}${r} = vec4f();`).join(' ')}`)}
  for (var g = ${serial ? '0u' : 'lane'}; g < p.G; g += ${serial ? 1 : lanes}u) {
    ${each(
      R,
      (r) => `var q${r}: array<u32, 8>;
    var most${r} = 0u;
    {
      var xs: array<vec4f, 8>;
      for (var j = 0u; j < 8u; j++) {
        let k = g * 8u + j;
        if (k < K4) {
          ${value(r)}
          xs[j] = x;
          most${r} = max(most${r}, largest(x));
        }
      }
      let inverse = inverse_of(most${r});
      for (var j = 0u; j < 8u; j++) { q${r}[j] = rounded(xs[j] * inverse); }
    }
    let scale${r} = scale_of(most${r});`,
    )}
    ${product('block', 'low', 'high')}
    ${gated ? product('block + p.up', 'ulow', 'uhigh') : ''}
  }
  ${ends}`,
      };
    },
  );

/** Blocks of a quantised matrix and the rows that meet them. */
export interface DotRange {
  readonly left: LeftSide;
  readonly gated: boolean;
  readonly inputs: readonly Operand[];
  readonly b: Tensor;
  /** The first block and how many. */
  readonly start: number;
  readonly blocks: number;
  readonly outputs: readonly Operand[];
  readonly M: number;
  /** Columns of c. */
  readonly NC: number;
  readonly K: number;
  readonly K1: number;
  readonly eps: number;
}

/** One dispatch over a range of blocks; with `gated`, all of them. */
export function quantizedDotRange(range: DotRange, traits: GpuTraits): GpuDispatch {
  const { left, gated, inputs, b, start, blocks, outputs, M, NC, K, K1, eps } = range;
  const G = Math.ceil(K / 32);
  const R = rowsFor(M);
  const k = dotKernel(b.dtype as QuantFormat, left, gated, R, K % 4 === 0, traits);
  const B = gated ? blocks / 2 : blocks;
  const units = Math.ceil(M / R) * B;
  return {
    kernel: k,
    bind: [...inputs, ...blockParts(b, G, start, blocks), ...outputs],
    params: { M, N: Math.min(NC - start * 8, B * 8), K, K1, G, B, up: gated ? B : 0, n0: start * 8, NC, eps },
    groups: fold(traits.software ? Math.ceil(units / k.workgroup) : units, traits),
  };
}

/** The one dispatch of a fused product; undefined where its matrix exceeds a binding, or its gate and up rows share a block. */
export function quantizedDot(dot: FusedDot, b: Tensor, traits: GpuTraits): GpuDispatch[] | undefined {
  const { left, gated = false, inputs, c, z, M, N, K, K1 = 0, eps = 0 } = dot;
  const blocks = Math.ceil(b.shape[0]! / 8);
  if (gated && N % 8 !== 0) return undefined;
  if (blocks * Math.ceil(K / 32) * blockBytes[b.dtype as QuantFormat] > traits.maxBindingBytes) return undefined;
  const outputs = z === undefined ? [c] : [c, z];
  return [quantizedDotRange({ left, gated, inputs, b, start: 0, blocks, outputs, M, NC: N, K, K1, eps }, traits)];
}
