import { hsum, loadTail, madd } from './math';

// C (M, N) = A (M, K) . B (N, K)^T, rows of A, B and C contiguous.
// Every kernel here keeps one vector of partial sums per output, lane l summing k = l, l + 4, ... in order, and ends with `hsum`:
// an output has the same bits whichever tile computes it, so GEMV, small batches and full GEMM agree.

@inline
function rows1(a: usize, b: usize, c: usize, K: i32, N: i32, n0: i32, n1: i32): void {
  const rowBytes = (<usize>K) << 2;
  const full = (<usize>(K & ~3)) << 2;
  const rem = K & 3;
  let n = n0;
  for (; n + 8 <= n1; n += 8) {
    const b0 = b + <usize>n * rowBytes, b1 = b0 + rowBytes, b2 = b1 + rowBytes, b3 = b2 + rowBytes;
    const b4 = b3 + rowBytes, b5 = b4 + rowBytes, b6 = b5 + rowBytes, b7 = b6 + rowBytes;
    let s0 = f32x4.splat(0), s1 = f32x4.splat(0), s2 = f32x4.splat(0), s3 = f32x4.splat(0);
    let s4 = f32x4.splat(0), s5 = f32x4.splat(0), s6 = f32x4.splat(0), s7 = f32x4.splat(0);
    for (let k: usize = 0; k < full; k += 16) {
      const x = v128.load(a + k);
      s0 = madd(x, v128.load(b0 + k), s0);
      s1 = madd(x, v128.load(b1 + k), s1);
      s2 = madd(x, v128.load(b2 + k), s2);
      s3 = madd(x, v128.load(b3 + k), s3);
      s4 = madd(x, v128.load(b4 + k), s4);
      s5 = madd(x, v128.load(b5 + k), s5);
      s6 = madd(x, v128.load(b6 + k), s6);
      s7 = madd(x, v128.load(b7 + k), s7);
    }
    if (rem) {
      const x = loadTail(a + full, rem);
      s0 = madd(x, loadTail(b0 + full, rem), s0);
      s1 = madd(x, loadTail(b1 + full, rem), s1);
      s2 = madd(x, loadTail(b2 + full, rem), s2);
      s3 = madd(x, loadTail(b3 + full, rem), s3);
      s4 = madd(x, loadTail(b4 + full, rem), s4);
      s5 = madd(x, loadTail(b5 + full, rem), s5);
      s6 = madd(x, loadTail(b6 + full, rem), s6);
      s7 = madd(x, loadTail(b7 + full, rem), s7);
    }
    const o = c + ((<usize>n) << 2);
    f32.store(o, hsum(s0));
    f32.store(o + 4, hsum(s1));
    f32.store(o + 8, hsum(s2));
    f32.store(o + 12, hsum(s3));
    f32.store(o + 16, hsum(s4));
    f32.store(o + 20, hsum(s5));
    f32.store(o + 24, hsum(s6));
    f32.store(o + 28, hsum(s7));
  }
  for (; n < n1; n++) {
    const b0 = b + <usize>n * rowBytes;
    let s = f32x4.splat(0);
    for (let k: usize = 0; k < full; k += 16) s = madd(v128.load(a + k), v128.load(b0 + k), s);
    if (rem) s = madd(loadTail(a + full, rem), loadTail(b0 + full, rem), s);
    f32.store(c + ((<usize>n) << 2), hsum(s));
  }
}

// Two rows of A by four of B: 8 partial sums, 2 rows of A and one of B fit the 15 vector registers that V8 leaves, with the temporary that mul + add needs.
@inline
function tile2x4(a: usize, b: usize, c: usize, K: i32, N: i32): void {
  const rowBytes = (<usize>K) << 2;
  const full = (<usize>(K & ~3)) << 2;
  const rem = K & 3;
  const a1 = a + rowBytes, b1 = b + rowBytes, b2 = b1 + rowBytes, b3 = b2 + rowBytes;
  let s00 = f32x4.splat(0), s01 = f32x4.splat(0), s02 = f32x4.splat(0), s03 = f32x4.splat(0);
  let s10 = f32x4.splat(0), s11 = f32x4.splat(0), s12 = f32x4.splat(0), s13 = f32x4.splat(0);
  for (let k: usize = 0; k < full; k += 16) {
    const x0 = v128.load(a + k), x1 = v128.load(a1 + k);
    let y = v128.load(b + k);
    s00 = madd(x0, y, s00);
    s10 = madd(x1, y, s10);
    y = v128.load(b1 + k);
    s01 = madd(x0, y, s01);
    s11 = madd(x1, y, s11);
    y = v128.load(b2 + k);
    s02 = madd(x0, y, s02);
    s12 = madd(x1, y, s12);
    y = v128.load(b3 + k);
    s03 = madd(x0, y, s03);
    s13 = madd(x1, y, s13);
  }
  if (rem) {
    const x0 = loadTail(a + full, rem), x1 = loadTail(a1 + full, rem);
    let y = loadTail(b + full, rem);
    s00 = madd(x0, y, s00);
    s10 = madd(x1, y, s10);
    y = loadTail(b1 + full, rem);
    s01 = madd(x0, y, s01);
    s11 = madd(x1, y, s11);
    y = loadTail(b2 + full, rem);
    s02 = madd(x0, y, s02);
    s12 = madd(x1, y, s12);
    y = loadTail(b3 + full, rem);
    s03 = madd(x0, y, s03);
    s13 = madd(x1, y, s13);
  }
  f32.store(c, hsum(s00));
  f32.store(c + 4, hsum(s01));
  f32.store(c + 8, hsum(s02));
  f32.store(c + 12, hsum(s03));
  const d = c + ((<usize>N) << 2);
  f32.store(d, hsum(s10));
  f32.store(d + 4, hsum(s11));
  f32.store(d + 8, hsum(s12));
  f32.store(d + 12, hsum(s13));
}

/** One row of A against the rows n0 to n1 of B. */
export function matvec(a: usize, b: usize, c: usize, K: i32, N: i32, n0: i32, n1: i32): void {
  rows1(a, b, c, K, N, n0, n1);
}

/** All M rows of A against the rows n0 to n1 of B: the range is what a thread takes. */
export function matmul(a: usize, b: usize, c: usize, M: i32, K: i32, N: i32, n0: i32, n1: i32): void {
  const rowA = (<usize>K) << 2;
  const rowC = (<usize>N) << 2;
  const pairs = M & ~1;
  let n = n0;
  if (pairs) {
    // Four rows of B stay in the first-level cache while A passes by.
    for (; n + 4 <= n1; n += 4) {
      for (let m = 0; m < pairs; m += 2) {
        tile2x4(a + <usize>m * rowA, b + <usize>n * rowA, c + <usize>m * rowC + ((<usize>n) << 2), K, N);
      }
    }
    if (n < n1) for (let m = 0; m < pairs; m++) rows1(a + <usize>m * rowA, b, c + <usize>m * rowC, K, N, n, n1);
  }
  if (M & 1) rows1(a + <usize>pairs * rowA, b, c + <usize>pairs * rowC, K, N, n0, n1);
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
