import { atan4, exp4, loadTail, log4, madd, sigmoid4, storeTail, tanh4 } from './math';

// The codes are those of src/ops/elementwise.ts. `code` is a constant at every call of the loops, so that each loop holds one operation.

@inline
function sign4(x: v128): v128 {
  const one = f32x4.splat(1);
  const zero = f32x4.splat(0);
  const plus = v128.and(f32x4.gt(x, zero), one);
  const sign = f32x4.sub(plus, v128.and(f32x4.lt(x, zero), one));
  return v128.bitselect(x, sign, f32x4.ne(x, x));
}

@inline
function unary4(code: i32, x: v128, p: f32, q: f32): v128 {
  if (code == 0) return f32x4.neg(x);
  if (code == 1) return f32x4.abs(x);
  if (code == 2) return exp4(x);
  if (code == 3) return log4(x);
  if (code == 4) return f32x4.sqrt(x);
  if (code == 5) return f32x4.div(f32x4.splat(1), f32x4.sqrt(x));
  if (code == 6) return f32x4.div(f32x4.splat(1), x);
  if (code == 7) return f32x4.mul(x, x);
  if (code == 8) return sigmoid4(x);
  if (code == 9) return f32x4.mul(x, sigmoid4(x));
  if (code == 10) return tanh4(x);
  if (code == 11) {
    const u = f32x4.mul(f32x4.splat(0.7978845608028654), madd(f32x4.mul(f32x4.mul(x, x), x), f32x4.splat(0.044715), x));
    return f32x4.mul(f32x4.mul(f32x4.splat(0.5), x), f32x4.add(f32x4.splat(1), tanh4(u)));
  }
  if (code == 12) return f32x4.max(x, f32x4.splat(0));
  if (code == 14) return sign4(x);
  if (code == 15) return atan4(x);
  return madd(x, f32x4.splat(p), f32x4.splat(q));
}

@inline
function unaryLoop(code: i32, x: usize, y: usize, n: i32, p: f32, q: f32): void {
  const full = (<usize>(n & ~3)) << 2;
  for (let i: usize = 0; i < full; i += 16) v128.store(y + i, unary4(code, v128.load(x + i), p, q));
  if (n & 3) storeTail(y + full, unary4(code, loadTail(x + full, n & 3), p, q), n & 3);
}

/** The values n0 to n1 of y; n0 is a multiple of 4. */
export function unary(code: i32, x0: usize, y0: usize, p: f32, q: f32, n0: i32, n1: i32): void {
  const x = x0 + ((<usize>n0) << 2), y = y0 + ((<usize>n0) << 2);
  const n = n1 - n0;
  switch (code) {
    case 0: unaryLoop(0, x, y, n, p, q); break;
    case 1: unaryLoop(1, x, y, n, p, q); break;
    case 2: unaryLoop(2, x, y, n, p, q); break;
    case 3: unaryLoop(3, x, y, n, p, q); break;
    case 4: unaryLoop(4, x, y, n, p, q); break;
    case 5: unaryLoop(5, x, y, n, p, q); break;
    case 6: unaryLoop(6, x, y, n, p, q); break;
    case 7: unaryLoop(7, x, y, n, p, q); break;
    case 8: unaryLoop(8, x, y, n, p, q); break;
    case 9: unaryLoop(9, x, y, n, p, q); break;
    case 10: unaryLoop(10, x, y, n, p, q); break;
    case 11: unaryLoop(11, x, y, n, p, q); break;
    case 12: unaryLoop(12, x, y, n, p, q); break;
    case 13: unaryLoop(13, x, y, n, p, q); break;
    case 14: unaryLoop(14, x, y, n, p, q); break;
    case 15: unaryLoop(15, x, y, n, p, q); break;
    default: unreachable();
  }
}

@inline
function binary4(code: i32, a: v128, b: v128): v128 {
  if (code == 0) return f32x4.add(a, b);
  if (code == 1) return f32x4.sub(a, b);
  if (code == 2) return f32x4.mul(a, b);
  if (code == 3) return f32x4.div(a, b);
  if (code == 4) return f32x4.max(a, b);
  return f32x4.min(a, b);
}

