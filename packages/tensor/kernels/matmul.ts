import { hsum, hsum4, loadTail, madd } from './math';

// C (M, N) = A (M, K) . B (N, K)^T, rows of A, B and C contiguous: for few rows, B is read where it lies.
// Every kernel here keeps one vector of partial sums per output, lane l summing k = l, l + 4, ... in order, and ends with `hsum` or `hsum4`:
// an output has the same bits whichever tile computes it, so GEMV, small batches and full GEMM (gemm.ts) agree.
// The exits between the steps of unrolled loops keep the engine from loading all operands of the body first, more than there are registers.

/** One row of A by eight rows of B, `apart` bytes from each other; results `outApart`. */
@inline
function row8(a: usize, b: usize, c: usize, K: i32, apart: usize, outApart: usize): void {
  const rem = K & 3;
  let p = a;
  const end = a + ((<usize>(K & ~3)) << 2), last = end - 16;
  let b0 = b, b1 = b0 + apart, b2 = b1 + apart, b3 = b2 + apart;
  let b4 = b3 + apart, b5 = b4 + apart, b6 = b5 + apart, b7 = b6 + apart;
  let s0 = f32x4.splat(0), s1 = f32x4.splat(0), s2 = f32x4.splat(0), s3 = f32x4.splat(0);
  let s4 = f32x4.splat(0), s5 = f32x4.splat(0), s6 = f32x4.splat(0), s7 = f32x4.splat(0);
  let x: v128;
  if (p < last) {
    do {
      x = v128.load(p);
      s0 = madd(x, v128.load(b0), s0);
      s1 = madd(x, v128.load(b1), s1);
      s2 = madd(x, v128.load(b2), s2);
      s3 = madd(x, v128.load(b3), s3);
      s4 = madd(x, v128.load(b4), s4);
      s5 = madd(x, v128.load(b5), s5);
      s6 = madd(x, v128.load(b6), s6);
      s7 = madd(x, v128.load(b7), s7);
      x = v128.load(p, 16);
      s0 = madd(x, v128.load(b0, 16), s0);
      s1 = madd(x, v128.load(b1, 16), s1);
      s2 = madd(x, v128.load(b2, 16), s2);
      s3 = madd(x, v128.load(b3, 16), s3);
      s4 = madd(x, v128.load(b4, 16), s4);
      s5 = madd(x, v128.load(b5, 16), s5);
      s6 = madd(x, v128.load(b6, 16), s6);
      s7 = madd(x, v128.load(b7, 16), s7);
      p += 32;
      b0 += 32;
      b1 += 32;
      b2 += 32;
      b3 += 32;
      b4 += 32;
      b5 += 32;
      b6 += 32;
      b7 += 32;
    } while (p < last);
  }
  if (p < end) {
    x = v128.load(p);
    s0 = madd(x, v128.load(b0), s0);
    s1 = madd(x, v128.load(b1), s1);
    s2 = madd(x, v128.load(b2), s2);
    s3 = madd(x, v128.load(b3), s3);
    s4 = madd(x, v128.load(b4), s4);
    s5 = madd(x, v128.load(b5), s5);
    s6 = madd(x, v128.load(b6), s6);
    s7 = madd(x, v128.load(b7), s7);
    b0 += 16;
    b1 += 16;
    b2 += 16;
    b3 += 16;
    b4 += 16;
    b5 += 16;
    b6 += 16;
    b7 += 16;
  }
  if (rem) {
    x = loadTail(end, rem);
    s0 = madd(x, loadTail(b0, rem), s0);
    s1 = madd(x, loadTail(b1, rem), s1);
    s2 = madd(x, loadTail(b2, rem), s2);
    s3 = madd(x, loadTail(b3, rem), s3);
    s4 = madd(x, loadTail(b4, rem), s4);
    s5 = madd(x, loadTail(b5, rem), s5);
    s6 = madd(x, loadTail(b6, rem), s6);
    s7 = madd(x, loadTail(b7, rem), s7);
  }
  const lo = hsum4(s0, s1, s2, s3), hi = hsum4(s4, s5, s6, s7);
  v128.store_lane<f32>(c, lo, 0);
  v128.store_lane<f32>(c + outApart, lo, 1);
  v128.store_lane<f32>(c + 2 * outApart, lo, 2);
  v128.store_lane<f32>(c + 3 * outApart, lo, 3);
  c += 4 * outApart;
  v128.store_lane<f32>(c, hi, 0);
  v128.store_lane<f32>(c + outApart, hi, 1);
  v128.store_lane<f32>(c + 2 * outApart, hi, 2);
  v128.store_lane<f32>(c + 3 * outApart, hi, 3);
}

