import { hsum, loadTail, madd, sigmoid4, storeTail } from './math';
import { rowExpSum, rowMax, safeShift } from './norm';
import { own } from './thread';

/** Of y = rmsNorm(x, w): dx (rows, C) and dw (C) for g = dL/dy (rows, C). */
export function rmsNormGrad(x: usize, w: usize, g: usize, dx: usize, dw: usize, rows: i32, C: i32, eps: f32): void {
  const full = (<usize>(C & ~3)) << 2;
  const rem = C & 3;
  memory.fill(dw, 0, (<usize>C) << 2);
  for (let r = 0; r < rows; r++) {
    const at = (<usize>(r * C)) << 2;
    const p = x + at, q = g + at, d = dx + at;
    let squares = f32x4.splat(0), along = f32x4.splat(0);
    for (let i: usize = 0; i < full; i += 16) {
      const v = v128.load(p + i);
      squares = madd(v, v, squares);
      along = madd(f32x4.mul(v128.load(q + i), v128.load(w + i)), v, along);
    }
    if (rem) {
      const v = loadTail(p + full, rem);
      squares = madd(v, v, squares);
      along = madd(f32x4.mul(loadTail(q + full, rem), loadTail(w + full, rem)), v, along);
    }
    const s = <f32>1 / sqrt<f32>(hsum(squares) / <f32>C + eps);
    const scale = f32x4.splat(s);
    const back = f32x4.splat(-s * s * s * hsum(along) / <f32>C);
    for (let i: usize = 0; i < full; i += 16) {
      const v = v128.load(p + i);
      const scaled = f32x4.mul(v128.load(q + i), scale);
      v128.store(d + i, madd(v, back, f32x4.mul(scaled, v128.load(w + i))));
      v128.store(dw + i, madd(scaled, v, v128.load(dw + i)));
    }
    if (rem) {
      const v = loadTail(p + full, rem);
      const scaled = f32x4.mul(loadTail(q + full, rem), scale);
      storeTail(d + full, madd(v, back, f32x4.mul(scaled, loadTail(w + full, rem))), rem);
      storeTail(dw + full, madd(scaled, v, loadTail(dw + full, rem)), rem);
    }
  }
}

/** Of y = siluMul(x): the rows r0 to r1 of dx (rows, 2 I) for g = dL/dy (rows, I). */
export function siluMulGrad(x: usize, g: usize, dx: usize, I: i32, r0: i32, r1: i32): void {
  const full = (<usize>(I & ~3)) << 2;
  const rem = I & 3;
  const width = (<usize>I) << 2;
  const one = f32x4.splat(1);
  for (let r = r0; r < r1; r++) {
    const gate = x + <usize>r * 2 * width;
    const from = g + <usize>r * width;
    const out = dx + <usize>r * 2 * width;
    for (let i: usize = 0; i < full; i += 16) {
      const a = v128.load(gate + i);
      const s = sigmoid4(a);
      const silu = f32x4.mul(a, s);
      const d = v128.load(from + i);
      const slope = madd(silu, f32x4.sub(one, s), s);
      v128.store(out + i, f32x4.mul(f32x4.mul(d, v128.load(gate + width + i)), slope));
      v128.store(out + width + i, f32x4.mul(d, silu));
    }
    if (rem) {
      const a = loadTail(gate + full, rem);
      const s = sigmoid4(a);
      const silu = f32x4.mul(a, s);
      const d = loadTail(from + full, rem);
      const slope = madd(silu, f32x4.sub(one, s), s);
      storeTail(out + full, f32x4.mul(f32x4.mul(d, loadTail(gate + width + full, rem)), slope), rem);
      storeTail(out + width + full, f32x4.mul(d, silu), rem);
    }
  }
}

/** Of y = crossEntropy(x, target): the rows r0 to r1 of dx (rows, V) = (softmax(x) - onehot) g[row], 0 where the target is ignored. Returns as crossEntropy does. */
export function crossEntropyGrad(x: usize, target: usize, g: usize, dx: usize, V: i32, ignore: i32, r0: i32, r1: i32): i32 {
  const full = (<usize>(V & ~3)) << 2;
  const rem = V & 3;
  for (let r = r0; r < r1; r++) {
    const t = i32.load(target + ((<usize>r) << 2));
    const p = x + ((<usize>(r * V)) << 2);
    const q = dx + ((<usize>(r * V)) << 2);
    if (t == ignore) {
      memory.fill(q, 0, (<usize>V) << 2);
      continue;
    }
    if (t < 0 || t >= V) return r;
    const weight = f32.load(g + ((<usize>r) << 2));
    const sum = rowExpSum(p, q, V, safeShift(rowMax(p, V)));
    const scale = f32x4.splat(weight / sum);
    for (let i: usize = 0; i < full; i += 16) v128.store(q + i, f32x4.mul(v128.load(q + i), scale));
    if (rem) storeTail(q + full, f32x4.mul(loadTail(q + full, rem), scale), rem);
    const at = q + ((<usize>t) << 2);
    f32.store(at, f32.load(at) - weight);
  }
  return -1;
}

