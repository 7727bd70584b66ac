import {
  attention,
  crossEntropy,
  logSumExp,
  matmul,
  mean,
  rmsNorm,
  rope,
  siluMul,
  slice,
  softmax,
  sum,
  type Tensor,
  tidy,
} from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { Generate } from '@unroll/tensor/testing';
import { afterAll, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());

const g = new Generate(20);
const f32 = (...shape: number[]) => device.tensor(g.f32(shape).data, shape);
const words = (x: Tensor) => {
  const values = device.readSync(x);
  return new Int32Array(values.buffer, values.byteOffset, values.length);
};

/** Index of the first row (of `width` values) that differs in a bit, -1 if none. */
function firstDifferentRow(a: Int32Array, b: Int32Array, width: number): number {
  if (a.length !== b.length) throw new Error(`${a.length} values against ${b.length}`);
  const at = a.findIndex((word, i) => word !== b[i]);
  return at < 0 ? -1 : Math.floor(at / width);
}

const rowsOf = (x: Tensor, start: number, end: number) => slice(x, 0, start, end);

describe('matmul: an output row has the same bits in any grouping of rows', () => {
  const M = 20;
  const sizes = [1, 3, 4, 7, 16, 37, 67].flatMap((K) => [1, 3, 5, 8, 13, 20].map((N) => [K, N] as const));

  it.each([true, false])('M = 1 to 20, odd and even K and N, transposeB %s', (transposeB) => {
    for (const [K, N] of sizes) {
      tidy(device, () => {
        const a = f32(M, K);
        const b = transposeB ? f32(N, K) : f32(K, N);
        const whole = words(matmul(a, b, { transposeB }));
        for (let m = 1; m <= M; m++) {
          for (const start of new Set([0, Math.floor((M - m) / 2), M - m])) {
            const part = words(matmul(rowsOf(a, start, start + m), b, { transposeB }));
            expect(
              firstDifferentRow(part, whole.subarray(start * N, (start + m) * N), N),
              `K ${K} N ${N}, rows ${start} to ${start + m}`,
            ).toBe(-1);
          }
        }
      });
    }
  });

  it.each([true, false])('over more k than one pass of the kernel takes, transposeB %s', (transposeB) => {
    for (const [K, N] of [
      [1023, 19],
      [1029, 35],
      [2060, 6],
    ] as const) {
      tidy(device, () => {
        const a = f32(37, K);
        const b = transposeB ? f32(N, K) : f32(K, N);
        const whole = words(matmul(a, b, { transposeB }));
        for (const [start, end] of [
          [0, 1],
          [1, 4],
          [3, 20],
          [20, 37],
        ] as const) {
          const part = words(matmul(rowsOf(a, start, end), b, { transposeB }));
          expect(firstDifferentRow(part, whole.subarray(start * N, end * N), N), `K ${K} N ${N}, rows ${start} to ${end}`).toBe(-1);
        }
      });
    }
  });

  it('whatever N is: a column does not depend on its neighbours', () => {
    const [K, N] = [29, 21];
    const a = f32(5, K);
    const b = f32(N, K);
    const whole = words(matmul(a, b, { transposeB: true }));
    for (let n = 0; n < N; n++) {
      const column = words(matmul(a, rowsOf(b, n, n + 1), { transposeB: true }));
      expect([...column]).toEqual([0, 1, 2, 3, 4].map((m) => whole[m * N + n]));
    }
  });

  it('as rows, as batches with one matrix or with a matrix each, transposed or not', () => {
    const [B, T, K, N] = [3, 5, 19, 11];
    const a = f32(B, T, K);
    const turned = (x: Tensor, rows: number, cols: number) => {
      const values = device.readSync(x);
      const out = new Float32Array(values.length);
      const size = rows * cols;
      for (let i = 0; i < values.length; i++) {
        out[Math.floor(i / size) * size + (i % cols) * rows + Math.floor((i % size) / cols)] = values[i]!;
      }
      return device.tensor(out, [...x.shape.slice(0, -2), cols, rows]);
    };
    const b = f32(N, K);
    const expected = words(matmul(a, b, { transposeB: true }));
    const aT = turned(a, T, K);
    const bT = turned(b, N, K);
    const each = device.tensor(
      Float32Array.from({ length: B * N * K }, (_, i) => device.readSync(b)[i % (N * K)]!),
      [B, N, K],
    );
    const others = [
      matmul(aT, b, { transposeA: true, transposeB: true }),
      matmul(a, bT),
      matmul(aT, bT, { transposeA: true }),
      matmul(a, each, { transposeB: true }),
      matmul(aT, turned(each, N, K), { transposeA: true }),
    ];
    for (const [i, other] of others.entries()) {
      expect(other.shape).toEqual([B, T, N]);
      expect(firstDifferentRow(words(other), expected, N), `form ${i}`).toBe(-1);
    }
  });
});