// One contiguous run of outputs; a step of 0 means that the operand repeats one value.
@inline
function binaryRow(code: i32, a: usize, sa: i32, b: usize, sb: i32, c: usize, n: i32): void {
  const full = (<usize>(n & ~3)) << 2;
  const rem = n & 3;
  if (sa && sb) {
    for (let i: usize = 0; i < full; i += 16) v128.store(c + i, binary4(code, v128.load(a + i), v128.load(b + i)));
    if (rem) storeTail(c + full, binary4(code, loadTail(a + full, rem), loadTail(b + full, rem)), rem);
  } else if (sa) {
    const y = v128.load32_splat(b);
    for (let i: usize = 0; i < full; i += 16) v128.store(c + i, binary4(code, v128.load(a + i), y));
    if (rem) storeTail(c + full, binary4(code, loadTail(a + full, rem), y), rem);
  } else if (sb) {
    const x = v128.load32_splat(a);
    for (let i: usize = 0; i < full; i += 16) v128.store(c + i, binary4(code, x, v128.load(b + i)));
    if (rem) storeTail(c + full, binary4(code, x, loadTail(b + full, rem)), rem);
  } else {
    const z = binary4(code, v128.load32_splat(a), v128.load32_splat(b));
    for (let i: usize = 0; i < full; i += 16) v128.store(c + i, z);
    if (rem) storeTail(c + full, z, rem);
  }
}

// meta: dims[rank], steps of a[rank], steps of b[rank], all i32 and counted in values; the last dim is the contiguous run.
// The rows r0 to r1 of the dims before it; of a single row, its values r0 to r1.
@inline
function binaryLoop(code: i32, a: usize, b: usize, c: usize, rank: i32, meta: usize, r0: i32, r1: i32): void {
  const last = rank - 1;
  const n = i32.load(meta + ((<usize>last) << 2));
  const sa = i32.load(meta + ((<usize>(rank + last)) << 2));
  const sb = i32.load(meta + ((<usize>(2 * rank + last)) << 2));
  if (last == 0) {
    binaryRow(code, a + ((<usize>(r0 * sa)) << 2), sa, b + ((<usize>(r0 * sb)) << 2), sb, c + ((<usize>r0) << 2), r1 - r0);
    return;
  }
  for (let r = r0; r < r1; r++) {
    let rest = r, oa = 0, ob = 0;
    for (let d = last - 1; d >= 0; d--) {
      const size = i32.load(meta + ((<usize>d) << 2));
      const i = rest % size;
      rest /= size;
      oa += i * i32.load(meta + ((<usize>(rank + d)) << 2));
      ob += i * i32.load(meta + ((<usize>(2 * rank + d)) << 2));
    }
    binaryRow(code, a + ((<usize>oa) << 2), sa, b + ((<usize>ob) << 2), sb, c + ((<usize>(r * n)) << 2), n);
  }
}

export function binary(code: i32, a: usize, b: usize, c: usize, rank: i32, meta: usize, r0: i32, r1: i32): void {
  switch (code) {
    case 0: binaryLoop(0, a, b, c, rank, meta, r0, r1); break;
    case 1: binaryLoop(1, a, b, c, rank, meta, r0, r1); break;
    case 2: binaryLoop(2, a, b, c, rank, meta, r0, r1); break;
    case 3: binaryLoop(3, a, b, c, rank, meta, r0, r1); break;
    case 4: binaryLoop(4, a, b, c, rank, meta, r0, r1); break;
    case 5: binaryLoop(5, a, b, c, rank, meta, r0, r1); break;
    default: unreachable();
  }
}

/** The rows r0 to r1 of y (rows, I) = silu(x[:, :I]) * x[:, I:] for x (rows, 2 I). */
export function siluMul(x: usize, y: usize, I: i32, r0: i32, r1: i32): void {
  const full = (<usize>(I & ~3)) << 2;
  const rem = I & 3;
  const width = (<usize>I) << 2;
  for (let r = r0; r < r1; r++) {
    const gate = x + <usize>r * 2 * width;
    const up = gate + width;
    const out = y + <usize>r * width;
    for (let i: usize = 0; i < full; i += 16) {
      const g = v128.load(gate + i);
      v128.store(out + i, f32x4.mul(f32x4.mul(g, sigmoid4(g)), v128.load(up + i)));
    }
    if (rem) {
      const g = loadTail(gate + full, rem);
      storeTail(out + full, f32x4.mul(f32x4.mul(g, sigmoid4(g)), loadTail(up + full, rem)), rem);
    }
  }
}
