/** out (n, width) = table[index]; width in bytes. Returns the first place whose index is outside 0..R-1, or -1. */
export function gatherRows(table: usize, index: usize, out: usize, n: i32, R: i32, width: i32): i32 {
  for (let i = 0; i < n; i++) {
    const row = i32.load(index + ((<usize>i) << 2));
    if (row < 0 || row >= R) return i;
    memory.copy(out + <usize>i * <usize>width, table + <usize>row * <usize>width, <usize>width);
  }
  return -1;
}

/** dst[index[i]] = src[i]; an index of -1 writes nothing. Returns the first place whose index is below -1 or beyond R-1, or -1. Checks before it writes. */
export function scatterRows(dst: usize, index: usize, src: usize, n: i32, R: i32, width: i32): i32 {
  for (let i = 0; i < n; i++) {
    const row = i32.load(index + ((<usize>i) << 2));
    if (row < -1 || row >= R) return i;
  }
  for (let i = 0; i < n; i++) {
    const row = i32.load(index + ((<usize>i) << 2));
    if (row >= 0) memory.copy(dst + <usize>row * <usize>width, src + <usize>i * <usize>width, <usize>width);
  }
  return -1;
}

/** Copies `count` runs of `width` bytes with a step for each side. */
export function copyRuns(src: usize, dst: usize, count: i32, width: i32, srcStep: i32, dstStep: i32): void {
  for (let i = 0; i < count; i++) memory.copy(dst + <usize>i * <usize>dstStep, src + <usize>i * <usize>srcStep, <usize>width);
}

/** Clears `bytes` bytes. */
export function zero(at: usize, bytes: usize): void {
  memory.fill(at, 0, bytes);
}

/** y = x with its axes in another order. meta: dims of y[rank], steps of x for them[rank], in values. */
export function permute(x: usize, y: usize, rank: i32, meta: usize): void {
  const last = rank - 1;
  const n = i32.load(meta + ((<usize>last) << 2));
  const step = (<usize>i32.load(meta + ((<usize>(rank + last)) << 2))) << 2;
  let rows = 1;
  for (let d = 0; d < last; d++) rows *= i32.load(meta + ((<usize>d) << 2));
  let q = y;
  for (let r = 0; r < rows; r++) {
    let rest = r, offset = 0;
    for (let d = last - 1; d >= 0; d--) {
      const size = i32.load(meta + ((<usize>d) << 2));
      offset += (rest % size) * i32.load(meta + ((<usize>(rank + d)) << 2));
      rest /= size;
    }
    let p = x + ((<usize>offset) << 2);
    for (let i = 0; i < n; i++, p += step, q += 4) i32.store(q, i32.load(p));
  }
}

/** Index of the largest value of each row, the first of equals; the first NaN where there is one, so that a caller notices, with all bits turned if `mark` is set. */
export function argmax(x: usize, y: usize, rows: i32, n: i32, mark: i32): void {
  for (let r = 0; r < rows; r++) {
    const p = x + ((<usize>(r * n)) << 2);
    let best = f32.load(p);
    let at = 0;
    for (let i = 1; i < n && best == best; i++) {
      const v = f32.load(p + ((<usize>i) << 2));
      if (v > best || v != v) {
        best = v;
        at = i;
      }
    }
    i32.store(y + ((<usize>r) << 2), mark && best != best ? ~at : at);
  }
}

// Order of topK: larger value first, then smaller index; NaN before all numbers, so that a caller notices.
@inline
function before(v: f32, i: i32, w: f32, j: i32): bool {
  if (v != v) return w != w ? i < j : true;
  if (w != w) return false;
  return v > w || (v == w && i < j);
}

