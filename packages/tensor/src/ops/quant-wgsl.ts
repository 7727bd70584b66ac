import { weightParts } from '../quant.js';
import type { Tensor } from '../tensor.js';
import {
  type Fault,
  fold,
  type GpuDispatch,
  kernel,
  type Operand,
  type Part,
  perThread,
  rowRanges,
  type Scratch,
} from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';

// WGSL over the layouts of src/quant.ts: a word of q8 is four columns of a row; a word of q4 four columns of row r in the low halves of its
// bytes and of row r + 4 in the high ones. Activations are rounded to int8 on the way, as on the CPU, and dot products are exact integers.

const each = (count: number, f: (i: number) => string) => Array.from({ length: count }, (_, i) => f(i)).join('\n  ');
const vec4 = (f: (i: number) => string) => `vec4i(${[0, 1, 2, 3].map(f).join(', ')})`;

const scaleSource = `fn half_f(h: u32) -> f32 {
  let m = h & 0x3ffu;
  let e = (h >> 10u) & 0x1fu;
  // Subnormals become whole numbers times 2^-24: both are normal in f32, so a GPU that flushes subnormals gives them too.
  let small = bitcast<u32>(f32(m) * 5.9604644775390625e-8);
  return bitcast<f32>(((h & 0x8000u) << 16u) | select(((e + 112u) << 23u) | (m << 13u), small, e == 0u));
}`;

const dotSource = (packed: boolean) =>
  packed
    ? `fn dot_i8(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }`
    : `fn dot_i8(a: u32, b: u32) -> i32 {
  let x = vec4i(bitcast<i32>(a << 24u), bitcast<i32>(a << 16u), bitcast<i32>(a << 8u), bitcast<i32>(a)) >> vec4u(24u);
  let y = vec4i(bitcast<i32>(b << 24u), bitcast<i32>(b << 16u), bitcast<i32>(b << 8u), bitcast<i32>(b)) >> vec4u(24u);
  return dot(x, y);
}`;

const lanes = 64;

/** Rows of activations that a thread takes at once: it reads a word of weights for all of them. */
const rowsFor = (M: number) => (M >= 3 ? 4 : M);

/**
 * R rows of c by a block of 8 columns: `serial`, a thread for all of k, as software adapters like it; else a workgroup, whose lanes take a
 * group of 32 columns each in turn and meet in shared memory.
 */
