/**
 * Bits of an IEEE 754 binary16 number -> bits of the binary32 number of the same value (NaN payloads kept), all 65,536 of
 * them. Built on first use: a load of a few thousand values repays it.
 */
let table: Uint32Array | undefined;

export function halfTable(): Uint32Array {
  if (table !== undefined) return table;
  const bits = new Uint32Array(0x10000);
  for (let half = 0; half < bits.length; half++) {
    const sign = (half & 0x8000) * 0x10000;
    const exponent = (half >>> 10) & 0x1f;
    const fraction = half & 0x3ff;
    if (exponent === 0x1f) bits[half] = sign + 0x7f800000 + fraction * 0x2000;
    else if (exponent > 0) bits[half] = sign + (exponent + 112) * 0x800000 + fraction * 0x2000;
    else if (fraction > 0) {
      // Subnormal: fraction * 2^-24. `lead` is the position of its leading one, which becomes implicit.
      const lead = 31 - Math.clz32(fraction);
      bits[half] = sign + (lead + 103) * 0x800000 + ((fraction << (23 - lead)) & 0x7fffff);
    } else bits[half] = sign;
  }
  table = bits;
  return bits;
}

/** Bits of a binary32 number -> bits of the nearest binary16, ties to even; beyond the range infinity, NaN stays a (quiet) NaN. */
export function roundToHalf(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x7f800000) return magnitude === 0x7f800000 ? sign | 0x7c00 : sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  // 65520 lies halfway between the largest finite half, 65504, and the next step: it and all above round to infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) return sign | roundShift(magnitude - 0x38000000, 13);
  // At most half of the smallest subnormal, 2^-24: rounds to zero.
  if (magnitude <= 0x33000000) return sign;
  return sign | roundShift((magnitude & 0x7fffff) | 0x800000, 126 - (magnitude >>> 23));
}

function roundShift(value: number, shift: number): number {
  const quotient = value >>> shift;
  const rest = value & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  return rest > tie || (rest === tie && (quotient & 1) === 1) ? quotient + 1 : quotient;
}

/** Bits of a binary32 number -> bits of the nearest bfloat16, ties to even; NaN stays a (quiet) NaN. */
export function roundToBfloat(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
