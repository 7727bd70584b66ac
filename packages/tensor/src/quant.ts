import { type DType, isQuantized, storageByteSize, type WeightFormat } from './dtype.js';
import { RangeOpError, ShapeError } from './errors.js';
import { fromBf16, fromF16, toBf16, toF16 } from './half.js';
import { quantizeGroup4, quantizeGroup8 } from './quant-group.js';
import { type Shape, showShape, sizeOf } from './shape.js';

// How a weight matrix (N, K) lies in memory and in files when it is not f32; packages/tensor/README.md shows the layouts.
// Quantised: rows in blocks of 8, columns in groups of 32, both filled up with zeros; of a block and group, 8 x 32 values lie together, in
// quads of 4 columns, so that one vector load takes 4 columns of 4 rows: kernels stream a block and keep a row in a lane.

/** Rows of a quantised matrix that lie together. */
export const blockRows = 8;
/** Columns that share a scale. */
export const groupColumns = 32;

/** A part of a stored weight: a tensor of its own in a safetensors file, named by the weight's name and `suffix`. */
export interface WeightPart {
  readonly suffix: string;
  /** The dtype in the file. */
  readonly dtype: 'F16' | 'BF16' | 'I8' | 'U8';
  readonly shape: Shape;
  /** Where the part begins in the memory of a tensor. */
  readonly offset: number;
  readonly bytes: number;
}

const blocks = (shape: Shape) => Math.ceil(shape[0]! / blockRows);
const groups = (shape: Shape) => Math.ceil(shape[1]! / groupColumns);
// A part begins where a GPU lets a binding begin.
const aligned = (bytes: number) => Math.ceil(bytes / 256) * 256;

/** The parts of a weight of this format and shape. Throws ShapeError unless a quantised one has two axes. */
export function weightParts(format: WeightFormat, shape: Shape): readonly WeightPart[] {
  if (!isQuantized(format)) {
    const dtype = format === 'f16' ? 'F16' : 'BF16';
    return [{ suffix: '', dtype, shape, offset: 0, bytes: sizeOf(shape) * 2 }];
  }
  if (shape.length !== 2) {
    throw new ShapeError(`${format}: only matrices (N, K) are kept quantised; got ${showShape(shape)}; keep other weights as f32`);
  }
  const [N8, G] = [blocks(shape), groups(shape)];
  const each = format === 'q8' ? 256 : 128;
  const offset = aligned(N8 * G * each);
  return [
    format === 'q8'
      ? { suffix: '.q8', dtype: 'I8', shape: [N8, G, 8, 8, 4], offset: 0, bytes: N8 * G * each }
      : { suffix: '.q4', dtype: 'U8', shape: [N8, G, 8, 4, 4], offset: 0, bytes: N8 * G * each },
    { suffix: '.scales', dtype: 'F16', shape: [N8, G, 8], offset, bytes: N8 * G * 16 },
  ];
}

/** Bytes that a tensor of this dtype and shape takes on a device. */
export function tensorBytes(dtype: DType, shape: Shape): number {
  if (!isQuantized(dtype)) return sizeOf(shape) * storageByteSize(dtype);
  const last = weightParts(dtype, shape)[1]!;
  return last.offset + last.bytes;
}

/** The part of a weight's layout that `rows` rows from `row` on cover: where it begins in each part, and its bytes. */
export function rowRange(
  format: WeightFormat,
  shape: Shape,
  row: number,
  rows: number,
): { readonly offset: number; readonly bytes: number }[] {
  const parts = weightParts(format, shape);
  if (!isQuantized(format)) {
    const each = (sizeOf(shape) / Math.max(1, shape[0] ?? 1)) * 2;
    return [{ offset: row * each, bytes: rows * each }];
  }
  const N8 = Math.max(1, blocks(shape));
  return parts.map(({ offset, bytes }) => {
    const each = bytes / N8;
    return { offset: offset + (row / blockRows) * each, bytes: Math.ceil(rows / blockRows) * each };
  });
}

