import { hmax, hsum, loadTail, log1 } from './math';
import { rowExpSum, rowMax, safeShift } from './norm';

// x (outer, n, inner) -> y (outer, inner). Codes: 0 sum, 1 mean, 2 max, 3 min, 4 logSumExp.

@inline
function contiguous(code: i32, p: usize, n: i32): f32 {
  const full = (<usize>(n & ~3)) << 2;
  const rem = n & 3;
  if (code <= 1) {
    let s = f32x4.splat(0);
    for (let i: usize = 0; i < full; i += 16) s = f32x4.add(s, v128.load(p + i));
    if (rem) s = f32x4.add(s, loadTail(p + full, rem));
    return code ? hsum(s) / <f32>n : hsum(s);
  }
  if (code == 2) return rowMax(p, n);
  if (code == 3) {
    let m = f32x4.splat(-Infinity);
    for (let i: usize = 0; i < full; i += 16) m = f32x4.max(m, f32x4.neg(v128.load(p + i)));
    let best = hmax(m);
    for (let i = n & ~3; i < n; i++) best = max(best, -f32.load(p + ((<usize>i) << 2)));
    return -best;
  }
  const m = rowMax(p, n);
  const shift = safeShift(m);
  return log1(rowExpSum(p, 0, n, shift)) + shift;
}

@inline
function strided(code: i32, p: usize, n: i32, inner: i32, i: i32): f32 {
  const step = (<usize>inner) << 2;
  let q = p + ((<usize>i) << 2);
  if (code <= 1) {
    // The order of `contiguous`: the bits of a sum must not depend on how many sums stand beside it.
    let s0: f32 = 0, s1: f32 = 0, s2: f32 = 0, s3: f32 = 0;
    let k = 0;
    for (; k + 4 <= n; k += 4, q += 4 * step) {
      s0 += f32.load(q);
      s1 += f32.load(q + step);
      s2 += f32.load(q + 2 * step);
      s3 += f32.load(q + 3 * step);
    }
    if (k < n) s0 += f32.load(q);
    if (k + 1 < n) s1 += f32.load(q + step);
    if (k + 2 < n) s2 += f32.load(q + 2 * step);
    const s = s0 + s2 + (s1 + s3);
    return code ? s / <f32>n : s;
  }
  if (code == 2) {
    let m: f32 = -Infinity;
    for (let k = 0; k < n; k++, q += step) m = max(m, f32.load(q));
    return m;
  }
  if (code == 3) {
    let m: f32 = Infinity;
    for (let k = 0; k < n; k++, q += step) m = min(m, f32.load(q));
    return m;
  }
  unreachable();
  return 0;
}

export function reduce(code: i32, x: usize, y: usize, outer: i32, n: i32, inner: i32): void {
  for (let o = 0; o < outer; o++) {
    const p = x + ((<usize>(o * n * inner)) << 2);
    for (let i = 0; i < inner; i++) {
      const v = inner == 1 ? contiguous(code, p, n) : strided(code, p, n, inner, i);
      f32.store(y + ((<usize>(o * inner + i)) << 2), v);
    }
  }
}
