import { attention, type Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { Generate } from '@unroll/tensor/testing';
import { afterAll, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());
const i32 = (values: readonly number[], ...shape: number[]) => device.tensor(values, shape, { dtype: 'i32' });

interface Dense {
  readonly B: number;
  readonly T: number;
  readonly H: number;
  readonly Hk: number;
  readonly D: number;
  /** Padding at the left of each sequence. */
  readonly pad: readonly number[];
}

/** The textbook form: scores (T, T), minus infinity above the diagonal and at padded keys, softmax, times v. All in float64. */
function textbook(
  { B, T, H, Hk, D, pad }: Dense,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  scale: number,
): Float64Array {
  const out = new Float64Array(B * T * H * D);
  const at = (heads: number, b: number, t: number, h: number, d: number) => ((b * T + t) * heads + h) * D + d;
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      const kh = Math.floor((h * Hk) / H);
      for (let t = pad[b]!; t < T; t++) {
        const scores = Array.from({ length: T }, (_, s) => {
          if (s > t || s < pad[b]!) return Number.NEGATIVE_INFINITY;
          let dot = 0;
          for (let d = 0; d < D; d++) dot += q[at(H, b, t, h, d)]! * k[at(Hk, b, s, kh, d)]!;
          return dot * scale;
        });
        const max = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - max));
        const total = weights.reduce((sum, w) => sum + w, 0);
        for (let d = 0; d < D; d++) {
          for (let s = 0; s < T; s++) out[at(H, b, t, h, d)]! += (weights[s]! / total) * v[at(Hk, b, s, kh, d)]!;
        }
      }
    }
  }
  return out;
}

/** The same through the pool: sequence b's keys lie in rows b T + t, its padding has no row. */
function pooled({ B, T, Hk, D, pad }: Dense, q: Tensor, k: Float32Array, v: Float32Array, options = {}): Tensor {
  const keyRows = Array.from({ length: B * T }, (_, i) => (i % T < pad[Math.floor(i / T)]! ? -1 : i));
  const visible = Array.from({ length: B * T }, (_, i) => (i % T) + 1);
  return attention(q, device.tensor(k, [B * T, Hk, D]), device.tensor(v, [B * T, Hk, D]), i32(keyRows, B, T), i32(visible, B, T), options);
}

describe('against dense causal attention', () => {
  it.each<Dense>([
    { B: 1, T: 1, H: 1, Hk: 1, D: 1, pad: [0] },
    { B: 1, T: 17, H: 2, Hk: 2, D: 8, pad: [0] },
    { B: 3, T: 9, H: 4, Hk: 4, D: 5, pad: [0, 4, 8] },
    { B: 2, T: 12, H: 6, Hk: 2, D: 16, pad: [3, 0] },
    { B: 2, T: 7, H: 8, Hk: 1, D: 3, pad: [6, 2] },
  ])('B $B T $T H $H Hk $Hk D $D, left padding $pad', (form) => {
    const { B, T, H, Hk, D, pad } = form;
    const g = new Generate(T);
    const [q, k, v] = [g.f32([B, T, H, D]).data, g.f32([B, T, Hk, D]).data as Float32Array, g.f32([B, T, Hk, D]).data as Float32Array];
    for (const scale of [undefined, 0.5]) {
      const got = device.readSync(pooled(form, device.tensor(q, [B, T, H, D]), k, v, scale === undefined ? {} : { scale }));
      const expected = textbook(form, q, k, v, scale ?? 1 / Math.sqrt(D));
      const worst = expected.reduce((max, value, i) => Math.max(max, Math.abs(value - got[i]!)), 0);
      expect(worst).toBeLessThan(2e-6);
      // A padded query sees no key: 0, not 0 / 0.
      pad.forEach((n, b) => {
        expect([...got.slice(b * T * H * D, (b * T + n) * H * D)].every((value) => value === 0)).toBe(true);
      });
    }
  });
});

it('stays right for scores far from 0', () => {
  const [D, S] = [4, 3];
  const q = device.tensor([100, 0, 0, 0], [1, 1, 1, D]);
  const k = device.tensor([100, 0, 0, 0, 99.99, 0, 0, 0, -100, 0, 0, 0], [S, 1, D]);
  const v = device.tensor([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0], [S, 1, D]);
  const out = device.readSync(attention(q, k, v, i32([0, 1, 2], 1, S), i32([S], 1, 1), { scale: 1 }));
  const p = 1 / (1 + Math.exp(100 * (Math.fround(99.99) - 100)));
  expect(out[0]).toBeCloseTo(p, 3);
  expect(out[1]).toBeCloseTo(1 - p, 3);
  expect(out[2]).toBe(0);
});

it('lets NaN through: a broken key shows in the queries that see it, and in no other', () => {
  const k = new Float32Array(3 * 2).fill(1);
  k[2 * 2] = Number.NaN;
  const q = device.tensor(new Float32Array(6).fill(1), [1, 3, 1, 2]);
  const v = device.tensor(new Float32Array(6).fill(1), [3, 1, 2]);
  const out = device.readSync(attention(q, device.tensor(k, [3, 1, 2]), v, i32([0, 1, 2], 1, 3), i32([1, 2, 3], 1, 3)));
  expect([...out]).toEqual([1, 1, 1, 1, Number.NaN, Number.NaN]);
});

it('refuses rows and counts that would read beyond the pool, and gives the memory back', () => {
  const before = device.memory().buffers;
  const q = device.tensor(new Float32Array(8), [1, 2, 1, 4]);
  const k = device.tensor(new Float32Array(12), [3, 1, 4]);
  const call = (rows: number[], visible: number[]) => () => attention(q, k, k, i32(rows, 1, 2), i32(visible, 1, 2));
  expect(call([0, 1], [1, 3])).toThrow('attention: query (0, 1) has visible 3; it must be in 0..2, and the keyRows that it sees in -1..2');
  expect(call([0, 1], [-1, 2])).toThrow('attention: query (0, 0) has visible -1');
  expect(call([0, 3], [1, 2])).toThrow('attention: query (0, 1) has visible 2; it must be in 0..2, and the keyRows that it sees in -1..2');
  expect(call([-2, 0], [0, 1])).toThrow('attention: query (0, 1)');
  expect(call([0, 3], [1, 1])).not.toThrow();
  expect(device.memory().buffers).toBe(before + 2 + 2 * 5 + 1);
});