/** f32 values of little-endian stored rows; no copy where they are f32 and aligned. */
export function widen(bytes: Uint8Array, dtype: 'f32' | 'f16' | 'bf16'): Float32Array {
  if (dtype === 'f32') {
    const whole = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
    return new Float32Array(whole.buffer, whole.byteOffset, whole.byteLength / 4);
  }
  const whole = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  const halves = new Uint16Array(whole.buffer, whole.byteOffset, whole.byteLength / 2);
  const values = new Float32Array(halves.length);
  if (dtype === 'bf16') {
    const words = new Uint32Array(values.buffer);
    for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16;
  } else for (let i = 0; i < halves.length; i++) values[i] = fromF16(halves[i]!);
  return values;
}

/**
 * Rows of a weight matrix, values (n, K), in a weight format: the bytes of each part of `weightParts(format, [n, K])`. A pure function of
 * the rows, in blocks of 8: a matrix quantised in pieces of whole blocks has the bytes of the matrix quantised at once.
 *
 * q8: scale = f16(max|w| / 127), value = round(w / scale). q4: of a range of scales the one with the least squared error, values -8 to 7.
 * Throws RangeOpError, naming the place counted from `firstRow`, for NaN, infinite values and groups beyond what an f16 scale reaches.
 */
export function quantizeRows(format: WeightFormat, values: Float32Array, K: number, firstRow = 0): Uint8Array[] {
  const n = K === 0 ? 0 : values.length / K;
  if (!Number.isInteger(n)) throw new ShapeError(`quantizeRows: ${values.length} values are not whole rows of ${K}`);
  if (!isQuantized(format)) {
    const halves = new Uint16Array(values.length);
    const convert = format === 'f16' ? toF16 : toBf16;
    for (let i = 0; i < values.length; i++) {
      halves[i] = convert(values[i]!);
      if (Math.abs(values[i]!) <= 3.4028234663852886e38 && !(format === 'f16' && (halves[i]! & 0x7fff) === 0x7c00)) continue;
      refuse(format, values[i]!, firstRow + Math.floor(i / K), i % K);
    }
    return [new Uint8Array(halves.buffer)];
  }
  const [first, second] = weightParts(format, [n, K]) as [WeightPart, WeightPart];
  const quants = new Uint8Array(first.bytes);
  const scales = new Uint16Array(second.bytes / 2);
  const G = groups([n, K]);
  const group = new Float32Array(groupColumns);
  const codes = new Int8Array(groupColumns);
  const quantize = format === 'q8' ? quantizeGroup8 : quantizeGroup4;
  const pack = format === 'q8' ? packQ8 : packQ4;
  for (let row = 0; row < n; row++) {
    for (let g = 0; g < G; g++) {
      const at = row * K + g * groupColumns;
      const count = Math.min(groupColumns, K - g * groupColumns);
      let most = 0;
      for (let i = 0; i < count; i++) {
        const value = values[at + i]!;
        group[i] = value;
        const magnitude = Math.abs(value);
        // Nothing is larger than NaN, so that it stays.
        if (magnitude > most || Number.isNaN(magnitude)) most = magnitude;
      }
      if (count < groupColumns) group.fill(0, count);
      // 65504 is the largest f16; at 4 bits a scale is at most a sixth of the largest value.
      if (!(most < 65504 * (format === 'q8' ? 127 : 6))) {
        const i = group.findIndex((value) => Object.is(Math.abs(value), most));
        refuse(format, group[i]!, firstRow + row, g * groupColumns + i);
      }
      const block = Math.floor(row / blockRows) * G + g;
      scales[block * blockRows + (row % blockRows)] = quantize(group, codes);
      pack(codes, quants, block, row % blockRows);
    }
  }
  return [quants, new Uint8Array(scales.buffer)];
}

function refuse(format: WeightFormat, value: number, row: number, column: number): never {
  throw new RangeOpError(
    `quantizeRows: the value at row ${row}, column ${column} is ${value}, which ${format} cannot hold; ${Number.isFinite(value) ? 'keep this weight as f32' : 'the weights are damaged or come from a diverged run'}`,
  );
}

