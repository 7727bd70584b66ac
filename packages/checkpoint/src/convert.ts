import { bitsPerElement, type SafetensorsDtype } from './dtype.js';
import { CheckpointError } from './errors.js';
import { halfTable, roundToBfloat, roundToHalf } from './half.js';

export type SafetensorsArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

const LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Sign, exponent and fraction widths of the 8-bit floats, and how each spends its top codes. */
const SMALL_FLOATS = {
  F8_E5M2: { exponent: 5, fraction: 2, bias: 15, specials: 'ieee' },
  F8_E4M3: { exponent: 4, fraction: 3, bias: 7, specials: 'nan-at-all-ones' },
  F8_E5M2FNUZ: { exponent: 5, fraction: 2, bias: 16, specials: 'nan-at-minus-zero' },
  F8_E4M3FNUZ: { exponent: 4, fraction: 3, bias: 8, specials: 'nan-at-minus-zero' },
} as const;

type SmallFloat = keyof typeof SMALL_FLOATS;

const smallFloatTables = new Map<string, Float32Array>();

/** The 256 values of an 8-bit float (arXiv 2209.05433 for E4M3 and E5M2, arXiv 2206.02915 for FNUZ, OCP MX 1.0 for E8M0). */
function smallFloatTable(dtype: SmallFloat | 'F8_E8M0'): Float32Array {
  const known = smallFloatTables.get(dtype);
  if (known !== undefined) return known;
  const values = new Float32Array(256);
  for (let code = 0; code < 256; code++) values[code] = dtype === 'F8_E8M0' ? scaleOf(code) : smallFloatOf(dtype, code);
  smallFloatTables.set(dtype, values);
  return values;
}

function scaleOf(code: number): number {
  return code === 255 ? Number.NaN : 2 ** (code - 127);
}

function smallFloatOf(dtype: SmallFloat, code: number): number {
  const { exponent: exponentBits, fraction: fractionBits, bias, specials } = SMALL_FLOATS[dtype];
  const sign = code >= 128 ? -1 : 1;
  const exponent = (code & 0x7f) >>> fractionBits;
  const fraction = code & ((1 << fractionBits) - 1);
  if (specials === 'nan-at-minus-zero' && code === 0x80) return Number.NaN;
  if (specials === 'nan-at-all-ones' && (code & 0x7f) === 0x7f) return Number.NaN;
  if (specials === 'ieee' && exponent === (1 << exponentBits) - 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias - fractionBits);
  return sign * (1 + fraction * 2 ** -fractionBits) * 2 ** (exponent - bias);
}

/** The bytes at an address that any typed array accepts, in the byte order of this machine. Always a copy. */
function nativeBytes(bytes: Uint8Array, width: number): ArrayBuffer {
  const copy = new Uint8Array(bytes.length);
  copy.set(bytes);
  if (!LITTLE_ENDIAN && width > 1) {
    for (let at = 0; at < copy.length; at += width) copy.subarray(at, at + width).reverse();
  }
  return copy.buffer;
}

function checkWhole(who: string, bytes: Uint8Array, dtype: SafetensorsDtype): void {
  const width = bitsPerElement(dtype) / 8;
  if (Number.isInteger(width) && bytes.length % width !== 0) {
    throw new CheckpointError('bad-argument', `${who}: ${bytes.length} bytes are not a whole number of ${dtype} values of ${width} bytes.`);
  }
}

function unsupported(who: string, dtype: SafetensorsDtype): CheckpointError {
  const why = dtype === 'C64' ? 'a complex value is two numbers' : 'the format does not say how its values are packed into bytes';
  return new CheckpointError('unsupported-dtype', `${who}: ${dtype} has no conversion: ${why}. Take the bytes as they are.`);
}

/**
 * The values as the plainest typed array that holds them exactly: F16, BF16 and 8-bit floats as Float32Array, I64 and U64
 * as bigint arrays, BOOL as Uint8Array, all others as themselves. Always a copy; `bytes` may lie at any address.
 * @throws CheckpointError `unsupported-dtype` for C64, F4, F6_E2M3 and F6_E3M2
 */
export function toTypedArray(bytes: Uint8Array, dtype: SafetensorsDtype): SafetensorsArray {
  checkWhole('toTypedArray', bytes, dtype);
  switch (dtype) {
    case 'F32':
      return new Float32Array(nativeBytes(bytes, 4));
    case 'F64':
      return new Float64Array(nativeBytes(bytes, 8));
    case 'BOOL':
    case 'U8':
      return new Uint8Array(nativeBytes(bytes, 1));
    case 'I8':
      return new Int8Array(nativeBytes(bytes, 1));
    case 'U16':
      return new Uint16Array(nativeBytes(bytes, 2));
    case 'I16':
      return new Int16Array(nativeBytes(bytes, 2));
    case 'U32':
      return new Uint32Array(nativeBytes(bytes, 4));
    case 'I32':
      return new Int32Array(nativeBytes(bytes, 4));
    case 'U64':
      return new BigUint64Array(nativeBytes(bytes, 8));
    case 'I64':
      return new BigInt64Array(nativeBytes(bytes, 8));
    case 'F16':
      return f16ToFloat32(new Uint16Array(nativeBytes(bytes, 2)));
    case 'BF16':
      return bf16ToFloat32(new Uint16Array(nativeBytes(bytes, 2)));
    case 'F8_E5M2':
    case 'F8_E4M3':
    case 'F8_E8M0':
    case 'F8_E5M2FNUZ':
    case 'F8_E4M3FNUZ': {
      const table = smallFloatTable(dtype);
      const values = new Float32Array(bytes.length);
      for (let at = 0; at < values.length; at++) values[at] = table[bytes[at] as number] as number;
      return values;
    }
    default:
      throw unsupported('toTypedArray', dtype);
  }
}

