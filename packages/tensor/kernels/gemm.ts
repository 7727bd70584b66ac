import { hsum4, loadTail, madd } from './math';
import { own } from './thread';

// C (M, N) = A (M, K) . B (K, N), with both operands packed in panels that the inner loop reads from end to end, whatever their layout.
// The sums run as in matmul.ts (lane l sums k = l, l + 4, ..., then the lanes), so that a row has the same bits on every path.
// A panel holds 2 rows of A or 4 columns of B, four k at a time: for each k step, row 0 (4 values), row 1, ...; what is missing is 0.

/** k steps of 4 per pass: 2 rows of A (8 KiB) and 4 columns of B (16 KiB) then stay in the first-level cache. */
const passSteps: i32 = 256;
/** Columns of C that are packed at once: a cache line of a row of B. */
const groupColumns: i32 = 16;
/** Pairs of rows that go over one panel of B before the next: their panels stay in the second-level cache. */
const blockPairs: i32 = 16;

@inline
function load4(p: usize, count: i32): v128 {
  return count >= 4 ? v128.load(p) : count > 0 ? loadTail(p, count) : f32x4.splat(0);
}

/** Packs `width` rows, given as k runs at p + i * step for i < rows, over the values k0 to k1 of each. */
@inline
function packRuns(p: usize, step: usize, rows: i32, width: i32, dst: usize, k0: i32, k1: i32): void {
  const full = (k1 - k0) & ~3;
  const from = p + ((<usize>k0) << 2);
  const panel = (<usize>width) << 4;
  if (width == 4 && rows >= 4) {
    // Four rows at once: what is written fills a cache line at a time.
    let r0 = from, r1 = from + step, r2 = r1 + step, r3 = r2 + step, to = dst;
    for (const end = from + ((<usize>full) << 2); r0 < end; r0 += 16, r1 += 16, r2 += 16, r3 += 16, to += 64) {
      v128.store(to, v128.load(r0));
      v128.store(to, v128.load(r1), 16);
      v128.store(to, v128.load(r2), 32);
      v128.store(to, v128.load(r3), 48);
    }
    const rest = k1 - k0 - full;
    if (rest) {
      v128.store(to, loadTail(r0, rest));
      v128.store(to, loadTail(r1, rest), 16);
      v128.store(to, loadTail(r2, rest), 32);
      v128.store(to, loadTail(r3, rest), 48);
    }
    return;
  }
  for (let i = 0; i < width; i++) {
    const row = from + <usize>i * step;
    let to = dst + ((<usize>i) << 4);
    if (i >= rows) {
      for (let k = k0; k < k1; k += 4, to += panel) v128.store(to, f32x4.splat(0));
      continue;
    }
    let at = row;
    for (const end = row + ((<usize>full) << 2); at < end; at += 16, to += panel) v128.store(to, v128.load(at));
    if (full < k1 - k0) v128.store(to, loadTail(at, k1 - k0 - full));
  }
}

/** Four runs along k from 4 columns at p, rows `step` apart: `columns` and `ks` of them are there, the others are 0. Run i goes to d0 + 16 i, the third and fourth to d2. */
@inline
function turn4(p: usize, step: usize, columns: i32, ks: i32, d0: usize, d2: usize): void {
  const x0 = load4(p, columns);
  const x1 = ks > 1 ? load4(p + step, columns) : f32x4.splat(0);
  const x2 = ks > 2 ? load4(p + 2 * step, columns) : f32x4.splat(0);
  const x3 = ks > 3 ? load4(p + 3 * step, columns) : f32x4.splat(0);
  const t0 = v128.shuffle<f32>(x0, x1, 0, 4, 1, 5), t1 = v128.shuffle<f32>(x2, x3, 0, 4, 1, 5);
  const t2 = v128.shuffle<f32>(x0, x1, 2, 6, 3, 7), t3 = v128.shuffle<f32>(x2, x3, 2, 6, 3, 7);
  v128.store(d0, v128.shuffle<f32>(t0, t1, 0, 1, 4, 5));
  v128.store(d0, v128.shuffle<f32>(t0, t1, 2, 3, 6, 7), 16);
  v128.store(d2, v128.shuffle<f32>(t2, t3, 0, 1, 4, 5));
  v128.store(d2, v128.shuffle<f32>(t2, t3, 2, 3, 6, 7), 16);
}

