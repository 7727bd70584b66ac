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
function scalesBy(p: usize, mask: v128, factor: v128): v128 {
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
function finish4(sum: v128, scales: v128, record: usize, total: v128): v128 {
  return finish(i32x4.sub(sum, v128.load_splat<i32>(record + SUM)), f32x4.mul(scales, v128.load_splat<f32>(record + SCALE)), total);
}

@inline
function storeUpTo4(p: usize, v: v128, count: i32): void {
  if (count >= 4) {
    v128.store(p, v);
    return;
  }
  if (count > 0) f32.store(p, f32x4.extract_lane(v, 0));
  if (count > 1) f32.store(p, f32x4.extract_lane(v, 1), 4);
  if (count > 2) f32.store(p, f32x4.extract_lane(v, 2), 8);
}

/** One row of A by a block of 8 rows of W, of which `count` exist. */
@inline
function q8Row(x: usize, w: usize, s: usize, out: usize, G: i32, count: i32): void {
  let t0 = f32x4.splat(0), t1 = f32x4.splat(0);
  const mask = kept(<i32>0x8fffe000, G >> 31), factor = kept(0x77800000, G >> 31);
  for (let g = 0; g < G; g++) {
    let s0 = i32x4.splat(0), s1 = i32x4.splat(0);
    for (let j: usize = 0; j < 64; j += 8) {
      const lo = v128.load(w), hi = v128.load(w, 16);
      const even = v128.load_splat<i32>(x + j), odd = v128.load_splat<i32>(x + j + 4);
      s0 = dot(evenBytes(lo), even, s0);
      s1 = dot(evenBytes(hi), even, s1);
      s0 = dot(i16x8.shr_s(lo, 8), odd, s0);
      s1 = dot(i16x8.shr_s(hi, 8), odd, s1);
      w += 32;
    }
    const scale = v128.load_splat<f32>(x + SCALE);
    t0 = finish(s0, f32x4.mul(scalesBy(s, mask, factor), scale), t0);
    t1 = finish(s1, f32x4.mul(scalesBy(s + 8, mask, factor), scale), t1);
    s += 16;
    x += RECORD;
  }
  storeUpTo4(out, t0, count);
  storeUpTo4(out + 16, t1, count - 4);
}

@inline
function q4Row(x: usize, w: usize, s: usize, out: usize, G: i32, count: i32): void {
  let t0 = f32x4.splat(0), t1 = f32x4.splat(0);
  const mask = kept(<i32>0x8fffe000, G >> 31), factor = kept(0x77800000, G >> 31);
  const low = kept(ASC_FEATURE_RELAXED_SIMD ? 0x0f0f0f0f : 0x000f000f, G >> 31);
  for (let g = 0; g < G; g++) {
    let s0 = i32x4.splat(0), s1 = i32x4.splat(0);
    if (ASC_FEATURE_RELAXED_SIMD) {
      // Codes are below 16, where the relaxed product is exact on every processor, and so is the sum of a lane's sixteen products in 16 bits.
      for (let j: usize = 0; j < 32; j += 4) {
        const v = v128.load(w), a = v128.load_splat<i32>(x + BYTES + j);
        s0 = dotCodes(v128.and(v, low), a, s0);
        s1 = dotCodes(v128.and(i16x8.shr_u(v, 4), low), a, s1);
        w += 16;
      }
      s0 = i32x4.extadd_pairwise_i16x8_s(s0);
      s1 = i32x4.extadd_pairwise_i16x8_s(s1);
    } else {
      for (let j: usize = 0; j < 64; j += 8) {
        const v = v128.load(w);
        const even = v128.load_splat<i32>(x + j), odd = v128.load_splat<i32>(x + j + 4);
        s0 = dot(v128.and(v, low), even, s0);
        s1 = dot(v128.and(i16x8.shr_u(v, 4), low), even, s1);
        s0 = dot(v128.and(i16x8.shr_u(v, 8), low), odd, s0);
        s1 = dot(i16x8.shr_u(v, 12), odd, s1);
        w += 16;
      }
    }
    t0 = finish4(s0, scalesBy(s, mask, factor), x, t0);
    t1 = finish4(s1, scalesBy(s + 8, mask, factor), x, t1);
    s += 16;
    x += RECORD;
  }
  storeUpTo4(out, t0, count);
  storeUpTo4(out + 16, t1, count - 4);
}

/** Four rows of A by a block of 8 rows of W. The totals lie in C itself: with eight sums of integers there are no registers for them. */
@inline
function q8Tile(x: usize, w: usize, s: usize, c: usize, N: i32, G: i32): void {
  const row = <usize>G * RECORD, line = (<usize>N) << 2;
  const c1 = c + line, c2 = c1 + line, c3 = c2 + line;
  const zero = f32x4.splat(0);
  v128.store(c, zero); v128.store(c, zero, 16); v128.store(c1, zero); v128.store(c1, zero, 16);
  v128.store(c2, zero); v128.store(c2, zero, 16); v128.store(c3, zero); v128.store(c3, zero, 16);
  let x1 = x + row, x2 = x1 + row, x3 = x2 + row;
  for (let g = 0; g < G; g++) {
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
    let b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0), b3 = i32x4.splat(0);
    for (let j: usize = 0; j < 64; j += 8) {
      let lo = v128.load(w), hi = v128.load(w, 16);
      const evenLo = evenBytes(lo), evenHi = evenBytes(hi);
      let r = v128.load_splat<i32>(x + j);
      a0 = dot(evenLo, r, a0);
      b0 = dot(evenHi, r, b0);
      r = v128.load_splat<i32>(x1 + j);
      a1 = dot(evenLo, r, a1);
      b1 = dot(evenHi, r, b1);
      r = v128.load_splat<i32>(x2 + j);
      a2 = dot(evenLo, r, a2);
      b2 = dot(evenHi, r, b2);
      r = v128.load_splat<i32>(x3 + j);
      a3 = dot(evenLo, r, a3);
      b3 = dot(evenHi, r, b3);
      lo = i16x8.shr_s(lo, 8);
      hi = i16x8.shr_s(hi, 8);
      r = v128.load_splat<i32>(x + j + 4);
      a0 = dot(lo, r, a0);
      b0 = dot(hi, r, b0);
      r = v128.load_splat<i32>(x1 + j + 4);
      a1 = dot(lo, r, a1);
      b1 = dot(hi, r, b1);
      r = v128.load_splat<i32>(x2 + j + 4);
      a2 = dot(lo, r, a2);
      b2 = dot(hi, r, b2);
      r = v128.load_splat<i32>(x3 + j + 4);
      a3 = dot(lo, r, a3);
      b3 = dot(hi, r, b3);
      w += 32;
    }
    const lo = scales4(s), hi = scales4(s + 8);
    v128.store(c, finish(a0, f32x4.mul(lo, v128.load_splat<f32>(x + SCALE)), v128.load(c)));
    v128.store(c, finish(b0, f32x4.mul(hi, v128.load_splat<f32>(x + SCALE)), v128.load(c, 16)), 16);
    v128.store(c1, finish(a1, f32x4.mul(lo, v128.load_splat<f32>(x1 + SCALE)), v128.load(c1)));
    v128.store(c1, finish(b1, f32x4.mul(hi, v128.load_splat<f32>(x1 + SCALE)), v128.load(c1, 16)), 16);
    v128.store(c2, finish(a2, f32x4.mul(lo, v128.load_splat<f32>(x2 + SCALE)), v128.load(c2)));
    v128.store(c2, finish(b2, f32x4.mul(hi, v128.load_splat<f32>(x2 + SCALE)), v128.load(c2, 16)), 16);
    v128.store(c3, finish(a3, f32x4.mul(lo, v128.load_splat<f32>(x3 + SCALE)), v128.load(c3)));
    v128.store(c3, finish(b3, f32x4.mul(hi, v128.load_splat<f32>(x3 + SCALE)), v128.load(c3, 16)), 16);
    s += 16;
    x += RECORD;
    x1 += RECORD;
    x2 += RECORD;
    x3 += RECORD;
  }
}

