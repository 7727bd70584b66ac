import { hsum4, loadTail, madd, storeTail } from './math';
import { rowExpSum, rowMax } from './norm';
import { own } from './thread';

/** Queries that go over the keys together. */
const block: i32 = 4;

@inline
function keyAt(list: usize, j: i32, n: i32, base: usize, poolRow: usize): usize {
  return base + <usize>i32.load(list + ((<usize>min(j, n - 1)) << 2)) * poolRow;
}

/** Scores of one query with the n keys of a list, eight at once; room for 8 more behind them is overwritten. */
function scoreOne(query: usize, list: usize, n: i32, base: usize, poolRow: usize, D: i32, scale: f32, scores: usize): void {
  const rem = D & 3;
  const end = query + ((<usize>(D & ~3)) << 2);
  const factor = f32x4.splat(scale);
  for (let j = 0; j < n; j += 8) {
    let k0 = keyAt(list, j, n, base, poolRow), k1 = keyAt(list, j + 1, n, base, poolRow);
    let k2 = keyAt(list, j + 2, n, base, poolRow), k3 = keyAt(list, j + 3, n, base, poolRow);
    let k4 = keyAt(list, j + 4, n, base, poolRow), k5 = keyAt(list, j + 5, n, base, poolRow);
    let k6 = keyAt(list, j + 6, n, base, poolRow), k7 = keyAt(list, j + 7, n, base, poolRow);
    let s0 = f32x4.splat(0), s1 = f32x4.splat(0), s2 = f32x4.splat(0), s3 = f32x4.splat(0);
    let s4 = f32x4.splat(0), s5 = f32x4.splat(0), s6 = f32x4.splat(0), s7 = f32x4.splat(0);
    for (let p = query; p < end; p += 16) {
      const x = v128.load(p);
      s0 = madd(x, v128.load(k0), s0);
      s1 = madd(x, v128.load(k1), s1);
      s2 = madd(x, v128.load(k2), s2);
      s3 = madd(x, v128.load(k3), s3);
      s4 = madd(x, v128.load(k4), s4);
      s5 = madd(x, v128.load(k5), s5);
      s6 = madd(x, v128.load(k6), s6);
      s7 = madd(x, v128.load(k7), s7);
      k0 += 16;
      k1 += 16;
      k2 += 16;
      k3 += 16;
      k4 += 16;
      k5 += 16;
      k6 += 16;
      k7 += 16;
    }
    if (rem) {
      const x = loadTail(end, rem);
      s0 = madd(x, loadTail(k0, rem), s0);
      s1 = madd(x, loadTail(k1, rem), s1);
      s2 = madd(x, loadTail(k2, rem), s2);
      s3 = madd(x, loadTail(k3, rem), s3);
      s4 = madd(x, loadTail(k4, rem), s4);
      s5 = madd(x, loadTail(k5, rem), s5);
      s6 = madd(x, loadTail(k6, rem), s6);
      s7 = madd(x, loadTail(k7, rem), s7);
    }
    const to = scores + ((<usize>j) << 2);
    v128.store(to, f32x4.mul(hsum4(s0, s1, s2, s3), factor));
    v128.store(to, f32x4.mul(hsum4(s4, s5, s6, s7), factor), 16);
  }
}

/** Scores of two queries, `step` apart, with the n keys of a list, four at once; room for 4 more behind each row of scores is overwritten. */
function scoreTwo(query: usize, step: usize, list: usize, n: i32, base: usize, poolRow: usize, D: i32, scale: f32, t0: usize, t1: usize): void {
  const rem = D & 3;
  const end = query + ((<usize>(D & ~3)) << 2);
  const factor = f32x4.splat(scale);
  for (let j = 0; j < n; j += 4) {
    let k0 = keyAt(list, j, n, base, poolRow), k1 = keyAt(list, j + 1, n, base, poolRow);
    let k2 = keyAt(list, j + 2, n, base, poolRow), k3 = keyAt(list, j + 3, n, base, poolRow);
    let s00 = f32x4.splat(0), s01 = f32x4.splat(0), s02 = f32x4.splat(0), s03 = f32x4.splat(0);
    let s10 = f32x4.splat(0), s11 = f32x4.splat(0), s12 = f32x4.splat(0), s13 = f32x4.splat(0);
    let p = query, q = query + step;
    for (; p < end; p += 16, q += 16) {
      const x0 = v128.load(p), x1 = v128.load(q);
      let y = v128.load(k0);
      s00 = madd(x0, y, s00);
      s10 = madd(x1, y, s10);
      y = v128.load(k1);
      s01 = madd(x0, y, s01);
      s11 = madd(x1, y, s11);
      y = v128.load(k2);
      s02 = madd(x0, y, s02);
      s12 = madd(x1, y, s12);
      y = v128.load(k3);
      s03 = madd(x0, y, s03);
      s13 = madd(x1, y, s13);
      k0 += 16;
      k1 += 16;
      k2 += 16;
      k3 += 16;
    }
    if (rem) {
      const x0 = loadTail(p, rem), x1 = loadTail(q, rem);
      let y = loadTail(k0, rem);
      s00 = madd(x0, y, s00);
      s10 = madd(x1, y, s10);
      y = loadTail(k1, rem);
      s01 = madd(x0, y, s01);
      s11 = madd(x1, y, s11);
      y = loadTail(k2, rem);
      s02 = madd(x0, y, s02);
      s12 = madd(x1, y, s12);
      y = loadTail(k3, rem);
      s03 = madd(x0, y, s03);
      s13 = madd(x1, y, s13);
    }
    const at = (<usize>j) << 2;
    v128.store(t0 + at, f32x4.mul(hsum4(s00, s01, s02, s03), factor));
    v128.store(t1 + at, f32x4.mul(hsum4(s10, s11, s12, s13), factor));
  }
}

