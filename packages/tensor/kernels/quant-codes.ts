import { dotCodes, finish, kept, scales4 } from './quant';

// The products of quant-panel.ts for W in 4 bits where the engine has relaxed SIMD: codes of 0 to 15 stay bytes, of which a vector holds
// sixteen, and a lane's sixteen products of at most 15 x 127 fit its 16 bits.

/** A group of four rows of A: for each of 8 quads of k four rows of four bytes, then the four scales, then 8 times the sum of each row. */
export const CODE_ROWS: usize = 160, CODE_ROW_SCALES: usize = 128, CODE_ROW_SUMS: usize = 144;
/** A group of eight columns of W: for each of the same quads eight columns of four codes, then the eight scales. */
export const CODE_COLUMNS: usize = 288;
const COLUMN_SCALES: usize = 256;

export function widenCodes(w: usize, s: usize, to: usize, groups: i32): void {
  const low = kept(0x0f0f0f0f, groups >> 31);
  for (let g = 0; g < groups; g++) {
    for (let j: usize = 0; j < 8; j++) {
      const v = v128.load(w);
      const at = to + (j << 5);
      v128.store(at, v128.and(v, low));
      v128.store(at, v128.and(i16x8.shr_u(v, 4), low), 16);
      w += 16;
    }
    v128.store(to, scales4(s), COLUMN_SCALES);
    v128.store(to, scales4(s + 8), COLUMN_SCALES + 16);
    s += 16;
    to += CODE_COLUMNS;
  }
}

@inline
function total(sum: v128, minus: v128, scales: v128, at: usize): void {
  v128.store(at, finish(i32x4.sub(i32x4.extadd_pairwise_i16x8_s(sum), minus), scales, v128.load(at)));
}

/** Four rows by eight columns over some groups, added to `totals`, rows of 8. */
export function tileCodes(x: usize, w: usize, groups: i32, totals: usize): void {
  for (let g = 0; g < groups; g++) {
    let a0 = i16x8.splat(0), a1 = i16x8.splat(0), a2 = i16x8.splat(0), a3 = i16x8.splat(0);
    let b0 = i16x8.splat(0), b1 = i16x8.splat(0), b2 = i16x8.splat(0), b3 = i16x8.splat(0);
    const end = x + CODE_ROW_SCALES;
    while (true) {
      const lo = v128.load(w), hi = v128.load(w, 16);
      let r = v128.load_splat<i32>(x);
      a0 = dotCodes(lo, r, a0);
      b0 = dotCodes(hi, r, b0);
      r = v128.load_splat<i32>(x, 4);
      a1 = dotCodes(lo, r, a1);
      b1 = dotCodes(hi, r, b1);
      r = v128.load_splat<i32>(x, 8);
      a2 = dotCodes(lo, r, a2);
      b2 = dotCodes(hi, r, b2);
      r = v128.load_splat<i32>(x, 12);
      a3 = dotCodes(lo, r, a3);
      b3 = dotCodes(hi, r, b3);
      x += 16;
      w += 32;
      if (x == end) break;
    }
    const lo = v128.load(w), hi = v128.load(w, 16);
    let r = v128.load_splat<f32>(x), n = v128.load_splat<i32>(x, 16);
    total(a0, n, f32x4.mul(lo, r), totals);
    total(b0, n, f32x4.mul(hi, r), totals + 16);
    r = v128.load_splat<f32>(x, 4), n = v128.load_splat<i32>(x, 20);
    total(a1, n, f32x4.mul(lo, r), totals + 32);
    total(b1, n, f32x4.mul(hi, r), totals + 48);
    r = v128.load_splat<f32>(x, 8), n = v128.load_splat<i32>(x, 24);
    total(a2, n, f32x4.mul(lo, r), totals + 64);
    total(b2, n, f32x4.mul(hi, r), totals + 80);
    r = v128.load_splat<f32>(x, 12), n = v128.load_splat<i32>(x, 28);
    total(a3, n, f32x4.mul(lo, r), totals + 96);
    total(b3, n, f32x4.mul(hi, r), totals + 112);
    x += CODE_ROWS - CODE_ROW_SCALES;
    w += CODE_COLUMNS - COLUMN_SCALES;
  }
}
