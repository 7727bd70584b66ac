import { BYTES, dot, evenBytes, finish, kept, RECORD, SCALE, scales4, SUM } from './quant';
import { CODE_COLUMNS, CODE_ROW_SCALES, CODE_ROW_SUMS, CODE_ROWS, tileCodes, widenCodes } from './quant-codes';
import { own } from './thread';

// The products of quant.ts for many rows: four rows of A that lie together by eight columns of W, widened to 16 bits once for all rows.
// Sums of integers are exact and groups are added in the same order, so an output has the bits that its row has alone.

/** A group of four rows of A: for each of 16 pairs of k four rows of two 16-bit values, then the four scales. */
const ROWS: usize = 272, ROW_SCALES: usize = 256;
/** A group of eight columns of W: for each of the same pairs eight columns of two 16-bit values, then the eight scales. */
const COLUMNS: usize = 544, COLUMN_SCALES: usize = 512;
/** Groups of W that are widened at once: beside a panel of A they fit the first-level cache. */
const chunk: i32 = 32;

/** Whether W's values stay codes of 4 bits, each in a byte (quant-codes.ts). */
@inline
function areCodes(bits: i32): bool {
  return ASC_FEATURE_RELAXED_SIMD && bits == 4;
}

/** Brings the quantised rows x (M, K) together in the panels p0 to p1 of four rows, for W of `bits` 8 or 4; rows beyond M are 0. */
export function packQuantized(x: usize, to: usize, M: i32, K: i32, bits: i32, p0: i32, p1: i32): void {
  const G = <usize>((K + 31) >> 5);
  const codes = areCodes(bits);
  const rowsBytes = codes ? CODE_ROWS : ROWS, scales = codes ? CODE_ROW_SCALES : ROW_SCALES;
  const first: usize = codes ? BYTES : 0, size: usize = codes ? 32 : 64;
  for (let p = p0; p < p1; p++) {
    const panel = to + <usize>p * G * rowsBytes;
    const rows = min(4, M - (p << 2));
    if (rows < 4) memory.fill(panel, 0, G * rowsBytes);
    for (let r = 0; r < rows; r++) {
      let from = x + <usize>((p << 2) + r) * G * RECORD;
      let q = panel + ((<usize>r) << 2);
      for (const end = from + G * RECORD; from < end; from += RECORD) {
        for (let i: usize = 0; i < size; i += 16) {
          const v = v128.load(from + first + i);
          const at = q + (i << 2);
          v128.store_lane<i32>(at, v, 0);
          v128.store_lane<i32>(at, v, 1, 16);
          v128.store_lane<i32>(at, v, 2, 32);
          v128.store_lane<i32>(at, v, 3, 48);
        }
        f32.store(q + scales, f32.load(from, SCALE));
        if (codes) i32.store(q, i32.load(from, SUM), CODE_ROW_SUMS);
        q += rowsBytes;
      }
    }
  }
}

@inline
function widenScales(s: usize, to: usize): void {
  v128.store(to, scales4(s), COLUMN_SCALES);
  v128.store(to, scales4(s + 8), COLUMN_SCALES + 16);
}

function widen8(w: usize, s: usize, to: usize, groups: i32): void {
  for (let g = 0; g < groups; g++) {
    for (let j: usize = 0; j < 8; j++) {
      const lo = v128.load(w), hi = v128.load(w, 16);
      const at = to + (j << 6);
      v128.store(at, evenBytes(lo));
      v128.store(at, evenBytes(hi), 16);
      v128.store(at, i16x8.shr_s(lo, 8), 32);
      v128.store(at, i16x8.shr_s(hi, 8), 48);
      w += 32;
    }
    widenScales(s, to);
    s += 16;
    to += COLUMNS;
  }
}

function widen4(w: usize, s: usize, to: usize, groups: i32): void {
  const low = kept(0x000f000f, groups >> 31), eight = kept(0x00080008, groups >> 31);
  for (let g = 0; g < groups; g++) {
    for (let j: usize = 0; j < 8; j++) {
      const v = v128.load(w);
      const at = to + (j << 6);
      v128.store(at, i16x8.sub(v128.and(v, low), eight));
      v128.store(at, i16x8.sub(v128.and(i16x8.shr_u(v, 4), low), eight), 16);
      v128.store(at, i16x8.sub(v128.and(i16x8.shr_u(v, 8), low), eight), 32);
      v128.store(at, i16x8.sub(i16x8.shr_u(v, 12), eight), 48);
      w += 16;
    }
    widenScales(s, to);
    s += 16;
    to += COLUMNS;
  }
}