/** One row of A by the rows n0 to n1 of B, one by one. */
@inline
function rowSingles(a: usize, b: usize, c: usize, K: i32, n0: i32, n1: i32): void {
  const full = (<usize>(K & ~3)) << 2;
  for (let n = n0; n < n1; n++) {
    const row = b + (((<usize>n) * (<usize>K)) << 2);
    let s = f32x4.splat(0);
    for (let k: usize = 0; k < full; k += 16) s = madd(v128.load(a + k), v128.load(row + k), s);
    if (K & 3) s = madd(loadTail(a + full, K & 3), loadTail(row + full, K & 3), s);
    f32.store(c + ((<usize>n) << 2), hsum(s));
  }
}

// Two rows of A by four of B: 8 partial sums, 2 rows of A and one of B fit the 15 vector registers that V8 leaves, with the temporary that mul + add needs.
@inline
function tile2x4(a: usize, b: usize, c: usize, K: i32, N: i32): void {
  const rowBytes = (<usize>K) << 2;
  const rem = K & 3;
  let a0 = a, a1 = a + rowBytes, b0 = b, b1 = b0 + rowBytes, b2 = b1 + rowBytes, b3 = b2 + rowBytes;
  const end = a + ((<usize>(K & ~3)) << 2), last = end - 16;
  let s00 = f32x4.splat(0), s01 = f32x4.splat(0), s02 = f32x4.splat(0), s03 = f32x4.splat(0);
  let s10 = f32x4.splat(0), s11 = f32x4.splat(0), s12 = f32x4.splat(0), s13 = f32x4.splat(0);
  let x0: v128, x1: v128, y: v128;
  while (a0 < end) {
    x0 = v128.load(a0);
    x1 = v128.load(a1);
    y = v128.load(b0);
    s00 = madd(x0, y, s00);
    s10 = madd(x1, y, s10);
    y = v128.load(b1);
    s01 = madd(x0, y, s01);
    s11 = madd(x1, y, s11);
    y = v128.load(b2);
    s02 = madd(x0, y, s02);
    s12 = madd(x1, y, s12);
    y = v128.load(b3);
    s03 = madd(x0, y, s03);
    s13 = madd(x1, y, s13);
    if (a0 == last) {
      a0 += 16;
      a1 += 16;
      b0 += 16;
      b1 += 16;
      b2 += 16;
      b3 += 16;
      break;
    }
    x0 = v128.load(a0, 16);
    x1 = v128.load(a1, 16);
    y = v128.load(b0, 16);
    s00 = madd(x0, y, s00);
    s10 = madd(x1, y, s10);
    y = v128.load(b1, 16);
    s01 = madd(x0, y, s01);
    s11 = madd(x1, y, s11);
    y = v128.load(b2, 16);
    s02 = madd(x0, y, s02);
    s12 = madd(x1, y, s12);
    y = v128.load(b3, 16);
    s03 = madd(x0, y, s03);
    s13 = madd(x1, y, s13);
    a0 += 32;
    a1 += 32;
    b0 += 32;
    b1 += 32;
    b2 += 32;
    b3 += 32;
  }
  if (rem) {
    x0 = loadTail(a0, rem);
    x1 = loadTail(a1, rem);
    y = loadTail(b0, rem);
    s00 = madd(x0, y, s00);
    s10 = madd(x1, y, s10);
    y = loadTail(b1, rem);
    s01 = madd(x0, y, s01);
    s11 = madd(x1, y, s11);
    y = loadTail(b2, rem);
    s02 = madd(x0, y, s02);
    s12 = madd(x1, y, s12);
    y = loadTail(b3, rem);
    s03 = madd(x0, y, s03);
    s13 = madd(x1, y, s13);
  }
  v128.store(c, hsum4(s00, s01, s02, s03));
  v128.store(c + ((<usize>N) << 2), hsum4(s10, s11, s12, s13));
}

