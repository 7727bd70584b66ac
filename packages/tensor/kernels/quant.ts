import { loadTail, madd } from './math';

// C (M, N) = A (M, K) . W (N, K)^T for W in int8 or 4 bits; src/quant.ts says how it lies in memory.
// A row of A is quantised to int8 first, by groups of 32 like W; a product of two groups is then a sum of integers, exact in any order, and
// the sums of the groups are added in f32 one after the other: an output has the same bits whichever tile computes it.

// A group of a quantised row: 16-bit values, in each four in the order 0 2 1 3, so that a pair meets the even or the odd bytes of a weight's
// word; then the same as bytes in order, the scale, and 8 times the sum.
export const BYTES: usize = 64, SUM: usize = 100;
export const SCALE: usize = 96, RECORD: usize = 104;

/** Largest magnitude among the bits of four values; NaN counts as the largest. */
@inline
function magnitude(most: v128, x: v128): v128 {
  return i32x4.max_s(most, v128.and(x, i32x4.splat(0x7fffffff)));
}

@inline
function toInteger(x: v128, inverse: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(x, inverse)));
}

@inline
function loadUpTo4(p: usize, count: i32): v128 {
  if (count >= 4) return v128.load(p);
  if (count <= 0) return f32x4.splat(0);
  return loadTail(p, count);
}

/** Quantises the rows m0 to m1 of x (.., K) to `to`, ceil(K / 32) records of 104 bytes a row. A group with NaN or infinity gets a scale that makes all its products NaN. */
export function quantizeActivations(x: usize, to: usize, K: i32, m0: i32, m1: i32): void {
  const G = (K + 31) >> 5;
  for (let m = m0; m < m1; m++) {
    let p = x + (((<usize>m) * (<usize>K)) << 2);
    let q = to + <usize>m * <usize>G * RECORD;
    for (let left = K; left > 0; left -= 32) {
      const x0 = loadUpTo4(p, left), x1 = loadUpTo4(p + 16, left - 4), x2 = loadUpTo4(p + 32, left - 8), x3 = loadUpTo4(p + 48, left - 12);
      const x4 = loadUpTo4(p + 64, left - 16), x5 = loadUpTo4(p + 80, left - 20), x6 = loadUpTo4(p + 96, left - 24), x7 = loadUpTo4(p + 112, left - 28);
      let most = magnitude(magnitude(magnitude(magnitude(i32x4.splat(0), x0), x1), x2), x3);
      most = magnitude(magnitude(magnitude(magnitude(most, x4), x5), x6), x7);
      most = i32x4.max_s(most, v128.shuffle<i32>(most, most, 2, 3, 0, 1));
      const largest = reinterpret<f32>(max(i32x4.extract_lane(most, 0), i32x4.extract_lane(most, 1)));
      const inverse = f32x4.splat(largest == 0 ? 0 : <f32>127 / largest);
      const a = i16x8.narrow_i32x4_s(toInteger(x0, inverse), toInteger(x1, inverse));
      const b = i16x8.narrow_i32x4_s(toInteger(x2, inverse), toInteger(x3, inverse));
      const c = i16x8.narrow_i32x4_s(toInteger(x4, inverse), toInteger(x5, inverse));
      const d = i16x8.narrow_i32x4_s(toInteger(x6, inverse), toInteger(x7, inverse));
      v128.store(q, v128.shuffle<i16>(a, a, 0, 2, 1, 3, 4, 6, 5, 7));
      v128.store(q, v128.shuffle<i16>(b, b, 0, 2, 1, 3, 4, 6, 5, 7), 16);
      v128.store(q, v128.shuffle<i16>(c, c, 0, 2, 1, 3, 4, 6, 5, 7), 32);
      v128.store(q, v128.shuffle<i16>(d, d, 0, 2, 1, 3, 4, 6, 5, 7), 48);
      v128.store(q, i8x16.narrow_i16x8_s(a, b), BYTES);
      v128.store(q, i8x16.narrow_i16x8_s(c, d), BYTES + 16);
      f32.store(q, largest / 127, SCALE);
      const ones = i16x8.splat(1);
      let sum = i32x4.add(i32x4.add(i32x4.dot_i16x8_s(a, ones), i32x4.dot_i16x8_s(b, ones)), i32x4.add(i32x4.dot_i16x8_s(c, ones), i32x4.dot_i16x8_s(d, ones)));
      sum = i32x4.add(sum, v128.shuffle<i32>(sum, sum, 2, 3, 0, 1));
      i32.store(q, (i32x4.extract_lane(sum, 0) + i32x4.extract_lane(sum, 1)) << 3, SUM);
      p += 128;
      q += RECORD;
    }
  }
}

