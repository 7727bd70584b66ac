import type { Tensor } from '../tensor.js';
import { fold, type GpuDispatch, kernel, type Operand, perThread, rowRanges, Scratch, type Whole } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';
import { each } from './left-side-wgsl.js';
import { quantizedDotRange } from './quant-dot-wgsl.js';
import { blockBytes, blockParts, dotSource, halfSource, type QuantFormat, roundSource, weightProducts, wordsOf } from './quant-wgsl.js';

// Many rows are rounded to int8 once, into scratch memory: 8 words and a scale for each group of 32 columns.

/** A thread rounds a group of a row. */
const roundKernel = () =>
  kernel('roundRows', [], () => ({
    params: { n: 'u32', K: 'u32', G: 'u32' },
    read: { a: 'f32' },
    write: { words: 'u32', steps: 'f32' },
    outside: roundSource,
    body: `if (index >= p.n) { return; }
  let row = index / p.G;
  let k = (index % p.G) * 32u;
  var xs: array<vec4f, 8>;
  var most = 0u;
  for (var i = 0u; i < min(32u, p.K - k); i++) { xs[i / 4u][i % 4u] = a[row * p.K + k + i]; }
  for (var j = 0u; j < 8u; j++) { most = max(most, largest(xs[j])); }
  let inverse = inverse_of(most);
  for (var j = 0u; j < 8u; j++) { words[index * 8u + j] = rounded(xs[j] * inverse); }
  steps[index] = scale_of(most);`,
  }));

const params = { M: 'u32', N: 'u32', G: 'u32', B: 'u32', n0: 'u32', NC: 'u32' } as const;
const arrays = { a: 'u32', steps: 'f32', b: 'u32' } as const;

/** `rows`: a thread computes 8 rows by a block of 8 columns, without barriers, as software adapters like it. */
const rowsKernel = (format: QuantFormat, packed: boolean) =>
  kernel(`matmul.${format}.rows`, packed ? [] : ['unpacked'], () => {
    const R = 8;
    const { begin, add, low, high } = weightProducts[format];
    return {
      params,
      read: { ...arrays, scales: 'vec4u' },
      write: { c: 'f32' },
      ...(packed ? { requires: ['packed_4x8_integer_dot_product'] } : {}),
      outside: `${halfSource}\n${dotSource(packed)}`,
      body: `let block = index % p.B;
  let m = (index / p.B) * ${R}u;
  if (m >= p.M) { return; }
  ${each(R, (r) => `let m${r} = min(m + ${r}u, p.M - 1u) * p.G;\n  var low${r} = vec4f();\n  var high${r} = vec4f();`)}
  for (var g = 0u; g < p.G; g++) {
    let cell = block * p.G + g;
    let s = scales[cell];
    let slow = vec4f(half_f(s.x & 0xffffu), half_f(s.x >> 16u), half_f(s.y & 0xffffu), half_f(s.y >> 16u));
    let shigh = vec4f(half_f(s.z & 0xffffu), half_f(s.z >> 16u), half_f(s.w & 0xffffu), half_f(s.w >> 16u));
    let at = cell * ${wordsOf[format] * 8}u;
    ${each(R, begin)}
    for (var j = 0u; j < 8u; j++) {
      ${each(wordsOf[format], (i) => `let w${i} = b[at + j * ${wordsOf[format]}u + ${i}u];`)}
      ${each(R, (r) => `{\n        let q = a[(m${r} + g) * 8u + j];\n        ${add(r)}\n      }`)}
    }
    ${each(R, (r) => `{\n      let step = steps[m${r} + g];\n      low${r} += vec4f(${low(r)}) * (slow * step);\n      high${r} += vec4f(${high(r)}) * (shigh * step);\n    }`)}
  }
  ${each(
    R,
    (r) => `if (m + ${r}u < p.M) {
    let to = (m + ${r}u) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = low${r}[j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high${r}[j]; }
    }
  }`,
  )}`,
    };
  });

/** Rows and columns of a tile, and words of a row of it in shared memory: an odd number, so that neighbours lie in different banks. */
const [tile, pitch] = [64, 9];

