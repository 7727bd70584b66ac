import { weightParts } from '../quant.js';
import type { Tensor } from '../tensor.js';
import { type Fault, type GpuDispatch, kernel, type Part, perThread, rowRanges } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';

// WGSL over the layouts of src/quant.ts: a word of q8 is four columns of a row; a word of q4 four columns of row r in the low halves of its
// bytes and of row r + 4 in the high ones. Activations are rounded to int8 on the way, as on the CPU, and dot products are exact integers.

export type QuantFormat = 'q8' | 'q4';

/** The f32 of an f16 in the low half of a word. */
export const halfSource = `fn half_f(h: u32) -> f32 {
  let m = h & 0x3ffu;
  let e = (h >> 10u) & 0x1fu;
  // Subnormals become whole numbers times 2^-24: both are normal in f32, so a GPU that flushes subnormals gives them too.
  let small = bitcast<u32>(f32(m) * 5.9604644775390625e-8);
  return bitcast<f32>(((h & 0x8000u) << 16u) | select(((e + 112u) << 23u) | (m << 13u), small, e == 0u));
}`;

export const dotSource = (packed: boolean) =>
  packed
    ? `fn dot_i8(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }`
    : `fn dot_i8(a: u32, b: u32) -> i32 {
  let x = vec4i(bitcast<i32>(a << 24u), bitcast<i32>(a << 16u), bitcast<i32>(a << 8u), bitcast<i32>(a)) >> vec4u(24u);
  let y = vec4i(bitcast<i32>(b << 24u), bitcast<i32>(b << 16u), bitcast<i32>(b << 8u), bitcast<i32>(b)) >> vec4u(24u);
  return dot(x, y);
}`;

/** Rounds left rows to int8 as the CPU does: `largest` of a vector in bits, where NaN counts as the largest, and what a group makes of it. */
export const roundSource = `fn largest(x: vec4f) -> u32 {
  let bits = bitcast<vec4u>(x) & vec4u(0x7fffffffu);
  return max(max(bits.x, bits.y), max(bits.z, bits.w));
}
fn inverse_of(most: u32) -> f32 { return select(127.0 / bitcast<f32>(most), 0.0, most == 0u); }
/** A group with NaN or infinity makes its row NaN. */
fn scale_of(most: u32) -> f32 {
  return bitcast<f32>(select(bitcast<u32>(bitcast<f32>(most) / 127.0), 0x7fc00000u, most >= 0x7f800000u));
}
fn rounded(x: vec4f) -> u32 {
  let q = vec4u(vec4i(round(x))) & vec4u(255u);
  return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}`;

/** Words of weights for four columns of a block. */
export const wordsOf: Record<QuantFormat, number> = { q8: 8, q4: 4 };

const dots = (f: (i: number) => string) => `vec4i(${[0, 1, 2, 3].map(f).join(', ')})`;

/** The exact sums of row r over a group: names that begin it, what a word q of four left values adds with words w0, w1, ..., and the sums. */
export const weightProducts: Record<QuantFormat, Record<'begin' | 'add' | 'low' | 'high', (r: number) => string>> = {
  q8: {
    begin: (r) => `var lo${r} = vec4i();\n      var hi${r} = vec4i();`,
    add: (r) => `lo${r} += ${dots((i) => `dot_i8(w${i}, q)`)};
          hi${r} += ${dots((i) => `dot_i8(w${i + 4}, q)`)};`,
    low: (r) => `lo${r}`,
    high: (r) => `hi${r}`,
  },
  // Codes are 8 more than values.
  q4: {
    begin: (r) => `var lo${r} = vec4i();\n      var hi${r} = vec4i();\n      var all${r} = 0;`,
    add: (r) => `lo${r} += ${dots((i) => `dot_i8(w${i} & 0x0f0f0f0fu, q)`)};
          hi${r} += ${dots((i) => `dot_i8((w${i} >> 4u) & 0x0f0f0f0fu, q)`)};
          all${r} += dot_i8(q, 0x01010101u);`,
    low: (r) => `lo${r} - vec4i(8 * all${r})`,
    high: (r) => `hi${r} - vec4i(8 * all${r})`,
  },
};

/** Bytes of the values of a block in a group of 32 columns. */
export const blockBytes: Record<QuantFormat, number> = { q8: 256, q4: 128 };

/** What blocks `start` to `start + count` of a quantised matrix take in its memory: values and scales. */
export function blockParts(weight: Tensor, G: number, start: number, count: number): [Part, Part] {
  const format = weight.dtype as QuantFormat;
  const values = blockBytes[format];
  const scales = weightParts(format, weight.shape)[1]!.offset;
  return [
    { tensor: weight, offset: start * G * values, bytes: count * G * values },
    { tensor: weight, offset: scales + start * G * 16, bytes: count * G * 16 },
  ];
}

// first and count are the rows of the matrix that this dispatch sees; R all of them.
const rowsKernel = (format: QuantFormat) =>
  kernel(`gatherRows.${format}`, [], () => ({
    params: { n: 'u32', width: 'u32', G: 'u32', R: 'i32', first: 'i32', count: 'i32', start: 'u32' },
    read: { w: 'u32', scales: 'u32', indices: 'i32' },
    write: { y: 'f32' },
    faults: true,
    outside: halfSource,
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
  const format = table.dtype as QuantFormat;
  const [R, width] = table.shape as [number, number];
  const G = Math.ceil(width / 32);
  return rowRanges('gatherRows', index.size, [width * 4, 4], traits).flatMap((places) =>
    rowRanges('gatherRows', Math.ceil(R / 8), [G * blockBytes[format], G * 16], traits).map((blocks) =>
      perThread(rowsKernel(format), places.rows * width, traits, {
        bind: [...blockParts(table, G, blocks.start, blocks.rows), places.part(index, 4), places.part(out, width * 4)],
        params: { n: places.rows * width, width, G, R, first: blocks.start * 8, count: blocks.rows * 8, start: places.start },
        fault,
      }),
    ),
  );
}