/** result (D) += the values of the keys j0 to j1 of a list, weighted, in their order. */
function mixOne(weights: usize, list: usize, j0: i32, j1: i32, base: usize, poolRow: usize, D: i32, result: usize): void {
  let d = 0;
  // Eight sums at once: the next value then need not wait for the one before.
  for (; d + 32 <= D; d += 32) {
    const at = (<usize>d) << 2;
    const p = result + at;
    let a0 = v128.load(p), a1 = v128.load(p, 16), a2 = v128.load(p, 32), a3 = v128.load(p, 48);
    let a4 = v128.load(p, 64), a5 = v128.load(p, 80), a6 = v128.load(p, 96), a7 = v128.load(p, 112);
    for (let j = j0; j < j1; j++) {
      const value = base + <usize>i32.load(list + ((<usize>j) << 2)) * poolRow + at;
      const w = v128.load32_splat(weights + ((<usize>j) << 2));
      a0 = madd(w, v128.load(value), a0);
      a1 = madd(w, v128.load(value, 16), a1);
      a2 = madd(w, v128.load(value, 32), a2);
      a3 = madd(w, v128.load(value, 48), a3);
      a4 = madd(w, v128.load(value, 64), a4);
      a5 = madd(w, v128.load(value, 80), a5);
      a6 = madd(w, v128.load(value, 96), a6);
      a7 = madd(w, v128.load(value, 112), a7);
    }
    v128.store(p, a0);
    v128.store(p, a1, 16);
    v128.store(p, a2, 32);
    v128.store(p, a3, 48);
    v128.store(p, a4, 64);
    v128.store(p, a5, 80);
    v128.store(p, a6, 96);
    v128.store(p, a7, 112);
  }
  for (; d + 16 <= D; d += 16) {
    const at = (<usize>d) << 2;
    let a0 = v128.load(result + at), a1 = v128.load(result + at, 16), a2 = v128.load(result + at, 32), a3 = v128.load(result + at, 48);
    for (let j = j0; j < j1; j++) {
      const value = base + <usize>i32.load(list + ((<usize>j) << 2)) * poolRow + at;
      const w = v128.load32_splat(weights + ((<usize>j) << 2));
      a0 = madd(w, v128.load(value), a0);
      a1 = madd(w, v128.load(value, 16), a1);
      a2 = madd(w, v128.load(value, 32), a2);
      a3 = madd(w, v128.load(value, 48), a3);
    }
    v128.store(result + at, a0);
    v128.store(result + at, a1, 16);
    v128.store(result + at, a2, 32);
    v128.store(result + at, a3, 48);
  }
  for (; d < D; d += 4) {
    const at = (<usize>d) << 2;
    const rem = D - d;
    let a = rem >= 4 ? v128.load(result + at) : loadTail(result + at, rem);
    for (let j = j0; j < j1; j++) {
      const value = base + <usize>i32.load(list + ((<usize>j) << 2)) * poolRow + at;
      a = madd(v128.load32_splat(weights + ((<usize>j) << 2)), rem >= 4 ? v128.load(value) : loadTail(value, rem), a);
    }
    if (rem >= 4) v128.store(result + at, a);
    else storeTail(result + at, a, rem);
  }
}

