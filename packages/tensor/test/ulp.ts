/** Distance of an f32 result from the exact value in units of the last place of an f32 of that size, 2^-149 for subnormals. */
export function ulpError(actual: number, exact: number): number {
  if (Number.isNaN(exact) || Number.isNaN(actual)) return Number.isNaN(exact) && Number.isNaN(actual) ? 0 : Number.POSITIVE_INFINITY;
  if (actual === Math.fround(exact) && !Number.isFinite(actual)) return 0;
  const size = Math.abs(exact);
  return Math.abs(actual - exact) / (size < 2 ** -126 ? 2 ** -149 : 2 ** (Math.floor(Math.log2(size)) - 23));
}

/** `count` f32 values whose bit patterns are spread evenly: every exponent, subnormals, infinities and NaN of both signs. */
export function spread(count: number): Float32Array {
  const bits = new Uint32Array(count);
  for (let i = 0; i < count; i++) bits[i] = Math.floor((i * 2 ** 32) / count);
  return new Float32Array(bits.buffer);
}