/** Four f16 scales, which are finite: 2^112 moves the bias of the exponent from 15 to 127 and makes subnormals normal. */
@inline
export function scales4(p: usize): v128 {
  return scalesBy(p, i32x4.splat(<i32>0x8fffe000), f32x4.splat(reinterpret<f32>(0x77800000)));
}

/** The same with its constants at hand. */
@inline
export function scalesBy(p: usize, mask: v128, factor: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(v128.load_ext<i16>(p), 13), mask), factor);
}

/**
 * A vector of four equal words that stays in its register: V8 makes a constant anew, in three instructions, wherever it is used. `zero` is 0, but
 * must be something that no compiler can know.
 */
@inline
export function kept(word: i32, zero: i32): v128 {
  return i32x4.splat(word | zero);
}

@inline
export function evenBytes(w: v128): v128 {
  return i16x8.shr_s(i16x8.shl(w, 8), 8);
}

@inline
export function dot(w: v128, pairs: v128, sum: v128): v128 {
  return i32x4.add(sum, i32x4.dot_i16x8_s(w, pairs));
}

/** The same for sixteen bytes of A and sixteen codes of 0 to 15, in 16 bits. The relaxed product of such a code is exact on every processor. */
@inline
export function dotCodes(codes: v128, bytes: v128, sum: v128): v128 {
  return i16x8.add(sum, i16x8.relaxed_dot_i8x16_i7x16_s(bytes, codes));
}

/** Adds what a group gives: integers, times the scales of W times that of A. */
@inline
export function finish(sum: v128, scales: v128, total: v128): v128 {
  return madd(f32x4.convert_i32x4_s(sum), scales, total);
}

/** The same for W in 4 bits, whose codes stand for their value plus 8. */
@inline
export function finish4(sum: v128, scales: v128, record: usize, total: v128): v128 {
  return finish(i32x4.sub(sum, v128.load_splat<i32>(record + SUM)), f32x4.mul(scales, v128.load_splat<f32>(record + SCALE)), total);
}

/** out (n, K) = the rows of W named by index, of N; bits is 8 or 4. Returns the first place whose index is outside, or -1. */
export function gatherQuantized(w: usize, s: usize, index: usize, out: usize, n: i32, N: i32, K: i32, bits: i32): i32 {
  const G = (K + 31) >> 5;
  for (let i = 0; i < n; i++) {
    const row = i32.load(index + ((<usize>i) << 2));
    if (row < 0 || row >= N) return i;
    const r = row & 7;
    const first = <usize>(row >> 3) * <usize>G;
    const to = out + (((<usize>i) * (<usize>K)) << 2);
    for (let k = 0; k < K; k++) {
      const block = first + <usize>(k >> 5);
      const quad = <usize>((k & 31) >> 2);
      let code: i32;
      if (bits == 8) code = load<i8>(w + block * 256 + quad * 32 + ((<usize>r) << 2) + <usize>(k & 3));
      else code = ((<i32>load<u8>(w + block * 128 + quad * 16 + ((<usize>(r & 3)) << 2) + <usize>(k & 3)) >> (r & 4)) & 15) - 8;
      const h = <i32>load<i16>(s + block * 16 + ((<usize>r) << 1));
      const scale = reinterpret<f32>((h << 13) & <i32>0x8fffe000) * reinterpret<f32>(0x77800000);
      f32.store(to + ((<usize>k) << 2), <f32>code * scale);
    }
  }
  return -1;
}