@inline
function q4Tile(x: usize, w: usize, s: usize, c: usize, N: i32, G: i32): void {
  const row = <usize>G * RECORD, line = (<usize>N) << 2;
  const c1 = c + line, c2 = c1 + line, c3 = c2 + line;
  const zero = f32x4.splat(0);
  v128.store(c, zero); v128.store(c, zero, 16); v128.store(c1, zero); v128.store(c1, zero, 16);
  v128.store(c2, zero); v128.store(c2, zero, 16); v128.store(c3, zero); v128.store(c3, zero, 16);
  let x1 = x + row, x2 = x1 + row, x3 = x2 + row;
  const low = kept(ASC_FEATURE_RELAXED_SIMD ? 0x0f0f0f0f : 0x000f000f, G >> 31);
  for (let g = 0; g < G; g++) {
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
    let b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0), b3 = i32x4.splat(0);
    if (ASC_FEATURE_RELAXED_SIMD) {
      for (let j: usize = 0; j < 32; j += 4) {
        const v = v128.load(w);
        const lo = v128.and(v, low), hi = v128.and(i16x8.shr_u(v, 4), low);
        let r = v128.load_splat<i32>(x + j, BYTES);
        a0 = dotCodes(lo, r, a0);
        b0 = dotCodes(hi, r, b0);
        r = v128.load_splat<i32>(x1 + j, BYTES);
        a1 = dotCodes(lo, r, a1);
        b1 = dotCodes(hi, r, b1);
        r = v128.load_splat<i32>(x2 + j, BYTES);
        a2 = dotCodes(lo, r, a2);
        b2 = dotCodes(hi, r, b2);
        r = v128.load_splat<i32>(x3 + j, BYTES);
        a3 = dotCodes(lo, r, a3);
        b3 = dotCodes(hi, r, b3);
        w += 16;
      }
      a0 = i32x4.extadd_pairwise_i16x8_s(a0); a1 = i32x4.extadd_pairwise_i16x8_s(a1);
      a2 = i32x4.extadd_pairwise_i16x8_s(a2); a3 = i32x4.extadd_pairwise_i16x8_s(a3);
      b0 = i32x4.extadd_pairwise_i16x8_s(b0); b1 = i32x4.extadd_pairwise_i16x8_s(b1);
      b2 = i32x4.extadd_pairwise_i16x8_s(b2); b3 = i32x4.extadd_pairwise_i16x8_s(b3);
    } else {
      for (let j: usize = 0; j < 64; j += 8) {
        const v = v128.load(w);
        let lo = v128.and(v, low), hi = v128.and(i16x8.shr_u(v, 4), low);
        let r = v128.load_splat<i32>(x + j);
        a0 = dot(lo, r, a0);
        b0 = dot(hi, r, b0);
        r = v128.load_splat<i32>(x1 + j);
        a1 = dot(lo, r, a1);
        b1 = dot(hi, r, b1);
        r = v128.load_splat<i32>(x2 + j);
        a2 = dot(lo, r, a2);
        b2 = dot(hi, r, b2);
        r = v128.load_splat<i32>(x3 + j);
        a3 = dot(lo, r, a3);
        b3 = dot(hi, r, b3);
        lo = v128.and(i16x8.shr_u(v, 8), low);
        hi = i16x8.shr_u(v, 12);
        r = v128.load_splat<i32>(x + j + 4);
        a0 = dot(lo, r, a0);
        b0 = dot(hi, r, b0);
        r = v128.load_splat<i32>(x1 + j + 4);
        a1 = dot(lo, r, a1);
        b1 = dot(hi, r, b1);
        r = v128.load_splat<i32>(x2 + j + 4);
        a2 = dot(lo, r, a2);
        b2 = dot(hi, r, b2);
        r = v128.load_splat<i32>(x3 + j + 4);
        a3 = dot(lo, r, a3);
        b3 = dot(hi, r, b3);
        w += 16;
      }
    }
    const lo = scales4(s), hi = scales4(s + 8);
    v128.store(c, finish4(a0, lo, x, v128.load(c)));
    v128.store(c, finish4(b0, hi, x, v128.load(c, 16)), 16);
    v128.store(c1, finish4(a1, lo, x1, v128.load(c1)));
    v128.store(c1, finish4(b1, hi, x1, v128.load(c1, 16)), 16);
    v128.store(c2, finish4(a2, lo, x2, v128.load(c2)));
    v128.store(c2, finish4(b2, hi, x2, v128.load(c2, 16)), 16);
    v128.store(c3, finish4(a3, lo, x3, v128.load(c3)));
    v128.store(c3, finish4(b3, hi, x3, v128.load(c3, 16)), 16);
    s += 16;
    x += RECORD;
    x1 += RECORD;
    x2 += RECORD;
    x3 += RECORD;
  }
}