/** Two results, `step` apart, of the first n keys; as `mixOne`, but from 0. */
function mixTwo(w0: usize, w1: usize, list: usize, n: i32, base: usize, poolRow: usize, D: i32, result: usize, step: usize): void {
  let d = 0;
  for (; d + 16 <= D; d += 16) {
    const at = (<usize>d) << 2;
    let a0 = f32x4.splat(0), a1 = f32x4.splat(0), a2 = f32x4.splat(0), a3 = f32x4.splat(0);
    let b0 = f32x4.splat(0), b1 = f32x4.splat(0), b2 = f32x4.splat(0), b3 = f32x4.splat(0);
    for (let j = 0; j < n; j++) {
      const at4 = (<usize>j) << 2;
      const value = base + <usize>i32.load(list + at4) * poolRow + at;
      const x0 = v128.load32_splat(w0 + at4), x1 = v128.load32_splat(w1 + at4);
      let y = v128.load(value);
      a0 = madd(x0, y, a0);
      b0 = madd(x1, y, b0);
      y = v128.load(value, 16);
      a1 = madd(x0, y, a1);
      b1 = madd(x1, y, b1);
      y = v128.load(value, 32);
      a2 = madd(x0, y, a2);
      b2 = madd(x1, y, b2);
      y = v128.load(value, 48);
      a3 = madd(x0, y, a3);
      b3 = madd(x1, y, b3);
    }
    const p = result + at, q = p + step;
    v128.store(p, a0);
    v128.store(p, a1, 16);
    v128.store(p, a2, 32);
    v128.store(p, a3, 48);
    v128.store(q, b0);
    v128.store(q, b1, 16);
    v128.store(q, b2, 32);
    v128.store(q, b3, 48);
  }
  if (d == D) return;
  const rest = (<usize>d) << 2;
  memory.fill(result + rest, 0, (<usize>(D - d)) << 2);
  memory.fill(result + step + rest, 0, (<usize>(D - d)) << 2);
  mixOne(w0, list, 0, n, base + rest, poolRow, D - d, result + rest);
  mixOne(w1, list, 0, n, base + rest, poolRow, D - d, result + step + rest);
}

/** The weights of n scores, in place. */
@inline
function normalize(scores: usize, n: i32): void {
  const inverse: f32 = <f32>1 / rowExpSum(scores, scores, n, rowMax(scores, n));
  const factor = f32x4.splat(inverse);
  for (let j = 0; j < n; j += 4) {
    const at = scores + ((<usize>j) << 2);
    v128.store(at, f32x4.mul(v128.load(at), factor));
  }
}

/**
 * The heads h0 to h1 of one query, a row of heads. Keys lie in rows of all heads, which are read from end to end, eight keys at a time for all
 * heads: head by head, each would fetch a few cache lines out of every row, from memory where weights have passed through the caches since.
 */
function attendAlone(
  q: usize, k: usize, v: usize, out: usize, list: usize, scores: usize, scoreBytes: usize,
  n: i32, h0: i32, h1: i32, group: i32, poolRow: usize, D: i32, scale: f32,
): void {
  const head = (<usize>D) << 2;
  memory.fill(out + <usize>h0 * head, 0, <usize>(h1 - h0) * head);
  if (!n) return;
  for (let j = 0; j < n; j += 8) {
    const at = (<usize>j) << 2;
    const count = min(8, n - j);
    for (let h = h0; h < h1; h++) {
      scoreOne(q + <usize>h * head, list + at, count, k + <usize>(h / group) * head, poolRow, D, scale, scores + <usize>(h - h0) * scoreBytes + at);
    }
  }
  for (let h = h0; h < h1; h++) normalize(scores + <usize>(h - h0) * scoreBytes, n);
  for (let j = 0; j < n; j += 8) {
    for (let h = h0; h < h1; h++) {
      mixOne(scores + <usize>(h - h0) * scoreBytes, list, j, min(j + 8, n), v + <usize>(h / group) * head, poolRow, D, out + <usize>h * head);
    }
  }
}

/**
 * out (B, T, H, D) = softmax(scale q k^T) v over the rows of a key and value pool (R, Hk, D) that keyRows (B, S) names for each query:
 * query (b, t) sees the first visible[b, t] entries of keyRows[b]; an entry of -1 is no key. A query without keys gives 0.
 * The unit is one head of four queries that follow each other in a sequence, of the last the rest: unit (b ceil(T / 4) + t / 4) H + h.
 * scratch, for each thread: 4 (S + 8) bytes for the keys, and as many for each of four rows of scores, with T = 1 of H; never a matrix of all scores.
 * The sums run over the visible keys in their order, so a query's result does not depend on T, B or S.
 * Returns the first query whose visible is outside 0..S or that sees a row outside -1..R-1, or -1.
 */
