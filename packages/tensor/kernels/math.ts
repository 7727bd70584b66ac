// Vector math shared by all kernels. No tables: a module without data segments can share its memory with the caller and, later, with other threads.

/** Loads `rem` (1 to 3) f32 values, the other lanes are 0. */
@inline
export function loadTail(p: usize, rem: i32): v128 {
  if (rem == 1) return v128.load32_zero(p);
  let v = v128.load64_zero(p);
  if (rem == 3) v = v128.load_lane<f32>(p + 8, v, 2);
  return v;
}

/** Stores the first `rem` (1 to 3) lanes. */
@inline
export function storeTail(p: usize, v: v128, rem: i32): void {
  f32.store(p, f32x4.extract_lane(v, 0));
  if (rem > 1) f32.store(p + 4, f32x4.extract_lane(v, 1));
  if (rem > 2) f32.store(p + 8, f32x4.extract_lane(v, 2));
}

/** Sum of the lanes in one fixed order, used by every kernel that ends a row sum: row invariance rests on it. */
@inline
export function hsum(v: v128): f32 {
  const w = f32x4.add(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return f32x4.extract_lane(w, 0) + f32x4.extract_lane(w, 1);
}

/** The sums of the lanes of four accumulators, each in the order of `hsum`. */
@inline
export function hsum4(s0: v128, s1: v128, s2: v128, s3: v128): v128 {
  const w0 = f32x4.add(v128.shuffle<f32>(s0, s1, 0, 1, 4, 5), v128.shuffle<f32>(s0, s1, 2, 3, 6, 7));
  const w1 = f32x4.add(v128.shuffle<f32>(s2, s3, 0, 1, 4, 5), v128.shuffle<f32>(s2, s3, 2, 3, 6, 7));
  return f32x4.add(v128.shuffle<f32>(w0, w1, 0, 2, 4, 6), v128.shuffle<f32>(w0, w1, 1, 3, 5, 7));
}

@inline
export function hmax(v: v128): f32 {
  const w = f32x4.max(v, v128.shuffle<f32>(v, v, 2, 3, 0, 1));
  return max(f32x4.extract_lane(w, 0), f32x4.extract_lane(w, 1));
}

/** a b + c: in the relaxed build rounded once where the processor can, in the plain build always twice. */
@inline
export function madd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(c, f32x4.mul(a, b));
}

/**
 * exp in f32 (Cephes expf): error about 1 ulp on the whole range, subnormal results included; exp(NaN) = NaN.
 * 2^n is applied in two halves, since n reaches -149 and 128, beyond one exponent field.
 */
@inline
export function exp4(x0: v128): v128 {
  const x = f32x4.max(f32x4.min(x0, f32x4.splat(89.0)), f32x4.splat(-104.0));
  const n = f32x4.nearest(f32x4.mul(x, f32x4.splat(1.44269504088896341)));
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.sub(r, f32x4.mul(n, f32x4.splat(-2.12194440e-4)));
  let p = f32x4.splat(1.9875691500e-4);
  p = madd(p, r, f32x4.splat(1.3981999507e-3));
  p = madd(p, r, f32x4.splat(8.3334519073e-3));
  p = madd(p, r, f32x4.splat(4.1665795894e-2));
  p = madd(p, r, f32x4.splat(1.6666665459e-1));
  p = madd(p, r, f32x4.splat(5.0000001201e-1));
  p = f32x4.add(madd(p, f32x4.mul(r, r), r), f32x4.splat(1.0));
  const ni = i32x4.trunc_sat_f32x4_s(n);
  const h = i32x4.shr_s(ni, 1);
  const s1 = i32x4.shl(i32x4.add(h, i32x4.splat(127)), 23);
  const s2 = i32x4.shl(i32x4.add(i32x4.sub(ni, h), i32x4.splat(127)), 23);
  return f32x4.mul(f32x4.mul(p, s1), s2);
}