/**
 * The values as f32. Exact for every float of 32 bits or fewer; F64 is rounded to nearest; integers must be exact in f32.
 * @throws CheckpointError `unsafe-number` for an integer that f32 cannot hold, `unsupported-dtype` as `toTypedArray`
 */
export function toFloat32(bytes: Uint8Array, dtype: SafetensorsDtype): Float32Array {
  const values = toTypedArray(bytes, dtype);
  if (values instanceof Float32Array) return values;
  if (values instanceof Float64Array) return new Float32Array(values);
  return fill(new Float32Array(values.length), values, dtype, 'toFloat32', (value) => Math.fround(value) === value);
}

/**
 * The values as f64, exact for every dtype but large 64-bit integers.
 * @throws CheckpointError `unsafe-number` for an I64 or U64 beyond 2^53-1, `unsupported-dtype` as `toTypedArray`
 */
export function toFloat64(bytes: Uint8Array, dtype: SafetensorsDtype): Float64Array {
  const values = toTypedArray(bytes, dtype);
  return values instanceof Float64Array ? values : fill(new Float64Array(values.length), values, dtype, 'toFloat64', () => true);
}

/**
 * Integer values as i32; BOOL as 0 and 1.
 * @throws CheckpointError `unsafe-number` for a value outside i32, `unsupported-dtype` for a dtype that is not an integer
 */
export function toInt32(bytes: Uint8Array, dtype: SafetensorsDtype): Int32Array {
  if (!isIntegerDtype(dtype)) throw new CheckpointError('unsupported-dtype', `toInt32: ${dtype} is not an integer dtype.`);
  const values = toTypedArray(bytes, dtype);
  if (values instanceof Int32Array) return values;
  const out = new Int32Array(values.length);
  if (dtype === 'BOOL') return out.map((_, at) => (values[at] === 0 ? 0 : 1));
  return fill(out, values, dtype, 'toInt32', (value) => value === (value | 0));
}

export function isIntegerDtype(dtype: SafetensorsDtype): boolean {
  return dtype === 'BOOL' || /^[IU](8|16|32|64)$/.test(dtype);
}

function fill<Out extends Float32Array | Float64Array | Int32Array>(
  out: Out,
  values: SafetensorsArray,
  dtype: SafetensorsDtype,
  who: string,
  fits: (value: number) => boolean,
): Out {
  for (let at = 0; at < out.length; at++) {
    const value = values[at] as number | bigint;
    const number = Number(value);
    if ((typeof value === 'bigint' && !Number.isSafeInteger(number)) || !fits(number)) {
      throw new CheckpointError(
        'unsafe-number',
        `${who}: value ${at} of the ${dtype} tensor is ${value}, which the result cannot hold exactly.`,
      );
    }
    out[at] = number;
  }
  return out;
}

/** binary16 bits -> f32, exact. */
export function f16ToFloat32(halves: Uint16Array): Float32Array {
  const table = halfTable();
  const bits = new Uint32Array(halves.length);
  for (let at = 0; at < bits.length; at++) bits[at] = table[halves[at] as number] as number;
  return new Float32Array(bits.buffer);
}

/** bfloat16 bits -> f32, exact. */
export function bf16ToFloat32(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length);
  for (let at = 0; at < bits.length; at++) bits[at] = (halves[at] as number) << 16;
  return new Float32Array(bits.buffer);
}

/** f32 -> binary16 bits, rounded to nearest, ties to even; beyond ±65504 infinity. */
export function float32ToF16(values: Float32Array): Uint16Array {
  return rounded(values, roundToHalf);
}

/** f32 -> bfloat16 bits, rounded to nearest, ties to even. */
export function float32ToBf16(values: Float32Array): Uint16Array {
  return rounded(values, roundToBfloat);
}

function rounded(values: Float32Array, round: (bits: number) => number): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(bits.length);
  for (let at = 0; at < out.length; at++) out[at] = round(bits[at] as number);
  return out;
}

/** f32 values as the little-endian bytes of a stored dtype, for the writer. F16 and BF16 round to nearest, ties to even. */
export function fromFloat32(values: Float32Array, dtype: 'F32' | 'F16' | 'BF16'): Uint8Array {
  const array = dtype === 'F32' ? values : dtype === 'F16' ? float32ToF16(values) : float32ToBf16(values);
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  return new Uint8Array(nativeBytes(bytes, array.BYTES_PER_ELEMENT));
}