const productKernel = (format: 'q8' | 'q4', R: number, serial: boolean, packed: boolean) =>
  kernel(`matmul.${format}`, [R, serial ? 'serial' : 'group', packed ? 'packed' : 'plain'], () => {
    const unit = serial ? 'index' : 'group';
    const word = (j: string, r: number) => `w[at + ${j} * ${format === 'q8' ? 8 : 4}u + ${r}u]`;
    const products = (r: number) =>
      format === 'q8'
        ? `lo${r} += ${vec4((i) => `dot_i8(w${i}, q)`)};
        hi${r} += ${vec4((i) => `dot_i8(w${i + 4}, q)`)};`
        : `lo${r} += ${vec4((i) => `dot_i8(w${i} & 0x0f0f0f0fu, q)`)};
        hi${r} += ${vec4((i) => `dot_i8((w${i} >> 4u) & 0x0f0f0f0fu, q)`)};
        all${r} += dot_i8(q, 0x01010101u);`;
    const sums = format === 'q8' ? ['', ''] : [' - vec4i(8 * ALL)', ' - vec4i(8 * ALL)'];
    const store = (row: string, lo: string, hi: string) => `let to = (${row}) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = ${lo}[j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = ${hi}[j]; }
    }`;
    return {
      params: { M: 'u32', N: 'u32', K: 'u32', G: 'u32', B: 'u32', n0: 'u32', NC: 'u32' },
      read: { a: 'f32', w: 'u32', scales: 'vec4u' },
      write: { c: 'f32' },
      workgroup: lanes,
      outside: `${scaleSource}
${dotSource(packed)}
fn value(row: u32, k: u32) -> f32 {
  if (k < p.K) { return a[row * p.K + k]; }
  return 0.0;
}
/** The largest magnitude of a group, as bits: NaN counts as the largest. */
fn largest(row: u32, g: u32) -> u32 {
  var most = 0u;
  for (var k = g * 32u; k < min(g * 32u + 32u, p.K); k++) { most = max(most, bitcast<u32>(a[row * p.K + k]) & 0x7fffffffu); }
  return most;
}
fn rounded(row: u32, k: u32, inverse: f32) -> u32 {
  let x = vec4f(value(row, k), value(row, k + 1u), value(row, k + 2u), value(row, k + 3u));
  let q = vec4u(vec4i(round(x * inverse))) & vec4u(255u);
  return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}${serial ? '' : `\nvar<workgroup> partial: array<vec4f, ${2 * R * lanes}>;`}`,
      body: `let block = ${unit} % p.B;
  let m = (${unit} / p.B) * ${R}u;
  if (m >= p.M) { return; }
  ${each(R, (r) => `let m${r} = min(m + ${r}u, p.M - 1u);\n  var low${r} = vec4f();\n  var high${r} = vec4f();`)}
  for (var g = ${serial ? '0u' : 'lane'}; g < p.G; g += ${serial ? 1 : lanes}u) {
    let s = scales[block * p.G + g];
    let slow = vec4f(half_f(s.x & 0xffffu), half_f(s.x >> 16u), half_f(s.y & 0xffffu), half_f(s.y >> 16u));
    let shigh = vec4f(half_f(s.z & 0xffffu), half_f(s.z >> 16u), half_f(s.w & 0xffffu), half_f(s.w >> 16u));
    let at = (block * p.G + g) * ${format === 'q8' ? 64 : 32}u;
    ${each(
      R,
      (r) => `let most${r} = largest(m${r}, g);
    let inverse${r} = select(127.0 / bitcast<f32>(most${r}), 0.0, most${r} == 0u);
    var lo${r} = vec4i();
    var hi${r} = vec4i();${format === 'q4' ? `\n    var all${r} = 0;` : ''}`,
    )}
    for (var j = 0u; j < 8u; j++) {
      ${each(format === 'q8' ? 8 : 4, (i) => `let w${i} = ${word('j', i)};`)}
      ${each(R, (r) => `{\n        let q = rounded(m${r}, g * 32u + j * 4u, inverse${r});\n        ${products(r)}\n      }`)}
    }
    ${each(
      R,
      (r) => `{
      // A group with NaN or infinity makes its row NaN.
      let bad = most${r} >= 0x7f800000u;
      let scale = bitcast<f32>(select(bitcast<u32>(bitcast<f32>(most${r}) / 127.0), 0x7fc00000u, bad));
      low${r} += vec4f(lo${r}${sums[0]!.replace('ALL', `all${r}`)}) * (slow * scale);
      high${r} += vec4f(hi${r}${sums[1]!.replace('ALL', `all${r}`)}) * (shigh * scale);
    }`,
    )}
  }
  ${
    serial
      ? each(R, (r) => `if (m + ${r}u < p.M) {\n    ${store(`m + ${r}u`, `low${r}`, `high${r}`)}\n  }`)
      : `${each(R, (r) => `partial[lane * ${2 * R}u + ${2 * r}u] = low${r};\n  partial[lane * ${2 * R}u + ${2 * r + 1}u] = high${r};`)}
  for (var step = ${lanes / 2}u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      for (var i = 0u; i < ${2 * R}u; i++) { partial[lane * ${2 * R}u + i] += partial[(lane + step) * ${2 * R}u + i]; }
    }
  }
  workgroupBarrier();
  if (lane < ${R}u && m + lane < p.M) {
    ${store('m + lane', 'partial[2u * lane]', 'partial[2u * lane + 1u]')}
  }`
  }`,
      ...(packed ? { requires: ['packed_4x8_integer_dot_product'] } : {}),
    };
  });

interface Product {
  readonly M: number;
  readonly K: number;
  readonly N: number;
}

/** What blocks `start` to `start + count` of a quantised matrix take in its memory: values and scales. */
function blockParts(weight: Tensor, G: number, start: number, count: number): [Part, Part] {
  const values = weight.dtype === 'q8' ? 256 : 128;
  const scales = weightParts(weight.dtype as 'q8' | 'q4', weight.shape)[1]!.offset;
  return [
    { tensor: weight, offset: start * G * values, bytes: count * G * values },
    { tensor: weight, offset: scales + start * G * 16, bytes: count * G * 16 },
  ];
}