function packQ8(codes: Int8Array, quants: Uint8Array, block: number, row: number): void {
  const to = block * 256 + row * 4;
  for (let k = 0; k < groupColumns; k++) quants[to + (k >> 2) * 32 + (k & 3)] = codes[k]!;
}

// Rows 0 to 3 of a block lie in the low halves of the bytes, rows 4 to 7 in the high ones.
function packQ4(codes: Int8Array, quants: Uint8Array, block: number, row: number): void {
  const to = block * 128 + (row & 3) * 4;
  const shift = row & 4;
  for (let k = 0; k < groupColumns; k++) quants[to + (k >> 2) * 16 + (k & 3)]! |= (codes[k]! + 8) << shift;
}

/** The values (n, K) that parts hold, those of `quantizeRows(format, ..., K)`. */
export function dequantizeRows(format: WeightFormat, parts: readonly Uint8Array[], n: number, K: number): Float32Array {
  const [quants, second] = parts as [Uint8Array, Uint8Array];
  if (!isQuantized(format)) return widen(quants, format);
  const values = new Float32Array(n * K);
  const G = groups([n, K]);
  const at = new DataView(second.buffer, second.byteOffset, second.byteLength);
  for (let row = 0; row < n; row++) {
    const r = row % blockRows;
    for (let g = 0; g < G; g++) {
      const block = Math.floor(row / blockRows) * G + g;
      const scale = fromF16(at.getUint16((block * blockRows + r) * 2, true));
      const end = Math.min(groupColumns, K - g * groupColumns);
      for (let k = 0; k < end; k++) {
        const code =
          format === 'q8'
            ? (quants[block * 256 + (k >> 2) * 32 + r * 4 + (k & 3)]! << 24) >> 24
            : ((quants[block * 128 + (k >> 2) * 16 + (r & 3) * 4 + (k & 3)]! >> (r & 4)) & 15) - 8;
        values[row * K + g * groupColumns + k] = code * scale;
      }
    }
  }
  return values;
}

/** Throws ShapeError or RangeOpError for parts from a file that no quantiser made: of other sizes, or with scales that are not finite. */
export function checkParts(format: WeightFormat, shape: Shape, parts: readonly Uint8Array[]): void {
  const expected = weightParts(format, shape);
  if (parts.length !== expected.length || expected.some(({ bytes }, i) => parts[i]!.byteLength !== bytes)) {
    const needs = expected.map(({ suffix, bytes }) => `${bytes} bytes${suffix === '' ? '' : ` (${suffix})`}`).join(' and ');
    throw new ShapeError(`${format}${showShape(shape)} needs ${needs}; got ${parts.map((part) => part.byteLength).join(' and ')}`);
  }
  checkHalves(format, shape, parts[parts.length - 1]!);
}

/** Throws RangeOpError unless all halves are finite: scales, or the values themselves, of which `halves` begins with number `first`. */
export function checkHalves(format: WeightFormat, shape: Shape, halves: Uint8Array, first = 0): void {
  const exponents = format === 'bf16' ? 0x7f80 : 0x7c00;
  const finite = (half: number) => (half & exponents) !== exponents;
  const count = halves.byteLength >> 1;
  let i = 0;
  if (halves.byteOffset % 2 === 0) {
    const words = new Uint16Array(halves.buffer, halves.byteOffset, count);
    while (i < count && finite(words[i]!)) i++;
  } else while (i < count && finite(halves[2 * i]! | (halves[2 * i + 1]! << 8))) i++;
  if (i === count) return;
  const half = halves[2 * i]! | (halves[2 * i + 1]! << 8);
  const what = `${isQuantized(format) ? 'scale' : 'value'} ${first + i}`;
  const value = format === 'bf16' ? fromBf16(half) : fromF16(half);
  throw new RangeOpError(`${format}${showShape(shape)}: ${what} is ${value}; the file is damaged or was saved from a diverged run`);
}
