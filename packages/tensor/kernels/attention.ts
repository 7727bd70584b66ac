import { hsum, loadTail, madd, storeTail } from './math';
import { rowExpSum, rowMax } from './norm';

@inline
function dot(a: usize, b: usize, D: i32): f32 {
  const full = (<usize>(D & ~3)) << 2;
  let s = f32x4.splat(0);
  for (let i: usize = 0; i < full; i += 16) s = madd(v128.load(a + i), v128.load(b + i), s);
  if (D & 3) s = madd(loadTail(a + full, D & 3), loadTail(b + full, D & 3), s);
  return hsum(s);
}

/**
 * out (B, T, H, D) = softmax(scale q k^T) v over the rows of a key and value pool (R, Hk, D) that keyRows (B, S) names for each query:
 * query (b, t) sees the first visible[b, t] entries of keyRows[b]; an entry of -1 is no key. A query without keys gives 0.
 * Handles the queries q0 to q1 of the B T queries. scratch: 8 S bytes (rows, then scores).
 * The sums run over the visible keys in their order, so a query's result does not depend on T, B or S.
 * Returns the first query whose visible is outside 0..S or that sees a row outside -1..R-1, or -1.
 */
export function attention(
  q: usize, k: usize, v: usize, keyRows: usize, visible: usize, out: usize, scratch: usize,
  T: i32, H: i32, Hk: i32, D: i32, S: i32, R: i32, scale: f32, q0: i32, q1: i32,
): i32 {
  const head = (<usize>D) << 2;
  const poolRow = <usize>Hk * head;
  const full = (<usize>(D & ~3)) << 2;
  const rem = D & 3;
  const group = H / Hk;
  const scores = scratch + ((<usize>S) << 2);
  for (let i = q0; i < q1; i++) {
    const rows = keyRows + ((<usize>((i / T) * S)) << 2);
    const limit = i32.load(visible + ((<usize>i) << 2));
    if (limit < 0 || limit > S) return i;
    let n = 0;
    for (let j = 0; j < limit; j++) {
      const row = i32.load(rows + ((<usize>j) << 2));
      if (row < -1 || row >= R) return i;
      if (row >= 0) {
        i32.store(scratch + ((<usize>n) << 2), row);
        n++;
      }
    }
    for (let h = 0; h < H; h++) {
      const query = q + <usize>(i * H + h) * head;
      const result = out + <usize>(i * H + h) * head;
      const kh = <usize>(h / group) * head;
      for (let j = 0; j < n; j++) {
        const row = <usize>i32.load(scratch + ((<usize>j) << 2));
        f32.store(scores + ((<usize>j) << 2), dot(query, k + row * poolRow + kh, D) * scale);
      }
      const sum = rowExpSum(scores, scores, n, rowMax(scores, n));
      const inverse: f32 = n ? <f32>1 / sum : 0;
      memory.fill(result, 0, head);
      for (let j = 0; j < n; j++) {
        const p = f32x4.splat(f32.load(scores + ((<usize>j) << 2)) * inverse);
        const value = v + <usize>i32.load(scratch + ((<usize>j) << 2)) * poolRow + kh;
        for (let d: usize = 0; d < full; d += 16) v128.store(result + d, madd(p, v128.load(value + d), v128.load(result + d)));
        if (rem) storeTail(result + full, madd(p, loadTail(value + full, rem), loadTail(result + full, rem)), rem);
      }
    }
  }
  return -1;
}

/**
 * Rotates pairs of x (N, H, D) by table[position] (cos, sin pairs, (P, D/2, 2)): pairs (2i, 2i+1) when interleaved, else (i, i + D/2).
 * A position outside 0..P-1 (padding) copies the row. positions are (N). `turn` is 1, or -1 to rotate back.
 */
export function rope(x: usize, table: usize, positions: usize, y: usize, N: i32, H: i32, D: i32, P: i32, interleaved: i32, turn: f32): void {
  const half = D >> 1;
  const head = (<usize>D) << 2;
  for (let n = 0; n < N; n++) {
    const position = i32.load(positions + ((<usize>n) << 2));
    const row = <usize>n * <usize>H * head;
    if (position < 0 || position >= P) {
      memory.copy(y + row, x + row, <usize>H * head);
      continue;
    }
    const cs = table + <usize>position * head;
    for (let h = 0; h < H; h++) {
      const p = x + row + <usize>h * head;
      const o = y + row + <usize>h * head;
      for (let i = 0; i < half; i++) {
        const c = f32.load(cs + ((<usize>i) << 3));
        const s = turn * f32.load(cs + ((<usize>i) << 3), 4);
        const i0 = interleaved ? (<usize>i) << 3 : (<usize>i) << 2;
        const i1 = interleaved ? i0 + 4 : i0 + ((<usize>half) << 2);
        const a = f32.load(p + i0);
        const b = f32.load(p + i1);
        f32.store(o + i0, a * c - b * s);
        f32.store(o + i1, a * s + b * c);
      }
    }
  }
}

/**
 * Takes apart the rows qkv (B, (H + 2 Hk) D) of one new token for each of B sequences, whose position is visible - 1: queries and keys get
 * their bias (H + Hk, D) (none at address 0) and turn by table[position] over pairs (2i, 2i+1); queries go to q (B, H, D), keys and values
 * to the pool's row that keyRows (B, S) names for that position. A visible of 0, or a row of -1, stores nothing.
 * Returns the first sequence whose visible is outside 0..S or whose row is outside -1..R-1, with nothing stored, or -1.
 */
export function storeStep(
  qkv: usize, bias: usize, table: usize, k: usize, v: usize, keyRows: usize, visible: usize, q: usize,
  B: i32, H: i32, Hk: i32, D: i32, S: i32, R: i32, P: i32,
): i32 {
  const head = (<usize>D) << 2;
  for (let b = 0; b < B; b++) {
    const n = i32.load(visible + ((<usize>b) << 2));
    if (n < 0 || n > S) return b;
    if (n == 0) continue;
    const row = i32.load(keyRows + ((<usize>(b * S + n - 1)) << 2));
    if (row < -1 || row >= R) return b;
  }
  for (let b = 0; b < B; b++) {
    const position = i32.load(visible + ((<usize>b) << 2)) - 1;
    const row = position < 0 ? -1 : i32.load(keyRows + ((<usize>(b * S + position)) << 2));
    const from = qkv + <usize>(b * (H + 2 * Hk)) * head;
    const turned = position >= 0 && position < P;
    const cs = table + <usize>max(position, 0) * head;
    for (let h = 0; h < H + Hk; h++) {
      if (h >= H && row < 0) break;
      const p = from + <usize>h * head;
      const o = h < H ? q + <usize>(b * H + h) * head : k + <usize>(row * Hk + h - H) * head;
      for (let i: usize = 0; i < head; i += 8) {
        let x = f32.load(p + i);
        let y = f32.load(p + i, 4);
        if (bias) {
          x += f32.load(bias + <usize>h * head + i);
          y += f32.load(bias + <usize>h * head + i, 4);
        }
        if (turned) {
          const c = f32.load(cs + i);
          const s = f32.load(cs + i, 4);
          f32.store(o + i, x * c - y * s);
          f32.store(o + i, x * s + y * c, 4);
        } else {
          f32.store(o + i, x);
          f32.store(o + i, y, 4);
        }
      }
    }
    if (row >= 0) memory.copy(v + <usize>(row * Hk) * head, from + <usize>(H + Hk) * head, <usize>Hk * head);
  }
  return -1;
}