/** M quantised rows x, a few, against the blocks b0 to b1 of W in int8, `w` values and `s` scales, into c (M, N). */
export function matmulQ8(x: usize, w: usize, s: usize, c: usize, M: i32, K: i32, N: i32, b0: i32, b1: i32): void {
  const G = (K + 31) >> 5;
  const row = <usize>G * RECORD, line = (<usize>N) << 2;
  for (let b = b0; b < b1; b++) {
    const wb = w + (<usize>b * <usize>G) * 256, sb = s + (<usize>b * <usize>G) * 16, cb = c + ((<usize>b) << 5);
    const count = N - (b << 3);
    let m = 0;
    if (count >= 8) for (; m + 4 <= M; m += 4) q8Tile(x + <usize>m * row, wb, sb, cb + <usize>m * line, N, G);
    for (; m < M; m++) q8Row(x + <usize>m * row, wb, sb, cb + <usize>m * line, G, count);
  }
}

/** The same for W in 4 bits. */
export function matmulQ4(x: usize, w: usize, s: usize, c: usize, M: i32, K: i32, N: i32, b0: i32, b1: i32): void {
  const G = (K + 31) >> 5;
  const row = <usize>G * RECORD, line = (<usize>N) << 2;
  for (let b = b0; b < b1; b++) {
    const wb = w + (<usize>b * <usize>G) * 128, sb = s + (<usize>b * <usize>G) * 16, cb = c + ((<usize>b) << 5);
    const count = N - (b << 3);
    let m = 0;
    if (count >= 8) for (; m + 4 <= M; m += 4) q4Tile(x + <usize>m * row, wb, sb, cb + <usize>m * line, N, G);
    for (; m < M; m++) q4Row(x + <usize>m * row, wb, sb, cb + <usize>m * line, G, count);
  }
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