/** `tiled`: a workgroup of 256 threads computes 64 x 64 of c, a group of 32 columns of k at a time from shared memory, 4 x 4 a thread. */
const tiledKernel = (format: QuantFormat, packed: boolean) =>
  kernel(`matmul.${format}.tiled`, packed ? [] : ['unpacked'], () => ({
    params,
    read: { ...arrays, scales: 'u32' },
    write: { c: 'f32' },
    workgroup: 256,
    ...(packed ? { requires: ['packed_4x8_integer_dot_product'] } : {}),
    outside: `${halfSource}
${dotSource(packed)}
var<workgroup> tile_a: array<u32, ${tile * pitch}>;
var<workgroup> tile_b: array<u32, ${tile * pitch}>;
var<workgroup> steps_a: array<f32, ${tile}>;
var<workgroup> steps_b: array<f32, ${tile}>;`,
    body: `let across = (p.B + 7u) / 8u;
  let m = (group / across) * ${tile}u;
  let first = (group % across) * 8u;
  if (m >= p.M) { return; }
  let row = (lane / 16u) * 4u;
  let column = (lane % 16u) * 4u;
  ${each(4, (r) => `var sum${r} = vec4f();`)}
  for (var g = 0u; g < p.G; g++) {
    for (var i = lane; i < ${tile * 8}u; i += 256u) {
      let r = min(m + i / 8u, p.M - 1u);
      tile_a[(i / 8u) * ${pitch}u + i % 8u] = a[(r * p.G + g) * 8u + i % 8u];
    }
    ${
      format === 'q8'
        ? `for (var i = lane; i < ${tile * 8}u; i += 256u) {
      let cell = min(first + i / 64u, p.B - 1u) * p.G + g;
      tile_b[((i / 64u) * 8u + i % 8u) * ${pitch}u + (i % 64u) / 8u] = b[cell * 64u + i % 64u];
    }`
        : `{
      let cell = min(first + lane / 32u, p.B - 1u) * p.G + g;
      let word = b[cell * 32u + lane % 32u];
      // Codes are 8 more than values; the sign goes up through the high half of each byte.
      let even = (word & 0x0f0f0f0fu) ^ 0x08080808u;
      let odd = ((word >> 4u) & 0x0f0f0f0fu) ^ 0x08080808u;
      let at = ((lane / 32u) * 8u + lane % 4u) * ${pitch}u + (lane % 32u) / 4u;
      tile_b[at] = even | ((even & 0x08080808u) * 30u);
      tile_b[at + ${4 * pitch}u] = odd | ((odd & 0x08080808u) * 30u);
    }`
    }
    if (lane < ${tile}u) {
      steps_a[lane] = steps[min(m + lane, p.M - 1u) * p.G + g];
    } else if (lane < ${2 * tile}u) {
      let n = lane - ${tile}u;
      let cell = min(first + n / 8u, p.B - 1u) * p.G + g;
      steps_b[n] = half_f((scales[cell * 4u + (n % 8u) / 2u] >> (16u * (n % 2u))) & 0xffffu);
    }
    workgroupBarrier();
    ${each(4, (r) => `var dots${r} = vec4i();`)}
    for (var j = 0u; j < 8u; j++) {
      ${each(4, (i) => `let w${i} = tile_b[(column + ${i}u) * ${pitch}u + j];`)}
      ${each(4, (r) => `{\n        let q = tile_a[(row + ${r}u) * ${pitch}u + j];\n        dots${r} += vec4i(${[0, 1, 2, 3].map((i) => `dot_i8(w${i}, q)`).join(', ')});\n      }`)}
    }
    let by = vec4f(${[0, 1, 2, 3].map((i) => `steps_b[column + ${i}u]`).join(', ')});
    ${each(4, (r) => `sum${r} += vec4f(dots${r}) * (by * steps_a[row + ${r}u]);`)}
    workgroupBarrier();
  }
  ${each(
    4,
    (r) => `if (m + row + ${r}u < p.M) {
    let n = first * 8u + column;
    let to = (m + row + ${r}u) * p.NC + p.n0 + n;
    for (var j = 0u; j < 4u; j++) {
      if (n + j < p.N) { c[to + j] = sum${r}[j]; }
    }
  }`,
  )}`,
  }));

interface Product {
  readonly M: number;
  readonly K: number;
  readonly N: number;
}

/** From so many rows on they are rounded once, before the product. On GPUs tiles then use each weight 64 times, as those of f32 do. */
const manyRows = (traits: GpuTraits) => (traits.software ? 5 : 16);

/** c (M, N) = a (M, K) times a quantised b (N, K). */
export function quantizedMatmulWgsl({ M, K, N }: Product, a: Whole, b: Tensor, c: Whole, traits: GpuTraits): GpuDispatch[] {
  if (M * N === 0) return [];
  const format = b.dtype as QuantFormat;
  const [G, B] = [Math.ceil(K / 32), Math.ceil(N / 8)];
  const many = M >= manyRows(traits) && K > 0;
  const blockRanges = rowRanges('matmul', B, [G * blockBytes[format], G * 16], traits);
  return rowRanges('matmul', M, [K * 4, N * 4, G * 32], traits).flatMap((rows) => {
    const [from, to] = [rows.part(a, K * 4), rows.part(c, N * 4)];
    if (!many) {
      return blockRanges.map(({ start, rows: blocks }) => {
        const range = { left: 'plain', gated: false, inputs: [from], b, start, blocks, outputs: [to] } as const;
        return quantizedDotRange({ ...range, M: rows.rows, NC: N, K, K1: 0, eps: 0 }, traits);
      });
    }
    const [words, steps] = [new Scratch(rows.rows * G * 32), new Scratch(Math.max(4, rows.rows * G * 4))];
    const n = rows.rows * G;
    const round = perThread(roundKernel(), n, traits, { bind: [from, words, steps], params: { n, K, G } });
    const k = (traits.software ? rowsKernel : tiledKernel)(format, traits.packedDot);
    const products = blockRanges.map(({ start, rows: blocks }) => {
      const groups = traits.software
        ? Math.ceil((Math.ceil(rows.rows / 8) * blocks) / k.workgroup)
        : Math.ceil(rows.rows / tile) * Math.ceil(blocks / 8);
      const bind: Operand[] = [words, steps, ...blockParts(b, G, start, blocks), to];
      const params = { M: rows.rows, N: Math.min(N - start * 8, blocks * 8), G, B: blocks, n0: start * 8, NC: N };
      return { kernel: k, bind, params, groups: fold(groups, traits) };
    });
    return [round, ...products];
  });
}
