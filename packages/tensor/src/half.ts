// Half-precision numbers on the host. 16-bit patterns go in and out; all values between are exact.

const word = new Float32Array(1);
const bits = new Uint32Array(word.buffer);

/** Adding and taking away 1.5 * 2^52 leaves a float64 below 2^51 rounded to a whole number, ties to even. */
const magic = 6755399441055744;

export function roundTiesEven(x: number): number {
  return x + magic - magic;
}

/** f32 -> the nearest binary16, ties to even; infinity from 65520 on, NaN stays NaN. */
export function toF16(x: number): number {
  word[0] = x;
  const b = bits[0]!;
  const sign = (b >>> 16) & 0x8000;
  const magnitude = Math.abs(x);
  if (!(magnitude < 65520)) return sign | (magnitude >= 65520 ? 0x7c00 : 0x7e00);
  // In steps of the last digit that f16 has there; subnormals share the step of the smallest normal exponent.
  const exponent = Math.max(-14, ((b >>> 23) & 0xff) - 127);
  return sign | ((exponent + 14) * 1024 + roundTiesEven(magnitude * 2 ** (10 - exponent)));
}

export function fromF16(half: number): number {
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  const sign = half & 0x8000 ? -1 : 1;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** f32 -> the nearest bfloat16, ties to even; NaN stays NaN. */
export function toBf16(x: number): number {
  word[0] = x;
  const b = bits[0]!;
  return (b & 0x7fffffff) > 0x7f800000 ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
}

export function fromBf16(half: number): number {
  bits[0] = half << 16;
  return word[0]!;
}
