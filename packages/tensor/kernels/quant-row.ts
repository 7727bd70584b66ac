import { BYTES, dot, dotCodes, evenBytes, finish, finish4, kept, RECORD, SCALE, scalesBy } from './quant';

// One row of A by quantised rows of W: what decoding spends its time on, bound by how fast weights come from memory. Three places of W are read
// at once, each from one end to the other: one place alone comes at half of what the memory gives, as if too few lines were
// under way, and neighbouring places, a few kilobytes apart, gain less (docs/decisions.md, "Quantised weights").

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
export function q8Row(x: usize, w: usize, s: usize, out: usize, G: i32, count: i32): void {
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
export function q4Row(x: usize, w: usize, s: usize, out: usize, G: i32, count: i32): void {
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

/** `q8Row` for three blocks of 8 rows, which lie `apart` bytes of values and `scalesApart` of scales from each other; results `outApart`. */
@inline
function q8Three(x: usize, w: usize, s: usize, out: usize, G: i32, apart: usize, scalesApart: usize, outApart: usize): void {
  let w1 = w + apart, w2 = w1 + apart, s1 = s + scalesApart, s2 = s1 + scalesApart;
  let t0 = f32x4.splat(0), t1 = f32x4.splat(0), t2 = f32x4.splat(0), u0 = f32x4.splat(0), u1 = f32x4.splat(0), u2 = f32x4.splat(0);
  const mask = kept(<i32>0x8fffe000, G >> 31), factor = kept(0x77800000, G >> 31);
  for (let g = 0; g < G; g++) {
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0);
    let v: v128;
    for (let j: usize = 0; j < 64; j += 8) {
      const even = v128.load_splat<i32>(x + j), odd = v128.load_splat<i32>(x + j + 4);
      v = v128.load(w);
      a0 = dot(i16x8.shr_s(v, 8), odd, dot(evenBytes(v), even, a0));
      v = v128.load(w, 16);
      b0 = dot(i16x8.shr_s(v, 8), odd, dot(evenBytes(v), even, b0));
      v = v128.load(w1);
      a1 = dot(i16x8.shr_s(v, 8), odd, dot(evenBytes(v), even, a1));
      v = v128.load(w1, 16);
      b1 = dot(i16x8.shr_s(v, 8), odd, dot(evenBytes(v), even, b1));
      v = v128.load(w2);
      a2 = dot(i16x8.shr_s(v, 8), odd, dot(evenBytes(v), even, a2));
      v = v128.load(w2, 16);
      b2 = dot(i16x8.shr_s(v, 8), odd, dot(evenBytes(v), even, b2));
      w += 32;
      w1 += 32;
      w2 += 32;
    }
    const scale = v128.load_splat<f32>(x + SCALE);
    t0 = finish(a0, f32x4.mul(scalesBy(s, mask, factor), scale), t0);
    u0 = finish(b0, f32x4.mul(scalesBy(s + 8, mask, factor), scale), u0);
    t1 = finish(a1, f32x4.mul(scalesBy(s1, mask, factor), scale), t1);
    u1 = finish(b1, f32x4.mul(scalesBy(s1 + 8, mask, factor), scale), u1);
    t2 = finish(a2, f32x4.mul(scalesBy(s2, mask, factor), scale), t2);
    u2 = finish(b2, f32x4.mul(scalesBy(s2 + 8, mask, factor), scale), u2);
    s += 16;
    s1 += 16;
    s2 += 16;
    x += RECORD;
  }
  v128.store(out, t0);
  v128.store(out, u0, 16);
  v128.store(out + outApart, t1);
  v128.store(out + outApart, u1, 16);
  v128.store(out + 2 * outApart, t2);
  v128.store(out + 2 * outApart, u2, 16);
}

/** `q4Row` for three blocks of 8 rows, which lie `apart` bytes of values and `scalesApart` of scales from each other; results `outApart`. */
@inline
function q4Three(x: usize, w: usize, s: usize, out: usize, G: i32, apart: usize, scalesApart: usize, outApart: usize): void {
  let w1 = w + apart, w2 = w1 + apart, s1 = s + scalesApart, s2 = s1 + scalesApart;
  let t0 = f32x4.splat(0), t1 = f32x4.splat(0), t2 = f32x4.splat(0), u0 = f32x4.splat(0), u1 = f32x4.splat(0), u2 = f32x4.splat(0);
  const mask = kept(<i32>0x8fffe000, G >> 31), factor = kept(0x77800000, G >> 31);
  const low = kept(ASC_FEATURE_RELAXED_SIMD ? 0x0f0f0f0f : 0x000f000f, G >> 31);
  for (let g = 0; g < G; g++) {
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0);
    let v: v128;
    if (ASC_FEATURE_RELAXED_SIMD) {
      for (let j: usize = 0; j < 32; j += 4) {
        const r = v128.load_splat<i32>(x + j, BYTES);
        v = v128.load(w);
        a0 = dotCodes(v128.and(v, low), r, a0);
        b0 = dotCodes(v128.and(i16x8.shr_u(v, 4), low), r, b0);
        v = v128.load(w1);
        a1 = dotCodes(v128.and(v, low), r, a1);
        b1 = dotCodes(v128.and(i16x8.shr_u(v, 4), low), r, b1);
        v = v128.load(w2);
        a2 = dotCodes(v128.and(v, low), r, a2);
        b2 = dotCodes(v128.and(i16x8.shr_u(v, 4), low), r, b2);
        w += 16;
        w1 += 16;
        w2 += 16;
      }
      a0 = i32x4.extadd_pairwise_i16x8_s(a0);
      b0 = i32x4.extadd_pairwise_i16x8_s(b0);
      a1 = i32x4.extadd_pairwise_i16x8_s(a1);
      b1 = i32x4.extadd_pairwise_i16x8_s(b1);
      a2 = i32x4.extadd_pairwise_i16x8_s(a2);
      b2 = i32x4.extadd_pairwise_i16x8_s(b2);
    } else {
      for (let j: usize = 0; j < 64; j += 8) {
        const even = v128.load_splat<i32>(x + j), odd = v128.load_splat<i32>(x + j + 4);
        v = v128.load(w);
        a0 = dot(v128.and(i16x8.shr_u(v, 8), low), odd, dot(v128.and(v, low), even, a0));
        b0 = dot(i16x8.shr_u(v, 12), odd, dot(v128.and(i16x8.shr_u(v, 4), low), even, b0));
        v = v128.load(w1);
        a1 = dot(v128.and(i16x8.shr_u(v, 8), low), odd, dot(v128.and(v, low), even, a1));
        b1 = dot(i16x8.shr_u(v, 12), odd, dot(v128.and(i16x8.shr_u(v, 4), low), even, b1));
        v = v128.load(w2);
        a2 = dot(v128.and(i16x8.shr_u(v, 8), low), odd, dot(v128.and(v, low), even, a2));
        b2 = dot(i16x8.shr_u(v, 12), odd, dot(v128.and(i16x8.shr_u(v, 4), low), even, b2));
        w += 16;
        w1 += 16;
        w2 += 16;
      }
    }
    t0 = finish4(a0, scalesBy(s, mask, factor), x, t0);
    u0 = finish4(b0, scalesBy(s + 8, mask, factor), x, u0);
    t1 = finish4(a1, scalesBy(s1, mask, factor), x, t1);
    u1 = finish4(b1, scalesBy(s1 + 8, mask, factor), x, u1);
    t2 = finish4(a2, scalesBy(s2, mask, factor), x, t2);
    u2 = finish4(b2, scalesBy(s2 + 8, mask, factor), x, u2);
    s += 16;
    s1 += 16;
    s2 += 16;
    x += RECORD;
  }
  v128.store(out, t0);
  v128.store(out, u0, 16);
  v128.store(out + outApart, t1);
  v128.store(out + outApart, u1, 16);
  v128.store(out + 2 * outApart, t2);
  v128.store(out + 2 * outApart, u2, 16);
}