describe('rowwise operations', () => {
  const table = f32(64, 8, 2);
  const targets = (n: number) =>
    device.tensor(
      Array.from({ length: n }, (_, i) => (i * 7) % 16),
      [n],
      { dtype: 'i32' },
    );
  const cases: readonly [string, (x: Tensor, C: number, start: number) => Tensor][] = [
    ['rmsNorm', (x, C) => rmsNorm(x, device.tensor(Float32Array.from({ length: C }, (_, i) => 1 + i / 100)))],
    ['softmax', (x) => softmax(x)],
    ['sum', (x) => sum(x, { axis: -1 })],
    ['mean', (x) => mean(x, { axis: -1 })],
    ['logSumExp', (x) => logSumExp(x, { axis: -1 })],
  ];

  it.each(cases)('%s: a row does not depend on how many stand beside it', (_, f) => {
    for (const C of [1, 2, 3, 5, 8, 31, 66]) {
      tidy(device, () => {
        const x = f32(13, C);
        const whole = words(f(x, C, 0));
        const width = whole.length / 13;
        for (let r = 0; r < 13; r++) {
          expect(
            firstDifferentRow(words(f(rowsOf(x, r, r + 1), C, r)), whole.subarray(r * width, (r + 1) * width), width),
            `C ${C}, row ${r}`,
          ).toBe(-1);
        }
      });
    }
  });

  it('siluMul, rope and crossEntropy too', () => {
    const x = f32(9, 1, 16);
    const positions = device.tensor([5, 0, 63, -1, 7, 7, 1, 64, 2], [9], { dtype: 'i32' });
    const labels = targets(9);
    const flat = (t: Tensor) => device.tensor(device.readSync(t) as Float32Array, [t.shape[0]!, 16]);
    const all = [siluMul(x), rope(x, table, positions, { layout: 'half' }), crossEntropy(flat(x), labels)].map(words);
    for (let r = 0; r < 9; r++) {
      const row = rowsOf(x, r, r + 1);
      const alone = [
        siluMul(row),
        rope(row, table, rowsOf(positions, r, r + 1), { layout: 'half' }),
        crossEntropy(flat(row), rowsOf(labels, r, r + 1)),
      ];
      alone.map(words).forEach((got, i) => {
        const width = all[i]!.length / 9;
        expect(firstDifferentRow(got, all[i]!.subarray(r * width, (r + 1) * width), width), `operation ${i}, row ${r}`).toBe(-1);
      });
    }
  });

  it.each([
    ['sum', sum],
    ['mean', mean],
    ['logSumExp', logSumExp],
  ] as const)('%s along the first axis: a column does not depend on how many stand beside it', (_, f) => {
    for (const n of [1, 2, 3, 4, 5, 11, 32, 65]) {
      const x = f32(n, 6);
      const whole = words(f(x, { axis: 0 }));
      for (let c = 0; c < 6; c++) expect(words(f(slice(x, 1, c, c + 1), { axis: 0 }))[0], `n ${n}, column ${c}`).toBe(whole[c]);
    }
  });
});

describe('attention: a query has the same bits whatever B, T, S and the padding', () => {
  it.each([
    [4, 4, 16],
    [6, 2, 7],
    [3, 1, 1],
  ])('H %i, Hk %i, D %i', (H, Hk, D) => {
    const [S, R] = [23, 64];
    const k = f32(R, Hk, D);
    const v = f32(R, Hk, D);
    const q = f32(1, S, H, D);
    const rows = Array.from({ length: S }, (_, i) => (i * 29 + 3) % R);
    const i32 = (values: number[], ...shape: number[]) => device.tensor(values, shape, { dtype: 'i32' });
    const visible = rows.map((_, i) => i + 1);
    const whole = words(attention(q, k, v, i32(rows, 1, S), i32(visible, 1, S)));
    const width = H * D;
    for (let t = 0; t < S; t++) {
      const expected = whole.subarray(t * width, (t + 1) * width);
      const query = slice(q, 1, t, t + 1);
      // Alone with its own keys; with keys to come that it does not see; with holes between; as the second of a batch.
      const seen = rows.slice(0, t + 1);
      const holes = seen.flatMap((row, i) => (i % 3 === 0 ? [-1, -1, row] : [row]));
      const other = slice(q, 1, 0, 1);
      const padded = [...new Array(S - t - 1).fill(-1), ...seen];
      const forms = [
        attention(query, k, v, i32(seen, 1, t + 1), i32([t + 1], 1, 1)),
        attention(query, k, v, i32(rows, 1, S), i32([t + 1], 1, 1)),
        attention(query, k, v, i32(holes, 1, holes.length), i32([holes.length], 1, 1)),
      ].map(words);
      const pair = device.tensor(Float32Array.from([...device.readSync(other), ...device.readSync(query)] as number[]), [2, 1, H, D]);
      forms.push(words(attention(pair, k, v, i32([...rows, ...padded], 2, S), i32([S, S], 2, 1))).subarray(width));
      forms.forEach((got, i) => {
        expect(firstDifferentRow(got, expected, width), `query ${t}, form ${i}`).toBe(-1);
      });
    }
  });
});