/** Panels of A for the groups g0 to g1 of 16 rows. A is (M, K), or (K, M) when `turned`. dst: 4 ceil(K / 4) floats for each row, of M rounded up to 16. */
export function packRows(a: usize, dst: usize, M: i32, K: i32, turned: i32, g0: i32, g1: i32): void {
  const pairBytes = (<usize>((K + 3) >> 2)) << 5;
  const last = min(g1 * 16, M);
  for (let m = g0 * 16; m < last; m += 16) {
    const panels = dst + <usize>(m >> 1) * pairBytes;
    if (!turned) {
      const rowA = (<usize>K) << 2;
      for (let i = 0; i < 16 && m + i < M; i += 2) {
        packRuns(a + <usize>(m + i) * rowA, rowA, M - m - i, 2, panels + <usize>(i >> 1) * pairBytes, 0, K);
      }
    } else {
      const rowA = (<usize>M) << 2;
      for (let k = 0; k < K; k += 4) {
        const from = a + <usize>k * rowA + ((<usize>m) << 2);
        const to = panels + ((<usize>k) << 3);
        for (let i = 0; i < 16 && m + i < M; i += 4) {
          const d = to + <usize>(i >> 1) * pairBytes;
          turn4(from + ((<usize>i) << 2), rowA, M - m - i, K - k, d, d + pairBytes);
        }
      }
    }
  }
}

/** Four panels of B (K, N): the columns n to n + 16 over k0 to k1. */
@inline
function packColumns(b: usize, dst: usize, K: i32, N: i32, n: i32, k0: i32, k1: i32): void {
  const panelBytes = (<usize>((k1 - k0 + 3) >> 2)) << 6;
  const rowB = (<usize>N) << 2;
  for (let k = k0; k < k1; k += 4) {
    const from = b + <usize>k * rowB + ((<usize>n) << 2);
    const to = dst + ((<usize>(k - k0)) << 4);
    for (let i = 0; i < groupColumns && n + i < N; i += 4) {
      const d = to + <usize>(i >> 2) * panelBytes;
      turn4(from + ((<usize>i) << 2), rowB, N - n - i, k1 - k, d, d + 32);
    }
  }
}

/**
 * Two rows by four columns over `steps` k steps, from the partial sums in `sums` when `go`, else from 0; to them when `stay`, else their totals to c.
 * The exits between the steps are what keeps the engine from loading all operands of an unrolled body first, more than there are registers.
 */
function tile(pa: usize, pb: usize, steps: i32, sums: usize, go: i32, stay: i32, c: usize, rowC: usize): void {
  let s00 = f32x4.splat(0), s01 = f32x4.splat(0), s02 = f32x4.splat(0), s03 = f32x4.splat(0);
  let s10 = f32x4.splat(0), s11 = f32x4.splat(0), s12 = f32x4.splat(0), s13 = f32x4.splat(0);
  if (go) {
    s00 = v128.load(sums);
    s01 = v128.load(sums, 16);
    s02 = v128.load(sums, 32);
    s03 = v128.load(sums, 48);
    s10 = v128.load(sums, 64);
    s11 = v128.load(sums, 80);
    s12 = v128.load(sums, 96);
    s13 = v128.load(sums, 112);
  }
  const e0 = pa + ((<usize>steps) << 5), e1 = e0 - 32, e2 = e0 - 64, e3 = e0 - 96;
  while (true) {
    let x0 = v128.load(pa), x1 = v128.load(pa, 16);
    let y = v128.load(pb);
    s00 = madd(x0, y, s00);
    s10 = madd(x1, y, s10);
    y = v128.load(pb, 16);
    s01 = madd(x0, y, s01);
    s11 = madd(x1, y, s11);
    y = v128.load(pb, 32);
    s02 = madd(x0, y, s02);
    s12 = madd(x1, y, s12);
    y = v128.load(pb, 48);
    s03 = madd(x0, y, s03);
    s13 = madd(x1, y, s13);
    if (pa == e1) break;
    x0 = v128.load(pa, 32);
    x1 = v128.load(pa, 48);
    y = v128.load(pb, 64);
    s00 = madd(x0, y, s00);
    s10 = madd(x1, y, s10);
    y = v128.load(pb, 80);
    s01 = madd(x0, y, s01);
    s11 = madd(x1, y, s11);
    y = v128.load(pb, 96);
    s02 = madd(x0, y, s02);
    s12 = madd(x1, y, s12);
    y = v128.load(pb, 112);
    s03 = madd(x0, y, s03);
    s13 = madd(x1, y, s13);
    if (pa == e2) break;
    x0 = v128.load(pa, 64);
    x1 = v128.load(pa, 80);
    y = v128.load(pb, 128);
    s00 = madd(x0, y, s00);
    s10 = madd(x1, y, s10);
    y = v128.load(pb, 144);
    s01 = madd(x0, y, s01);
    s11 = madd(x1, y, s11);
    y = v128.load(pb, 160);
    s02 = madd(x0, y, s02);
    s12 = madd(x1, y, s12);
    y = v128.load(pb, 176);
    s03 = madd(x0, y, s03);
    s13 = madd(x1, y, s13);
    if (pa == e3) break;
    x0 = v128.load(pa, 96);
    x1 = v128.load(pa, 112);
    y = v128.load(pb, 192);
    s00 = madd(x0, y, s00);
    s10 = madd(x1, y, s10);
    y = v128.load(pb, 208);
    s01 = madd(x0, y, s01);
    s11 = madd(x1, y, s11);
    y = v128.load(pb, 224);
    s02 = madd(x0, y, s02);
    s12 = madd(x1, y, s12);
    y = v128.load(pb, 240);
    s03 = madd(x0, y, s03);
    s13 = madd(x1, y, s13);
    pa += 128;
    pb += 256;
    if (pa == e0) break;
  }
  if (stay) {
    v128.store(sums, s00);
    v128.store(sums, s01, 16);
    v128.store(sums, s02, 32);
    v128.store(sums, s03, 48);
    v128.store(sums, s10, 64);
    v128.store(sums, s11, 80);
    v128.store(sums, s12, 96);
    v128.store(sums, s13, 112);
  } else {
    v128.store(c, hsum4(s00, s01, s02, s03));
    v128.store(c + rowC, hsum4(s10, s11, s12, s13));
  }
}

