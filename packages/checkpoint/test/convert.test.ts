import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import {
  bf16ToFloat32,
  f16ToFloat32,
  float32ToBf16,
  float32ToF16,
  fromFloat32,
  type SafetensorsDtype,
  toFloat32,
  toFloat64,
  toInt32,
  toTypedArray,
} from '../src/index.js';
import { refused } from './support/raw.js';

// Generous, for machines that are busy with other things.
vi.setConfig({ testTimeout: 30_000 });

const bytesOf = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
const ALL_HALVES = Uint16Array.from({ length: 0x10000 }, (_, bits) => bits);

/** Value of a sign-exponent-fraction code by the textbook formula, with its top codes as in IEEE 754. */
function codeValue(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >>> (exponentBits + fractionBits) === 1 ? -1 : 1;
  const exponent = (bits >>> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

/** Nearest code to `value` by searching all of them; ties go to the even code. */
function nearestCode(value: number, finite: readonly number[], overflowAt: number, infinity: number): number {
  const magnitude = Math.abs(value);
  if (magnitude >= overflowAt) return infinity;
  let low = 0;
  let high = finite.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >>> 1;
    if ((finite[middle] as number) <= magnitude) low = middle;
    else high = middle;
  }
  const below = magnitude - (finite[low] as number);
  const above = (finite[high] as number) - magnitude;
  return below < above || (below === above && low % 2 === 0) ? low : high;
}

const anyBits = fc.integer({ min: 0, max: 0xffffffff });
const halfRange = fc.double({ min: -70000, max: 70000, noNaN: true }).map(Math.fround);
const halfSubnormals = fc.double({ min: -0.0002, max: 0.0002, noNaN: true }).map(Math.fround);
const floatOf = (bits: number): number => new Float32Array(Uint32Array.of(bits).buffer)[0] as number;

describe('f16', () => {
  it('decodes all 65,536 codes', () => {
    const decoded = f16ToFloat32(ALL_HALVES);
    for (let bits = 0; bits < 0x10000; bits++) {
      if (!Object.is(decoded[bits], codeValue(bits, 5, 10))) expect([bits, decoded[bits]]).toEqual([bits, codeValue(bits, 5, 10)]);
    }
  });

  it('encodes what it decodes to the same code, NaN to a NaN', () => {
    const encoded = float32ToF16(f16ToFloat32(ALL_HALVES));
    for (let bits = 0; bits < 0x10000; bits++) {
      const isNaNCode = (bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0;
      expect(encoded[bits]).toBe(isNaNCode ? bits | 0x200 : bits);
    }
  });

  it('rounds to nearest, ties to even', () => {
    const finite = Array.from({ length: 0x7c00 }, (_, bits) => codeValue(bits, 5, 10));
    const check = (value: number): void => {
      if (Number.isNaN(value)) return;
      const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
      expect([value, float32ToF16(Float32Array.of(value))[0]]).toEqual([value, sign | nearestCode(value, finite, 65520, 0x7c00)]);
    };
    fc.assert(fc.property(fc.oneof(halfRange, halfSubnormals, anyBits.map(floatOf)), check), { numRuns: 20_000 });
    // Every midpoint between two neighbours, and the floats on either side of it.
    for (let code = 0; code < 0x7bff; code++) {
      const middle = ((finite[code] as number) + (finite[code + 1] as number)) / 2;
      const bits = new Uint32Array(Float32Array.of(middle).buffer)[0] as number;
      const around = float32ToF16(Float32Array.of(floatOf(bits - 1), middle, floatOf(bits + 1)));
      if (around[0] !== code || around[1] !== code + (code % 2) || around[2] !== code + 1)
        expect([code, ...around]).toEqual([code, code, code + (code % 2), code + 1]);
    }
  });
});

describe('bf16', () => {
  it('decodes all 65,536 codes', () => {
    const decoded = bf16ToFloat32(ALL_HALVES);
    for (let bits = 0; bits < 0x10000; bits++) {
      if (!Object.is(decoded[bits], codeValue(bits, 8, 7))) expect([bits, decoded[bits]]).toEqual([bits, codeValue(bits, 8, 7)]);
    }
  });

  it('rounds to nearest, ties to even', () => {
    const finite = Array.from({ length: 0x7f80 }, (_, bits) => codeValue(bits, 8, 7));
    const largest = finite[finite.length - 1] as number;
    const overflowAt = largest + (largest - (finite[finite.length - 2] as number)) / 2;
    const check = (bits: number): void => {
      const value = floatOf(bits);
      const code = float32ToBf16(Float32Array.of(value))[0] as number;
      if (Number.isNaN(value)) expect((code & 0x7f80) === 0x7f80 && (code & 0x7f) !== 0).toBe(true);
      else expect([value, code]).toEqual([value, (bits >= 0x80000000 ? 0x8000 : 0) | nearestCode(value, finite, overflowAt, 0x7f80)]);
    };
    fc.assert(fc.property(anyBits, check), { numRuns: 20_000 });
    for (const bits of [0x7f7fffff, 0x7f7f8000, 0x7f7f7fff, 0x3f808000, 0x3f818000, 0x7f800001, 0xff800001, 0x7fffffff, 1, 0x8000])
      check(bits);
  });
});

describe('8-bit floats', () => {
  // Corner values from the papers: smallest subnormal, largest finite, and how the top codes are spent.
  const corners: [SafetensorsDtype, number, number][] = [
    ['F8_E5M2', 0x01, 2 ** -16],
    ['F8_E5M2', 0x7b, 57344],
    ['F8_E5M2', 0x7c, Infinity],
    ['F8_E5M2', 0xfc, -Infinity],
    ['F8_E5M2', 0x7d, NaN],
    ['F8_E5M2', 0x3c, 1],
    ['F8_E4M3', 0x01, 2 ** -9],
    ['F8_E4M3', 0x7e, 448],
    ['F8_E4M3', 0xfe, -448],
    ['F8_E4M3', 0x7f, NaN],
    ['F8_E4M3', 0x38, 1],
    ['F8_E4M3', 0x80, -0],
    ['F8_E4M3FNUZ', 0x01, 2 ** -10],
    ['F8_E4M3FNUZ', 0x7f, 240],
    ['F8_E4M3FNUZ', 0x80, NaN],
    ['F8_E4M3FNUZ', 0x40, 1],
    ['F8_E5M2FNUZ', 0x01, 2 ** -17],
    ['F8_E5M2FNUZ', 0x7f, 57344],
    ['F8_E5M2FNUZ', 0x80, NaN],
    ['F8_E5M2FNUZ', 0x40, 1],
    ['F8_E8M0', 0x00, 2 ** -127],
    ['F8_E8M0', 0x7f, 1],
    ['F8_E8M0', 0xfe, 2 ** 127],
    ['F8_E8M0', 0xff, NaN],
  ];
  for (const [dtype, code, value] of corners) {
    it(`${dtype} 0x${code.toString(16).padStart(2, '0')} is ${Object.is(value, -0) ? '-0' : value}`, () => {
      expect(toFloat32(Uint8Array.of(code), dtype)[0]).toBe(value);
    });
  }

  it('E5M2 is the upper half of f16', () => {
    const codes = Uint8Array.from({ length: 256 }, (_, code) => code);
    expect(toFloat32(codes, 'F8_E5M2')).toEqual(f16ToFloat32(Uint16Array.from(codes, (code) => code << 8)));
  });
});

describe('typed arrays', () => {
  const samples: [SafetensorsDtype, ArrayBufferView & ArrayLike<unknown>][] = [
    ['F32', Float32Array.of(1.5, -0, NaN)],
    ['F64', Float64Array.of(Math.PI)],
    ['I8', Int8Array.of(-128, 127)],
    ['U8', Uint8Array.of(255)],
    ['BOOL', Uint8Array.of(0, 1)],
    ['I16', Int16Array.of(-32768)],
    ['U16', Uint16Array.of(65535)],
    ['I32', Int32Array.of(-(2 ** 31))],
    ['U32', Uint32Array.of(2 ** 32 - 1)],
    ['I64', BigInt64Array.of(-(2n ** 63n))],
    ['U64', BigUint64Array.of(2n ** 64n - 1n)],
  ];
  for (const [dtype, array] of samples) {
    it(`${dtype}, from any address, as a copy`, () => {
      const shifted = new Uint8Array(array.byteLength + 1);
      shifted.set(bytesOf(array), 1);
      const back = toTypedArray(shifted.subarray(1), dtype);
      expect(back).toEqual(array);
      expect(back.buffer).not.toBe(shifted.buffer);
    });
  }

  it('refuse bytes that are not whole values, and dtypes without a defined packing', async () => {
    await refused(async () => toTypedArray(new Uint8Array(3), 'F16'), { code: 'bad-argument' });
    for (const dtype of ['C64', 'F4', 'F6_E2M3', 'F6_E3M2'] as const) {
      await refused(async () => toFloat32(new Uint8Array(24), dtype), { code: 'unsupported-dtype', message: new RegExp(dtype) });
    }
  });

  it('keep integers exact or refuse them', async () => {
    const i64 = (...values: bigint[]): Uint8Array => bytesOf(BigInt64Array.from(values));
    expect(toFloat64(i64(2n ** 53n - 1n, -(2n ** 53n) + 1n), 'I64')).toEqual(Float64Array.of(2 ** 53 - 1, -(2 ** 53) + 1));
    await refused(async () => toFloat64(i64(0n, 2n ** 53n), 'I64'), { code: 'unsafe-number', message: /value 1 .* 9007199254740992/ });
    await refused(async () => toFloat64(bytesOf(BigUint64Array.of(2n ** 64n - 1n)), 'U64'), { code: 'unsafe-number' });
    expect(toInt32(i64(-5n, 2n ** 31n - 1n), 'I64')).toEqual(Int32Array.of(-5, 2 ** 31 - 1));
    await refused(async () => toInt32(i64(2n ** 31n), 'I64'), { code: 'unsafe-number' });
    await refused(async () => toInt32(bytesOf(Uint32Array.of(2 ** 31)), 'U32'), { code: 'unsafe-number' });
    await refused(async () => toInt32(bytesOf(Float32Array.of(1)), 'F32'), { code: 'unsupported-dtype' });
    expect(toInt32(Uint8Array.of(0, 1, 7), 'BOOL')).toEqual(Int32Array.of(0, 1, 1));
    expect(toInt32(Uint8Array.of(255), 'I8')).toEqual(Int32Array.of(-1));
    expect(toFloat32(bytesOf(Int32Array.of(2 ** 24, 2 ** 30)), 'I32')).toEqual(Float32Array.of(2 ** 24, 2 ** 30));
    await refused(async () => toFloat32(bytesOf(Int32Array.of(2 ** 24 + 1)), 'I32'), { code: 'unsafe-number' });
    expect(toFloat32(bytesOf(Float64Array.of(0.1)), 'F64')).toEqual(Float32Array.of(0.1));
  });

  it('fromFloat32 gives bytes that toFloat32 reads back', () => {
    const values = Float32Array.of(1, -2.5, 0.1, 1e-8, Infinity);
    expect(toFloat32(fromFloat32(values.subarray(1), 'F32'), 'F32')).toEqual(values.subarray(1));
    expect(toFloat32(fromFloat32(values, 'F16'), 'F16')).toEqual(f16ToFloat32(float32ToF16(values)));
    expect(toFloat32(fromFloat32(values, 'BF16'), 'BF16')).toEqual(bf16ToFloat32(float32ToBf16(values)));
    const bytes = fromFloat32(values, 'F32');
    bytes[0] = 9;
    expect(values[0]).toBe(1);
  });
});