/** out (R, width) = for each row the sum of src[i] over the places i with index[i] = row, in their order. Returns the first bad place, or -1. */
export function scatterAddRows(index: usize, src: usize, out: usize, n: i32, R: i32, width: i32): i32 {
  const full = (<usize>(width & ~3)) << 2;
  const rem = width & 3;
  const bytes = (<usize>width) << 2;
  memory.fill(out, 0, <usize>R * bytes);
  for (let i = 0; i < n; i++) {
    const row = i32.load(index + ((<usize>i) << 2));
    if (row < -1 || row >= R) return i;
    if (row < 0) continue;
    const p = src + <usize>i * bytes;
    const q = out + <usize>row * bytes;
    for (let c: usize = 0; c < full; c += 16) v128.store(q + c, f32x4.add(v128.load(q + c), v128.load(p + c)));
    if (rem) storeTail(q + full, f32x4.add(loadTail(q + full, rem), loadTail(p + full, rem)), rem);
  }
  return -1;
}

@inline
function dot(a: usize, b: usize, D: i32): f32 {
  const full = (<usize>(D & ~3)) << 2;
  let s = f32x4.splat(0);
  for (let i: usize = 0; i < full; i += 16) s = madd(v128.load(a + i), v128.load(b + i), s);
  if (D & 3) s = madd(loadTail(a + full, D & 3), loadTail(b + full, D & 3), s);
  return hsum(s);
}

// y += f x
@inline
function accumulate(y: usize, f: f32, x: usize, D: i32): void {
  const full = (<usize>(D & ~3)) << 2;
  const rem = D & 3;
  const factor = f32x4.splat(f);
  for (let i: usize = 0; i < full; i += 16) v128.store(y + i, madd(factor, v128.load(x + i), v128.load(y + i)));
  if (rem) storeTail(y + full, madd(factor, loadTail(x + full, rem), loadTail(y + full, rem)), rem);
}

/**
 * Of attention: dq (B, T, H, D), dk and dv (R, Hk, D) for g = dL/dout (B, T, H, D). scratch, for each thread: 12 S + 64 bytes
 * (rows, weights, products). Handles the kv heads h0 to h1. Returns the first query that sees what is not there, or -1.
 */
export function attentionGrad(
  q: usize, k: usize, v: usize, keyRows: usize, visible: usize, g: usize, dq: usize, dk: usize, dv: usize, scratch: usize, scratchBytes: i32,
  T: i32, H: i32, Hk: i32, D: i32, S: i32, R: i32, scale: f32, queries: i32, h0: i32, h1: i32,
): i32 {
  const head = (<usize>D) << 2;
  const poolRow = <usize>Hk * head;
  const group = H / Hk;
  const list = own(scratch, scratchBytes);
  const weights = list + ((<usize>S) << 2);
  const products = weights + ((<usize>S) << 2);
  const part = <usize>(h1 - h0) * head;
  for (let i = 0; i < queries; i++) memory.fill(dq + <usize>(i * H) * head + <usize>(h0 * group) * head, 0, part * <usize>group);
  for (let r = 0; r < R; r++) {
    memory.fill(dk + <usize>r * poolRow + <usize>h0 * head, 0, part);
    memory.fill(dv + <usize>r * poolRow + <usize>h0 * head, 0, part);
  }
  for (let i = 0; i < queries; i++) {
    const rows = keyRows + ((<usize>((i / T) * S)) << 2);
    const limit = i32.load(visible + ((<usize>i) << 2));
    if (limit < 0 || limit > S) return i;
    let n = 0;
    for (let j = 0; j < limit; j++) {
      const row = i32.load(rows + ((<usize>j) << 2));
      if (row < -1 || row >= R) return i;
      if (row >= 0) {
        i32.store(list + ((<usize>n) << 2), row);
        n++;
      }
    }
    if (n == 0) continue;
    for (let h = h0 * group; h < h1 * group; h++) {
      const at = <usize>(i * H + h) * head;
      const kh = <usize>(h / group) * head;
      for (let j = 0; j < n; j++) {
        const row = <usize>i32.load(list + ((<usize>j) << 2)) * poolRow + kh;
        f32.store(weights + ((<usize>j) << 2), dot(q + at, k + row, D) * scale);
        f32.store(products + ((<usize>j) << 2), dot(g + at, v + row, D));
      }
      const inverse = <f32>1 / rowExpSum(weights, weights, n, rowMax(weights, n));
      const mean = dot(weights, products, n) * inverse;
      for (let j = 0; j < n; j++) {
        const row = <usize>i32.load(list + ((<usize>j) << 2)) * poolRow + kh;
        const p = f32.load(weights + ((<usize>j) << 2)) * inverse;
        const d = p * (f32.load(products + ((<usize>j) << 2)) - mean) * scale;
        accumulate(dq + at, d, k + row, D);
        accumulate(dk + row, d, q + at, D);
        accumulate(dv + row, p, g + at, D);
      }
    }
  }
  return -1;
}