/** Four rows by eight columns over some groups, added to `totals`, rows of 8. */
function tile(x: usize, w: usize, groups: i32, totals: usize): void {
  for (let g = 0; g < groups; g++) {
    let a0 = i32x4.splat(0), a1 = i32x4.splat(0), a2 = i32x4.splat(0), a3 = i32x4.splat(0);
    let b0 = i32x4.splat(0), b1 = i32x4.splat(0), b2 = i32x4.splat(0), b3 = i32x4.splat(0);
    const end = x + ROW_SCALES;
    while (true) {
      const lo = v128.load(w), hi = v128.load(w, 16);
      let r = v128.load_splat<i32>(x);
      a0 = dot(lo, r, a0);
      b0 = dot(hi, r, b0);
      r = v128.load_splat<i32>(x, 4);
      a1 = dot(lo, r, a1);
      b1 = dot(hi, r, b1);
      r = v128.load_splat<i32>(x, 8);
      a2 = dot(lo, r, a2);
      b2 = dot(hi, r, b2);
      r = v128.load_splat<i32>(x, 12);
      a3 = dot(lo, r, a3);
      b3 = dot(hi, r, b3);
      x += 16;
      w += 32;
      if (x == end) break;
    }
    const lo = v128.load(w), hi = v128.load(w, 16);
    let r = v128.load_splat<f32>(x);
    v128.store(totals, finish(a0, f32x4.mul(lo, r), v128.load(totals)));
    v128.store(totals, finish(b0, f32x4.mul(hi, r), v128.load(totals, 16)), 16);
    r = v128.load_splat<f32>(x, 4);
    v128.store(totals, finish(a1, f32x4.mul(lo, r), v128.load(totals, 32)), 32);
    v128.store(totals, finish(b1, f32x4.mul(hi, r), v128.load(totals, 48)), 48);
    r = v128.load_splat<f32>(x, 8);
    v128.store(totals, finish(a2, f32x4.mul(lo, r), v128.load(totals, 64)), 64);
    v128.store(totals, finish(b2, f32x4.mul(hi, r), v128.load(totals, 80)), 80);
    r = v128.load_splat<f32>(x, 12);
    v128.store(totals, finish(a3, f32x4.mul(lo, r), v128.load(totals, 96)), 96);
    v128.store(totals, finish(b3, f32x4.mul(hi, r), v128.load(totals, 112)), 112);
    x += ROWS - ROW_SCALES;
    w += COLUMNS - COLUMN_SCALES;
  }
}

/** Eight totals, or as many bytes of them as there are; from 0 as zeros. */
@inline
function moveTotals(from: usize, to: usize, bytes: usize): void {
  if (!from) {
    v128.store(to, f32x4.splat(0));
    v128.store(to, f32x4.splat(0), 16);
  } else if (bytes == 32) {
    v128.store(to, v128.load(from));
    v128.store(to, v128.load(from, 16), 16);
  } else memory.copy(to, from, bytes);
}

/**
 * M rows in panels x (`packQuantized`) against the blocks b0 to b1 of eight columns of W, `w` values of `bits` 8 or 4 and `s` scales, into c
 * (M, N). scratch, for each thread: 17,536 bytes.
 */
export function gemmQuantized(x: usize, w: usize, s: usize, c: usize, M: i32, K: i32, N: i32, bits: i32, scratch: usize, scratchBytes: i32, b0: i32, b1: i32): void {
  const G = (K + 31) >> 5;
  const line = (<usize>N) << 2;
  const codes = areCodes(bits);
  const rowsBytes = codes ? CODE_ROWS : ROWS;
  const panelBytes = <usize>G * rowsBytes;
  const columns = own(scratch, scratchBytes);
  // Rows of C may lie a multiple of 4 KiB apart, where they would keep each other out of the cache.
  const totals = columns + <usize>chunk * (codes ? CODE_COLUMNS : COLUMNS);
  const panels = (M + 3) >> 2;
  for (let b = b0; b < b1; b++) {
    const bytes = (<usize>min(8, N - (b << 3))) << 2;
    for (let g = 0; g < G; g += chunk) {
      const groups = min(chunk, G - g);
      const at = <usize>(b * G + g);
      if (bits == 8) widen8(w + (at << 8), s + (at << 4), columns, groups);
      else if (ASC_FEATURE_RELAXED_SIMD && codes) widenCodes(w + (at << 7), s + (at << 4), columns, groups);
      else widen4(w + (at << 7), s + (at << 4), columns, groups);
      for (let p = 0; p < panels; p++) {
        const to = c + <usize>(p << 2) * line + ((<usize>b) << 5);
        const rows = <usize>min(4, M - (p << 2));
        for (let r: usize = 0; r < 4; r++) moveTotals(g && r < rows ? to + r * line : 0, totals + (r << 5), bytes);
        const panel = x + <usize>p * panelBytes + <usize>g * rowsBytes;
        if (ASC_FEATURE_RELAXED_SIMD && codes) tileCodes(panel, columns, groups, totals);
        else tile(panel, columns, groups, totals);
        for (let r: usize = 0; r < rows; r++) moveTotals(totals + (r << 5), to + r * line, bytes);
      }
    }
  }
}
