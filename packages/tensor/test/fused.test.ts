import {
  add,
  addNormGatedMatmul,
  addNormMatmul,
  addRmsNorm,
  attention,
  concat,
  concatMatmul,
  decodeAttention,
  gatedMatmul,
  matmul,
  normMatmul,
  reshape,
  rmsNorm,
  rope,
  ropeTable,
  scatterRows,
  siluMul,
  split,
  type Tensor,
} from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { Generate } from '@unroll/tensor/testing';
import { afterAll, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());

const g = new Generate(31);
const f32 = (...shape: number[]) => device.tensor(g.f32(shape).data, shape);
const i32 = (values: number[], ...shape: number[]) => device.tensor(values, shape, { dtype: 'i32' });
const words = (x: Tensor) => new Int32Array(device.readSync(x).buffer);
const eps = 1e-6;
const times = (x: Tensor, b: Tensor) => matmul(x, b, { transposeB: true });

describe.each([1, 2, 3, 7])('fused operations on the CPU have the bits of the single ones, %i rows', (M) => {
  it.each([
    [64, 48, 'f32'],
    [13, 21, 'f32'],
    [64, 48, 'f16'],
    [64, 48, 'q8'],
    [70, 20, 'q4'],
  ] as const)('K %i, N %i, weights in %s', (K, N, format) => {
    const [x, y, w, w2] = [f32(M, K), f32(M, K), f32(K), f32(K)] as const;
    const weight = (...shape: number[]) => device.tensor(g.f32(shape).data, shape, { dtype: format });
    const [b, wide, both] = [weight(N, K), weight(N, 2 * K), weight(2 * N, K)] as const;
    expect(words(concatMatmul(x, y, wide))).toEqual(words(times(concat([x, y], -1), wide)));
    expect(words(gatedMatmul(x, both))).toEqual(words(siluMul(times(x, both))));
    expect(words(normMatmul(x, w, b, { eps }))).toEqual(words(times(rmsNorm(x, w, { eps }), b)));
    const sum = rmsNorm(add(x, y), w, { eps });
    const [first, second] = addRmsNorm(x, y, [w, w2], { eps });
    expect(words(first)).toEqual(words(sum));
    expect(words(second)).toEqual(words(rmsNorm(sum, w2, { eps })));
    const [product, z] = addNormMatmul(x, y, w, w2, b, { eps });
    expect(words(z)).toEqual(words(sum));
    expect(words(product)).toEqual(words(times(rmsNorm(sum, w2, { eps }), b)));
    const [inner, sum2] = addNormGatedMatmul(x, y, w, w2, both, { eps });
    expect(words(sum2)).toEqual(words(sum));
    expect(words(inner)).toEqual(words(siluMul(times(rmsNorm(sum, w2, { eps }), both))));
  });

  it.each([
    [4, 4, 16, true],
    [6, 2, 10, false],
  ])('decodeAttention, H %i, Hk %i, D %i, bias %s', (H, Hk, D, biased) => {
    const [S, P, B] = [9, 32, M];
    const R = B * S;
    const table = device.tensor(ropeTable(P, D, 10000), [P, D / 2, 2]);
    const [k, v] = [f32(R, Hk, D), f32(R, Hk, D)];
    const [k2, v2] = [k, v].map((pool) => device.tensor(device.readSync(pool), pool.shape)) as [Tensor, Tensor];
    const qkv = f32(B, 1, (H + 2 * Hk) * D);
    const bias = biased ? f32(H + Hk, D) : undefined;
    const rows = Array.from({ length: B * S }, (_, i) => (i * 7) % R);
    const visible = Array.from({ length: B }, (_, b) => 1 + ((b * 5) % S));
    const seen = i32(visible, B, 1);
    // The other call's table must not be read.
    const keyRows = i32([...rows.map(() => -1), ...rows], 2, B, S);
    const fused = decodeAttention(qkv, { k, v, keyRows, visible: seen }, { heads: H, table, bias, call: 1 });

    const [qk, values] = split(qkv, -1, [(H + Hk) * D, Hk * D]) as [Tensor, Tensor];
    const byHead = reshape(qk, [B, 1, H + Hk, D]);
    const positions = i32(
      visible.map((n) => n - 1),
      B,
      1,
    );
    const turned = rope(bias === undefined ? byHead : add(byHead, bias), table, positions, { layout: 'interleaved' });
    const [q, key] = split(turned, 2, [H, Hk]) as [Tensor, Tensor];
    const own = i32(
      visible.map((n, b) => rows[b * S + n - 1]!),
      B,
      1,
    );
    scatterRows(k2, own, key);
    scatterRows(v2, own, reshape(values, [B, 1, Hk, D]));
    expect(words(fused)).toEqual(words(attention(q, k2, v2, i32(rows, B, S), seen)));
    expect(words(k)).toEqual(words(k2));
    expect(words(v)).toEqual(words(v2));
  });
});