/** One row of A against the rows n0 to n1 of B. */
export function matvec(a: usize, b: usize, c: usize, K: i32, N: i32, n0: i32, n1: i32): void {
  const rowBytes = (<usize>K) << 2;
  // Eight places far from each other, each read from one end to the other, come faster from memory than eight neighbours (quant-row.ts).
  const part = (n1 - n0) >> 3;
  let n = n0;
  for (; n < n0 + part; n++) row8(a, b + <usize>n * rowBytes, c + ((<usize>n) << 2), K, rowBytes * <usize>part, (<usize>part) << 2);
  n = n0 + 8 * part;
  rowSingles(a, b, c, K, n, n1);
}

/** All M rows of A against the rows n0 to n1 of B. */
export function matmul(a: usize, b: usize, c: usize, M: i32, K: i32, N: i32, n0: i32, n1: i32): void {
  const rowA = (<usize>K) << 2;
  const rowC = (<usize>N) << 2;
  const pairs = M & ~1;
  let n = n0;
  // Eight rows of B are read from memory once, while A passes by.
  for (; n + 8 <= n1; n += 8) {
    const rows = b + <usize>n * rowA;
    const to = c + ((<usize>n) << 2);
    for (let m = 0; m < pairs; m += 2) {
      tile2x4(a + <usize>m * rowA, rows, to + <usize>m * rowC, K, N);
      tile2x4(a + <usize>m * rowA, rows + 4 * rowA, to + <usize>m * rowC + 16, K, N);
    }
    if (M & 1) row8(a + <usize>pairs * rowA, rows, to + <usize>pairs * rowC, K, rowA, 4);
  }
  for (let m = 0; m < M; m++) rowSingles(a + <usize>m * rowA, b, c + <usize>m * rowC, K, n, n1);
}

/** dst (cols, rows) = src (rows, cols) transposed, in 4 x 4 blocks. */
export function transpose(src: usize, dst: usize, rows: i32, cols: i32): void {
  const rs = (<usize>cols) << 2;
  const cs = (<usize>rows) << 2;
  const r4 = rows & ~3;
  const c4 = cols & ~3;
  for (let r = 0; r < r4; r += 4) {
    for (let c = 0; c < c4; c += 4) {
      const p = src + <usize>r * rs + ((<usize>c) << 2);
      const x0 = v128.load(p), x1 = v128.load(p + rs), x2 = v128.load(p + 2 * rs), x3 = v128.load(p + 3 * rs);
      const t0 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5), t1 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5);
      const t2 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7), t3 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7);
      const q = dst + <usize>c * cs + ((<usize>r) << 2);
      v128.store(q, v128.shuffle<f32>(t0, t1, 0, 1, 4, 5));
      v128.store(q + cs, v128.shuffle<f32>(t0, t1, 2, 3, 6, 7));
      v128.store(q + 2 * cs, v128.shuffle<f32>(t2, t3, 0, 1, 4, 5));
      v128.store(q + 3 * cs, v128.shuffle<f32>(t2, t3, 2, 3, 6, 7));
    }
    for (let c = c4; c < cols; c++) {
      for (let i = 0; i < 4; i++) {
        f32.store(dst + <usize>c * cs + ((<usize>(r + i)) << 2), f32.load(src + <usize>(r + i) * rs + ((<usize>c) << 2)));
      }
    }
  }
  for (let r = r4; r < rows; r++) {
    for (let c = 0; c < cols; c++) f32.store(dst + <usize>c * cs + ((<usize>r) << 2), f32.load(src + <usize>r * rs + ((<usize>c) << 2)));
  }
}
