import { fromF16, roundTiesEven, toF16 } from './half.js';

// Quantisers of one group of 32 values. Both return the bits of the f16 scale and leave the codes in `codes`.

export function quantizeGroup8(group: Float32Array, codes: Int8Array): number {
  let most = 0;
  for (let i = 0; i < 32; i++) most = Math.max(most, Math.abs(group[i]!));
  let half = toF16(most / 127);
  // Subnormal scales are coarse: rounded down, they would cut the largest values.
  if (most > 127.5 * fromF16(half)) half++;
  const scale = fromF16(half);
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let i = 0; i < 32; i++) codes[i] = Math.max(-127, Math.min(127, roundTiesEven(group[i]! * inverse)));
  return half;
}

// Codes reach from -8 to 7, so the value of largest magnitude takes -8, with a negative scale where it is positive. Shrinking the range a
// little loses on that value and wins on all others: of several ranges the one with the least squared error is kept.
const ranges = [-8, -7.4, -6.8, -7.7, -7.1, -8.5, -9];

export function quantizeGroup4(group: Float32Array, codes: Int8Array): number {
  let peak = 0;
  for (let i = 0; i < 32; i++) if (Math.abs(group[i]!) > Math.abs(peak)) peak = group[i]!;
  if (peak === 0) {
    codes.fill(0);
    return 0;
  }
  let best = Number.NEGATIVE_INFINITY;
  let scale = 0;
  for (const range of ranges) {
    const inverse = range / peak;
    let xq = 0;
    let qq = 0;
    for (let i = 0; i < 32; i++) {
      const x = group[i]!;
      const q = Math.max(-8, Math.min(7, roundTiesEven(x * inverse)));
      xq += x * q;
      qq += q * q;
    }
    // With the codes fixed, the scale xq / qq leaves the squared error sum(x^2) - xq^2 / qq.
    const gain = qq === 0 ? 0 : (xq * xq) / qq;
    if (gain <= best) continue;
    best = gain;
    scale = qq === 0 ? 0 : xq / qq;
  }
  const half = toF16(scale);
  const stored = fromF16(half);
  const inverse = stored === 0 ? 0 : 1 / stored;
  for (let i = 0; i < 32; i++) codes[i] = Math.max(-8, Math.min(7, roundTiesEven(group[i]! * inverse)));
  return half;
}

/**
 * Rows of activations (M, K) as products with quantised weights see them: int8 with one scale for each group of 32 columns,
 * scale = max|x| / 127. A group that holds NaN or infinity becomes NaN.
 */
export function roundActivations(x: ArrayLike<number>, M: number, K: number): Float64Array {
  const rounded = new Float64Array(M * K);
  for (let m = 0; m < M; m++) {
    for (let first = 0; first < K; first += 32) {
      const at = m * K + first;
      const count = Math.min(32, K - first);
      let most = 0;
      for (let i = 0; i < count; i++) {
        const magnitude = Math.abs(x[at + i]!);
        if (magnitude > most || Number.isNaN(magnitude)) most = magnitude;
      }
      const scale = Math.fround(most / 127);
      const inverse = most === 0 ? 0 : Math.fround(127 / most);
      for (let i = 0; i < count; i++) {
        rounded[at + i] = Number.isFinite(most) ? roundTiesEven(Math.fround(Math.fround(x[at + i]!) * inverse)) * scale : Number.NaN;
      }
    }
  }
  return rounded;
}