/**
 * The column groups g0 to g1, 16 columns each, of C (M, N), from panels of A (`packRows`) and B (K, N), or (N, K) when `turned`; K > 0.
 * scratch, for each thread: 64 KiB + 32 bytes, and 256 M + 512 bytes more when K > 1024.
 */
export function gemm(a: usize, b: usize, c: usize, M: i32, K: i32, N: i32, turned: i32, scratch: usize, scratchBytes: i32, g0: i32, g1: i32): void {
  const panels = own(scratch, scratchBytes);
  const steps = (K + 3) >> 2;
  const pairBytes = (<usize>steps) << 5;
  const rowC = (<usize>N) << 2, rowB = (<usize>K) << 2;
  const pairs = (M + 1) >> 1;
  const edge = panels + 65536;
  const sums = edge + 32;
  for (let g = g0; g < g1; g++) {
    const n = g * groupColumns;
    const quads = min(4, (N - n + 3) >> 2);
    for (let s0 = 0; s0 < steps; s0 += passSteps) {
      const s1 = min(s0 + passSteps, steps);
      const stay = i32(s1 < steps);
      const panelBytes = (<usize>(s1 - s0)) << 6;
      const k0 = s0 << 2, k1 = min(s1 << 2, K);
      if (!turned) packColumns(b, panels, K, N, n, k0, k1);
      for (let p0 = 0; p0 < pairs; p0 += blockPairs) {
        const p1 = min(p0 + blockPairs, pairs);
        for (let j = 0; j < quads; j++) {
          const pb = panels + <usize>j * panelBytes;
          // Right before it is used for the first time, so that it is read from the first-level cache.
          if (turned && !p0) packRuns(b + <usize>(n + (j << 2)) * rowB, rowB, N - n - (j << 2), 4, pb, k0, k1);
          const columns = N - n - (j << 2);
          for (let p = p0; p < p1; p++) {
            const pa = a + <usize>p * pairBytes + ((<usize>s0) << 5);
            const at = c + <usize>(2 * p) * rowC + ((<usize>(n + (j << 2))) << 2);
            const whole = columns >= 4 && 2 * p + 1 < M;
            tile(pa, pb, s1 - s0, sums + ((<usize>(p * 4 + j)) << 7), s0, stay, whole ? at : edge, whole ? rowC : 16);
            if (!whole && !stay) {
              const bytes = (<usize>min(columns, 4)) << 2;
              memory.copy(at, edge, bytes);
              if (2 * p + 1 < M) memory.copy(at + rowC, edge + 16, bytes);
            }
          }
        }
      }
    }
  }
}