export function attention(
  q: usize, k: usize, v: usize, keyRows: usize, visible: usize, out: usize, scratch: usize, scratchBytes: i32,
  T: i32, H: i32, Hk: i32, D: i32, S: i32, R: i32, scale: f32, u0: i32, u1: i32,
): i32 {
  const head = (<usize>D) << 2;
  const row = <usize>H * head;
  const poolRow = <usize>Hk * head;
  const group = H / Hk;
  const blocks = (T + block - 1) / block;
  const list = own(scratch, scratchBytes);
  const scoreBytes = ((<usize>S + 8) << 2);
  const scores = list + scoreBytes;
  // How many keys each of the four queries has; what is known of a block serves all its heads.
  let n0 = 0, n1 = 0, n2 = 0, n3 = 0, known = -1;
  for (let u = u0; u < u1; u++) {
    const at = u / H, h = u % H;
    const b = at / blocks, t = (at % blocks) * block;
    const first = b * T + t;
    const queries = min(block, T - t);
    if (known != at) {
      let limit = 0, bad = -1;
      for (let i = 0; i < queries; i++) {
        const seen = i32.load(visible + ((<usize>(first + i)) << 2));
        if (seen < 0 || seen > S) {
          bad = first + i;
          break;
        }
        limit = max(limit, seen);
      }
      const rows = keyRows + ((<usize>(b * S)) << 2);
      const l0 = i32.load(visible + ((<usize>first) << 2));
      const l1 = queries > 1 ? i32.load(visible + ((<usize>first) << 2), 4) : 0;
      const l2 = queries > 2 ? i32.load(visible + ((<usize>first) << 2), 8) : 0;
      const l3 = queries > 3 ? i32.load(visible + ((<usize>first) << 2), 12) : 0;
      let n = 0;
      n0 = n1 = n2 = n3 = 0;
      for (let j = 0; j < limit; j++) {
        const entry = i32.load(rows + ((<usize>j) << 2));
        if (entry < -1 || entry >= R) {
          // The first query that sees it.
          for (let i = 0; i < queries; i++) if (i32.load(visible + ((<usize>(first + i)) << 2)) > j) return bad >= 0 ? min(bad, first + i) : first + i;
        }
        if (entry < 0) continue;
        i32.store(list + ((<usize>n) << 2), entry);
        n++;
        if (j < l0) n0 = n;
        if (j < l1) n1 = n;
        if (j < l2) n2 = n;
        if (j < l3) n3 = n;
      }
      if (bad >= 0) return bad;
      known = at;
    }
    if (T == 1) {
      const heads = min(H - h, u1 - u);
      attendAlone(q + <usize>first * row, k, v, out + <usize>first * row, list, scores, scoreBytes, n0, h, h + heads, group, poolRow, D, scale);
      u += heads - 1;
      continue;
    }
    const kh = <usize>(h / group) * head;
    const query = q + <usize>first * row + <usize>h * head;
    const result = out + <usize>first * row + <usize>h * head;
    for (let i = 0; i < queries; i += 2) {
      const na = i ? n2 : n0, nb = i ? n3 : n1;
      const from = query + <usize>i * row, to = result + <usize>i * row;
      const sa = scores + <usize>i * scoreBytes, sb = sa + scoreBytes;
      const both = i + 1 < queries && na > 0 && nb > 0;
      if (!both) {
        memory.fill(to, 0, head);
        if (na) {
          scoreOne(from, list, na, k + kh, poolRow, D, scale, sa);
          normalize(sa, na);
          mixOne(sa, list, 0, na, v + kh, poolRow, D, to);
        }
        if (i + 1 == queries) break;
        memory.fill(to + row, 0, head);
        if (nb) {
          scoreOne(from + row, list, nb, k + kh, poolRow, D, scale, sb);
          normalize(sb, nb);
          mixOne(sb, list, 0, nb, v + kh, poolRow, D, to + row);
        }
        continue;
      }
      scoreTwo(from, row, list, max(na, nb), k + kh, poolRow, D, scale, sa, sb);
      normalize(sa, na);
      normalize(sb, nb);
      const common = min(na, nb);
      mixTwo(sa, sb, list, common, v + kh, poolRow, D, to, row);
      if (na > common) mixOne(sa, list, common, na, v + kh, poolRow, D, to);
      if (nb > common) mixOne(sb, list, common, nb, v + kh, poolRow, D, to + row);
    }
  }
  return -1;
}

/**
 * Rotates pairs of the rows n0 to n1 of x (N, H, D) by table[position] (cos, sin pairs, (P, D/2, 2)): pairs (2i, 2i+1) when interleaved, else (i, i + D/2).
 * A position outside 0..P-1 (padding) copies the row. positions are (N). `turn` is 1, or -1 to rotate back.
 */
export function rope(x: usize, table: usize, positions: usize, y: usize, H: i32, D: i32, P: i32, interleaved: i32, turn: f32, n0: i32, n1: i32): void {
  const half = D >> 1;
  const head = (<usize>D) << 2;
  for (let n = n0; n < n1; n++) {
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
