import { BYTES, dot, dotCodes, evenBytes, finish, finish4, kept, RECORD, SCALE, scales4 } from './quant';
import { q4Matvec, q4Row, q8Matvec, q8Row } from './quant-row';

// Quantised rows of A by quantised rows of W where it lies: for a few rows, four at a time (quant-panel.ts has many).

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
  if (M == 1) {
    q8Matvec(x, w, s, c, K, N, b0, b1);
    return;
  }
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
  if (M == 1) {
    q4Matvec(x, w, s, c, K, N, b0, b1);
    return;
  }
  for (let b = b0; b < b1; b++) {
    const wb = w + (<usize>b * <usize>G) * 128, sb = s + (<usize>b * <usize>G) * 16, cb = c + ((<usize>b) << 5);
    const count = N - (b << 3);
    let m = 0;
    if (count >= 8) for (; m + 4 <= M; m += 4) q4Tile(x + <usize>m * row, wb, sb, cb + <usize>m * line, N, G);
    for (; m < M; m++) q4Row(x + <usize>m * row, wb, sb, cb + <usize>m * line, G, count);
  }
}