@inline
function siftDown(values: usize, indices: usize, size: i32, start: i32): void {
  let i = start;
  const v = f32.load(values + ((<usize>i) << 2));
  const x = i32.load(indices + ((<usize>i) << 2));
  while (true) {
    let c = 2 * i + 1;
    if (c >= size) break;
    let cv = f32.load(values + ((<usize>c) << 2)), ci = i32.load(indices + ((<usize>c) << 2));
    if (c + 1 < size) {
      const rv = f32.load(values + ((<usize>(c + 1)) << 2)), ri = i32.load(indices + ((<usize>(c + 1)) << 2));
      if (before(cv, ci, rv, ri)) {
        c++;
        cv = rv;
        ci = ri;
      }
    }
    if (!before(v, x, cv, ci)) break;
    f32.store(values + ((<usize>i) << 2), cv);
    i32.store(indices + ((<usize>i) << 2), ci);
    i = c;
  }
  f32.store(values + ((<usize>i) << 2), v);
  i32.store(indices + ((<usize>i) << 2), x);
}

/** The k first of each row of x (rows, n) in the order of `before`: a heap whose root is the last of the k, then heap sort in place. */
export function topK(x: usize, values: usize, indices: usize, rows: i32, n: i32, k: i32): void {
  for (let r = 0; r < rows; r++) {
    const p = x + ((<usize>(r * n)) << 2);
    const vs = values + ((<usize>(r * k)) << 2);
    const is = indices + ((<usize>(r * k)) << 2);
    memory.copy(vs, p, (<usize>k) << 2);
    for (let i = 0; i < k; i++) i32.store(is + ((<usize>i) << 2), i);
    for (let i = (k >> 1) - 1; i >= 0; i--) siftDown(vs, is, k, i);
    for (let i = k; i < n && k > 0; i++) {
      const v = f32.load(p + ((<usize>i) << 2));
      if (before(v, i, f32.load(vs), i32.load(is))) {
        f32.store(vs, v);
        i32.store(is, i);
        siftDown(vs, is, k, 0);
      }
    }
    for (let end = k - 1; end > 0; end--) {
      const o = (<usize>end) << 2;
      const v = f32.load(vs), j = i32.load(is);
      f32.store(vs, f32.load(vs + o));
      i32.store(is, i32.load(is + o));
      f32.store(vs + o, v);
      i32.store(is + o, j);
      siftDown(vs, is, end, 0);
    }
  }
}

// Both run forward and read values before they write over them, so that src may be the upper half of dst.
/** f16 bits to f32: exact, subnormals, infinities and NaN included. */
export function f16ToF32(src: usize, dst: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const h = v128.load_ext<u16>(src + ((<usize>i) << 1));
    const m = v128.and(h, i32x4.splat(0x7fff));
    // 2^112 moves the exponent bias from 15 to 127, and turns f16 subnormals into normal numbers on the way.
    const usual = f32x4.mul(i32x4.shl(m, 13), f32x4.splat(reinterpret<f32>(0x77800000)));
    const special = v128.and(i32x4.gt_s(m, i32x4.splat(0x7bff)), i32x4.splat(0x7f800000));
    const sign = i32x4.shl(v128.andnot(h, i32x4.splat(0x7fff)), 16);
    v128.store(dst + ((<usize>i) << 2), v128.or(v128.or(usual, special), sign));
  }
  for (; i < n; i++) {
    const h = <u32>load<u16>(src + ((<usize>i) << 1));
    const sign = (h & 0x8000) << 16;
    let bits = (h & 0x7fff) << 13;
    if ((h & 0x7c00) == 0x7c00) bits |= 0x7f800000;
    else bits = reinterpret<u32>(reinterpret<f32>(bits) * reinterpret<f32>(<u32>0x77800000));
    store<u32>(dst + ((<usize>i) << 2), bits | sign);
  }
}

export function bf16ToF32(src: usize, dst: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) v128.store(dst + ((<usize>i) << 2), i32x4.shl(v128.load_ext<u16>(src + ((<usize>i) << 1)), 16));
  for (; i < n; i++) store<u32>(dst + ((<usize>i) << 2), (<u32>load<u16>(src + ((<usize>i) << 1))) << 16);
}