/** One quantised row x against the blocks b0 to b1 of W (N, K) in int8, `w` values and `s` scales, into c (N). */
export function q8Matvec(x: usize, w: usize, s: usize, c: usize, K: i32, N: i32, b0: i32, b1: i32): void {
  const G = (K + 31) >> 5;
  const block = <usize>G * 256, scales = <usize>G * 16;
  const part = (min(b1, N >> 3) - b0) / 3;
  let b = b0;
  for (; b < b0 + part; b++) {
    q8Three(x, w + <usize>b * block, s + <usize>b * scales, c + ((<usize>b) << 5), G, block * <usize>part, scales * <usize>part, (<usize>part) << 5);
  }
  for (b = b0 + 3 * part; b < b1; b++) {
    q8Row(x, w + <usize>b * block, s + <usize>b * scales, c + ((<usize>b) << 5), G, N - (b << 3));
  }
}

/** The same for W in 4 bits. */
export function q4Matvec(x: usize, w: usize, s: usize, c: usize, K: i32, N: i32, b0: i32, b1: i32): void {
  const G = (K + 31) >> 5;
  const block = <usize>G * 128, scales = <usize>G * 16;
  const part = (min(b1, N >> 3) - b0) / 3;
  let b = b0;
  for (; b < b0 + part; b++) {
    q4Three(x, w + <usize>b * block, s + <usize>b * scales, c + ((<usize>b) << 5), G, block * <usize>part, scales * <usize>part, (<usize>part) << 5);
  }
  for (b = b0 + 3 * part; b < b1; b++) {
    q4Row(x, w + <usize>b * block, s + <usize>b * scales, c + ((<usize>b) << 5), G, N - (b << 3));
  }
}