/** Natural logarithm in f32 (Cephes logf); log(0) = -Infinity, log of a negative number = NaN. */
@inline
export function log4(x0: v128): v128 {
  // Subnormals have no exponent to read: scale them by 2^25 first.
  const tiny = f32x4.lt(x0, f32x4.splat(1.17549435e-38));
  const x = v128.bitselect(f32x4.mul(x0, f32x4.splat(33554432.0)), x0, tiny);
  let e = f32x4.convert_i32x4_s(i32x4.sub(i32x4.shr_u(x, 23), i32x4.splat(126)));
  e = f32x4.sub(e, v128.and(tiny, f32x4.splat(25.0)));
  let m = v128.or(v128.and(x, i32x4.splat(0x007fffff)), i32x4.splat(0x3f000000));
  const low = f32x4.lt(m, f32x4.splat(0.707106781186547524));
  e = f32x4.sub(e, v128.and(low, f32x4.splat(1.0)));
  m = f32x4.sub(f32x4.add(m, v128.and(low, m)), f32x4.splat(1.0));
  const z = f32x4.mul(m, m);
  let p = f32x4.splat(7.0376836292e-2);
  p = madd(p, m, f32x4.splat(-1.1514610310e-1));
  p = madd(p, m, f32x4.splat(1.1676998740e-1));
  p = madd(p, m, f32x4.splat(-1.2420140846e-1));
  p = madd(p, m, f32x4.splat(1.4249322787e-1));
  p = madd(p, m, f32x4.splat(-1.6668057665e-1));
  p = madd(p, m, f32x4.splat(2.0000714765e-1));
  p = madd(p, m, f32x4.splat(-2.4999993993e-1));
  p = madd(p, m, f32x4.splat(3.3333331174e-1));
  p = f32x4.mul(f32x4.mul(p, m), z);
  p = madd(e, f32x4.splat(-2.12194440e-4), p);
  p = f32x4.sub(p, f32x4.mul(z, f32x4.splat(0.5)));
  let y = f32x4.add(m, p);
  y = madd(e, f32x4.splat(0.693359375), y);
  y = v128.bitselect(f32x4.splat(-Infinity), y, f32x4.eq(x0, f32x4.splat(0)));
  y = v128.bitselect(f32x4.splat(Infinity), y, f32x4.eq(x0, f32x4.splat(Infinity)));
  return v128.bitselect(f32x4.splat(NaN), y, v128.or(f32x4.lt(x0, f32x4.splat(0)), f32x4.ne(x0, x0)));
}

@inline
export function exp1(x: f32): f32 {
  return f32x4.extract_lane(exp4(f32x4.splat(x)), 0);
}

@inline
export function log1(x: f32): f32 {
  return f32x4.extract_lane(log4(f32x4.splat(x)), 0);
}

/** 1 / (1 + e^-x), from e^-|x| so that nothing overflows and small results keep their digits. */
@inline
export function sigmoid4(x: v128): v128 {
  const one = f32x4.splat(1);
  const t = exp4(f32x4.neg(f32x4.abs(x)));
  return f32x4.div(v128.bitselect(t, one, f32x4.lt(x, f32x4.splat(0))), f32x4.add(one, t));
}

/** tanh in f32 (Cephes tanhf): a polynomial near 0, where 1 - 2/(e^2x + 1) would cancel. */
@inline
export function tanh4(x: v128): v128 {
  const a = f32x4.abs(x);
  const big = f32x4.sub(f32x4.splat(1), f32x4.div(f32x4.splat(2), f32x4.add(exp4(f32x4.add(a, a)), f32x4.splat(1))));
  const z = f32x4.mul(x, x);
  let p = f32x4.splat(-5.70498872745e-3);
  p = madd(p, z, f32x4.splat(2.06390887954e-2));
  p = madd(p, z, f32x4.splat(-5.37397155531e-2));
  p = madd(p, z, f32x4.splat(1.33314422036e-1));
  p = madd(p, z, f32x4.splat(-3.33332819422e-1));
  const small = f32x4.add(f32x4.mul(f32x4.mul(p, z), a), a);
  return v128.or(v128.bitselect(small, big, f32x4.lt(a, f32x4.splat(0.625))), v128.and(x, i32x4.splat(0x80000000)));
}

/** atan in f32 (Cephes atanf). */
@inline
export function atan4(x: v128): v128 {
  const one = f32x4.splat(1);
  const a = f32x4.abs(x);
  const large = f32x4.gt(a, f32x4.splat(2.414213562373095));
  const middle = v128.andnot(f32x4.gt(a, f32x4.splat(0.414213562373095)), large);
  let z = v128.bitselect(f32x4.div(f32x4.sub(a, one), f32x4.add(a, one)), a, middle);
  z = v128.bitselect(f32x4.neg(f32x4.div(one, a)), z, large);
  const start = v128.or(v128.and(large, f32x4.splat(1.5707963267948966)), v128.and(middle, f32x4.splat(0.7853981633974483)));
  const w = f32x4.mul(z, z);
  let p = f32x4.splat(8.05374449538e-2);
  p = madd(p, w, f32x4.splat(-1.38776856032e-1));
  p = madd(p, w, f32x4.splat(1.99777106478e-1));
  p = madd(p, w, f32x4.splat(-3.33329491539e-1));
  const y = f32x4.add(start, madd(f32x4.mul(p, w), z, z));
  return v128.or(y, v128.and(x, i32x4.splat(0x80000000)));
}