/** c (M, N) = a (M, K) times a quantised b (N, K). */
export function quantizedMatmulWgsl({ M, K, N }: Product, a: Operand, b: Tensor, c: Operand, traits: GpuTraits): GpuDispatch[] {
  if (M * N === 0) return [];
  const format = b.dtype as 'q8' | 'q4';
  const [G, B] = [Math.ceil(K / 32), Math.ceil(N / 8)];
  const R = rowsFor(M);
  const k = productKernel(format, R, traits.software, traits.packedDot);
  const part = (of: Operand, rows: { start: number; rows: number }, rowBytes: number): Operand =>
    rows.rows === M ? of : { tensor: of as Tensor | Scratch, offset: rows.start * rowBytes, bytes: rows.rows * rowBytes };
  return rowRanges('matmul', M, [K * 4, N * 4], traits).flatMap((rows) =>
    rowRanges('matmul', B, [G * (format === 'q8' ? 256 : 128), G * 16], traits).map((blocks) => {
      const units = Math.ceil(rows.rows / R) * blocks.rows;
      return {
        kernel: k,
        bind: [part(a, rows, K * 4), ...blockParts(b, G, blocks.start, blocks.rows), part(c, rows, N * 4)],
        params: { M: rows.rows, N: Math.min(N - blocks.start * 8, blocks.rows * 8), K, G, B: blocks.rows, n0: blocks.start * 8, NC: N },
        groups: fold(traits.software ? Math.ceil(units / k.workgroup) : units, traits),
      };
    }),
  );
}

// first and count are the rows of the matrix that this dispatch sees; R all of them.
const rowsKernel = (format: 'q8' | 'q4') =>
  kernel(`gatherRows.${format}`, [], () => ({
    params: { n: 'u32', width: 'u32', G: 'u32', R: 'i32', first: 'i32', count: 'i32', start: 'u32' },
    read: { w: 'u32', scales: 'u32', indices: 'i32' },
    write: { y: 'f32' },
    faults: true,
    outside: scaleSource,
    body: `if (index >= p.n) { return; }
  let place = index / p.width;
  let k = index % p.width;
  let row = indices[place];
  if (row < 0 || row >= p.R) {
    y[index] = 0.0;
    report(row, p.start + place);
    return;
  }
  if (row < p.first || row >= p.first + p.count) { return; }
  let local = u32(row - p.first);
  let r = local % 8u;
  let cell = (local / 8u) * p.G + k / 32u;
  let quad = (k % 32u) / 4u;
  let both = scales[cell * 4u + r / 2u] >> (16u * (r % 2u));
  ${
    format === 'q8'
      ? `let word = w[cell * 64u + quad * 8u + r];
  let code = bitcast<i32>(word << (24u - 8u * (k % 4u))) >> 24u;`
      : `let word = w[cell * 32u + quad * 4u + r % 4u];
  let code = i32((word >> (8u * (k % 4u) + (r & 4u))) & 15u) - 8;`
  }
  y[index] = f32(code) * half_f(both & 0xffffu);`,
  }));

/** The rows of a quantised table that `index` names, as f32. */
export function quantizedRowsWgsl(table: Tensor, index: Tensor, out: Tensor, fault: Fault, traits: GpuTraits): GpuDispatch[] {
  const format = table.dtype as 'q8' | 'q4';
  const [R, width] = table.shape as [number, number];
  const G = Math.ceil(width / 32);
  return rowRanges('gatherRows', index.size, [width * 4, 4], traits).flatMap((places) =>
    rowRanges('gatherRows', Math.ceil(R / 8), [G * (format === 'q8' ? 256 : 128), G * 16], traits).map((blocks) =>
      perThread(rowsKernel(format), places.rows * width, traits, {
        bind: [...blockParts(table, G, blocks.start, blocks.rows), places.part(index, 4), places.part(out, width * 4)],
        params: { n: places.rows * width, width, G, R, first: blocks.start * 8, count: blocks.rows * 8, start: places.start },
        fault,
      }),
    ),
  );
}
