import { exp4, hmax, hsum, loadTail, log1, madd, storeTail } from './math';

/** y = x / sqrt(mean(x^2) + eps) * w, for the rows r0 to r1 of x (rows, C). */
export function rmsNorm(x: usize, w: usize, y: usize, C: i32, eps: f32, r0: i32, r1: i32): void {
  const full = (<usize>(C & ~3)) << 2;
  const rem = C & 3;
  for (let r = r0; r < r1; r++) {
    const p = x + ((<usize>(r * C)) << 2);
    const q = y + ((<usize>(r * C)) << 2);
    let s = f32x4.splat(0);
    for (let i: usize = 0; i < full; i += 16) {
      const v = v128.load(p + i);
      s = madd(v, v, s);
    }
    if (rem) {
      const v = loadTail(p + full, rem);
      s = madd(v, v, s);
    }
    const scale = f32x4.splat(<f32>1 / sqrt<f32>(hsum(s) / <f32>C + eps));
    for (let i: usize = 0; i < full; i += 16) v128.store(q + i, f32x4.mul(f32x4.mul(v128.load(p + i), scale), v128.load(w + i)));
    if (rem) storeTail(q + full, f32x4.mul(f32x4.mul(loadTail(p + full, rem), scale), loadTail(w + full, rem)), rem);
  }
}

@inline
export function rowMax(p: usize, n: i32): f32 {
  const full = (<usize>(n & ~3)) << 2;
  let m = f32x4.splat(-Infinity);
  for (let i: usize = 0; i < full; i += 16) m = f32x4.max(m, v128.load(p + i));
  let best = hmax(m);
  for (let i = n & ~3; i < n; i++) best = max(best, f32.load(p + ((<usize>i) << 2)));
  return best;
}

/** Sum over exp(x - m); the values are written to q when it is not 0. */
@inline
export function rowExpSum(p: usize, q: usize, n: i32, m: f32): f32 {
  const full = (<usize>(n & ~3)) << 2;
  const rem = n & 3;
  const shift = f32x4.splat(m);
  let s = f32x4.splat(0);
  for (let i: usize = 0; i < full; i += 16) {
    const e = exp4(f32x4.sub(v128.load(p + i), shift));
    if (q) v128.store(q + i, e);
    s = f32x4.add(s, e);
  }
  if (rem) {
    // The lanes beyond the row must add 0: they hold exp(0 - m) otherwise.
    const keep = i32x4.gt_s(i32x4.splat(rem), i32x4(0, 1, 2, 3));
    const e = v128.and(exp4(f32x4.sub(loadTail(p + full, rem), shift)), keep);
    if (q) storeTail(q + full, e, rem);
    s = f32x4.add(s, e);
  }
  return hsum(s);
}

/** The shift that keeps exp in range; an infinite one would give NaN through Infinity - Infinity. */
@inline
export function safeShift(m: f32): f32 {
  return abs(m) == Infinity ? 0 : m;
}

/** The rows r0 to r1 of n values. */
export function softmax(x: usize, y: usize, n: i32, r0: i32, r1: i32): void {
  const full = (<usize>(n & ~3)) << 2;
  const rem = n & 3;
  for (let r = r0; r < r1; r++) {
    const p = x + ((<usize>(r * n)) << 2);
    const q = y + ((<usize>(r * n)) << 2);
    const sum = rowExpSum(p, q, n, rowMax(p, n));
    const scale = f32x4.splat(<f32>1 / sum);
    for (let i: usize = 0; i < full; i += 16) v128.store(q + i, f32x4.mul(v128.load(q + i), scale));
    if (rem) storeTail(q + full, f32x4.mul(loadTail(q + full, rem), scale), rem);
  }
}

/** loss[r] = logSumExp(logits[r]) - logits[r, target[r]] for the rows r0 to r1, 0 where the target is ignored. Returns the first row with a target outside 0..V-1, or -1. */
export function crossEntropy(x: usize, target: usize, y: usize, V: i32, ignore: i32, r0: i32, r1: i32): i32 {
  for (let r = r0; r < r1; r++) {
    const t = i32.load(target + ((<usize>r) << 2));
    const out = y + ((<usize>r) << 2);
    if (t == ignore) {
      f32.store(out, 0);
      continue;
    }
    if (t < 0 || t >= V) return r;
    const p = x + ((<usize>(r * V)) << 2);
    const m = rowMax(p, V);
    const shift = safeShift(m);
    f32.store(out, log1(rowExpSum(p, 0, V, shift)) + (shift - f32.load(p + ((<usize>t) << 2))));
  }
  return -1;
}
