import {
  concatMatmul,
  DTypeError,
  dequantizeRows,
  GradientError,
  gatedMatmul,
  gatherRows,
  grad,
  matmul,
  mean,
  normMatmul,
  quantizeRows,
  RangeOpError,
  reshape,
  rmsNorm,
  ShapeError,
  siluMul,
  slice,
  type Tensor,
  tidy,
  type WeightFormat,
  weightParts,
} from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { Generate, opList, tensorOf } from '@unroll/tensor/testing';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { apply } from '../src/op.js';

const device = createCpuDevice({ threads: 1 });
afterAll(() => device.dispose());

const formats: readonly WeightFormat[] = ['f16', 'bf16', 'q8', 'q4'];
const quantized = ['q8', 'q4'] as const;
const g = new Generate(5);
const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
const words = (x: Tensor) => {
  const values = device.readSync(x);
  return new Int32Array(values.buffer, values.byteOffset, values.length);
};
const sameWords = (a: Int32Array, b: Int32Array) => a.length === b.length && a.every((word, i) => word === b[i]);
const random = (...shape: number[]) => g.f32(shape).data as Float32Array;

describe('quantizers', () => {
  const groups = fc.array(fc.float({ min: -1e4, max: 1e4, noNaN: true }), { minLength: 1, maxLength: 70 });
  const largestOf = (group: Float32Array) => Math.max(...group.map(Math.abs));

  it('q8 is off by half a step, a 127th of the largest value of the group, at most', () => {
    fc.assert(
      fc.property(groups, (numbers) => {
        const row = Float32Array.from(numbers);
        const back = dequantizeRows('q8', quantizeRows('q8', row, row.length), 1, row.length);
        for (let at = 0; at < row.length; at += 32) {
          // The step is an f16, whose own steps are a 1024th and at least 2^-24.
          const step = (largestOf(row.subarray(at, at + 32)) / 127) * (1 + 1 / 1024) + 2 ** -24;
          for (let i = at; i < Math.min(row.length, at + 32); i++) expect(Math.abs(back[i]! - row[i]!)).toBeLessThanOrEqual(step * 0.501);
        }
      }),
    );
  });

  it('q4 loses no more, in squares over a group, than with the plain scale of an eighth of the largest value', () => {
    fc.assert(
      fc.property(groups, (numbers) => {
        const row = Float32Array.from(numbers);
        const back = dequantizeRows('q4', quantizeRows('q4', row, row.length), 1, row.length);
        for (let at = 0; at < row.length; at += 32) {
          const group = row.subarray(at, at + 32);
          const peak = group.reduce((most, x) => (Math.abs(x) > Math.abs(most) ? x : most), 0);
          const scale = peak / -8;
          const loss = (of: (x: number, i: number) => number) => group.reduce((sum, x, i) => sum + (of(x, i) - x) ** 2, 0);
          const plain = loss((x) => (scale === 0 ? 0 : Math.max(-8, Math.min(7, Math.round(x / scale))) * scale));
          // An f16 scale is off by a 2048th of itself, or by 2^-25.
          const rounding = group.length * (8 * (Math.abs(scale) / 1000 + 2 ** -24)) ** 2;
          expect(loss((_, i) => back[at + i]!)).toBeLessThanOrEqual(plain * 1.01 + rounding * 4);
        }
      }),
    );
  });

  it('halves are rounded to nearest, and quantising what a format holds changes nothing', () => {
    fc.assert(
      fc.property(groups, fc.constantFrom('f16' as const, 'bf16' as const), (numbers, format) => {
        const row = Float32Array.from(numbers);
        const once = dequantizeRows(format, quantizeRows(format, row, row.length), 1, row.length);
        once.forEach((x, i) => {
          expect(Math.abs(x - row[i]!)).toBeLessThanOrEqual(Math.abs(row[i]!) * (format === 'f16' ? 2 ** -11 : 2 ** -8) + 2 ** -25);
        });
        expect(dequantizeRows(format, quantizeRows(format, once, row.length), 1, row.length)).toEqual(once);
      }),
    );
  });

  it('zeros stay zeros, tiny groups stay small, one value alone is kept', () => {
    for (const format of quantized) {
      const row = new Float32Array(96);
      row[40] = 3;
      row.fill(1e-9, 64);
      const back = dequantizeRows(format, quantizeRows(format, row, 96), 1, 96);
      expect([...back.subarray(0, 32)]).toEqual(new Array(32).fill(0));
      expect(back[40]).toBeCloseTo(3, 2);
      expect(largestOf(back.subarray(64))).toBeLessThan(1e-6);
    }
  });

  it.each(formats)('%s refuses NaN and infinite values by their place, and values beyond an f16', (format) => {
    const at = (value: number) => {
      const rows = random(3, 40);
      rows[2 * 40 + 35] = value;
      return () => quantizeRows(format, rows, 40, 8);
    };
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])
      expect(at(value)).toThrow(new RegExp(`row 10, column 35 is ${value}, which ${format} cannot hold`));
    expect(at(Number.NaN)).toThrow(RangeOpError);
    if (format !== 'bf16') expect(at(1e9)).toThrow(RangeOpError);
  });
});

describe('a weight on the device', () => {
  it.each(formats)('%s: the bytes counted are those of the layout, and data() gives the values', async (format) => {
    const before = device.memory().bytes.weights;
    const values = random(19, 70);
    const weight = device.tensor(values, [19, 70], { dtype: format, memory: 'weights' });
    const parts = weightParts(format, [19, 70]);
    const last = parts[parts.length - 1]!;
    expect(device.memory().bytes.weights - before).toBe(last.offset + last.bytes);
    expect(last.offset + last.bytes).toBeLessThan(19 * 70 * 4);
    expect(await weight.data()).toEqual(dequantizeRows(format, quantizeRows(format, values, 70), 19, 70));
    weight.dispose();
    expect(device.memory().bytes.weights).toBe(before);
  });

  it.each(formats)('%s: written in pieces of whole blocks it has the bytes of the whole', async (format) => {
    const values = random(27, 45);
    const whole = device.fromBytes(bytesOf(values), 'f32', [27, 45], { as: format });
    const pieces = device.zeros([27, 45], { dtype: format });
    for (const [first, end] of [
      [16, 27],
      [0, 8],
      [8, 16],
    ] as const)
      device.writeRows(pieces, bytesOf(values.slice(first * 45, end * 45)), 'f32', first);
    expect(await device.readBytes(pieces)).toEqual(await device.readBytes(whole));
    expect(() => device.writeRows(pieces, bytesOf(values.slice(0, 45)), 'f32', 26)).not.toThrow(DTypeError);
    if (format === 'q8') expect(() => device.writeRows(pieces, bytesOf(values.slice(0, 45)), 'f32', 4)).toThrow(ShapeError);
    expect(() => device.writeRows(pieces, bytesOf(values), 'f32', 8)).toThrow(ShapeError);
    for (const tensor of [whole, pieces]) tensor.dispose();
  });

  it.each(formats)('%s: what readBytes gives loads again, bit by bit', async (format) => {
    const weight = device.tensor(random(11, 33), [11, 33], { dtype: format });
    const bytes = await device.readBytes(weight);
    const parts = weightParts(format, [11, 33]).map(({ offset, bytes: size }) => bytes.slice(offset, offset + size));
    const again = device.fromBytes(parts, format, [11, 33], { as: format });
    expect(await device.readBytes(again)).toEqual(bytes);
    for (const tensor of [weight, again]) tensor.dispose();
  });

  it('parts of another size, and scales that are not finite, are refused', () => {
    for (const format of quantized) {
      const parts = quantizeRows(format, random(9, 40), 40);
      const load = (changed: Uint8Array[]) => () => device.fromBytes(changed, format, [9, 40]);
      expect(load([parts[0]!.slice(1), parts[1]!])).toThrow(ShapeError);
      expect(load([parts[0]!, parts[1]!.slice(2)])).toThrow(ShapeError);
      expect(load([parts[0]!])).toThrow(ShapeError);
      for (const half of [0x7c00, 0xfc00, 0x7e01]) {
        const scales = parts[1]!.slice();
        new DataView(scales.buffer).setUint16(10, half, true);
        expect(load([parts[0]!, scales])).toThrow(RangeOpError);
        expect(load([parts[0]!, scales])).toThrow('scale 5 is');
      }
    }
    expect(() => device.fromBytes(new Uint8Array(64), 'q8', [2, 2, 2])).toThrow(ShapeError);
    expect(device.memory().buffers).toBe(0);
  });
});

describe('products', () => {
  // K beside, below and beyond whole groups of 32; N beside whole blocks of 8.
  const sizes = [1, 3, 31, 32, 33, 64, 100].flatMap((K) => [1, 7, 8, 9, 20].map((N) => [K, N] as const));

  it.each(formats)('%s: an output row has the same bits in any grouping of rows', (format) => {
    // Alone, in fours, and from twelve on in panels, of which the last may lack rows; 1100 values are widened in two pieces.
    const M = 21;
    for (const [K, N] of [...sizes, [1100, 20]] as const) {
      tidy(device, () => {
        const a = device.tensor(random(M, K), [M, K]);
        const b = tensorOf(device, g.weight([N, K], format));
        const whole = words(matmul(a, b, { transposeB: true }));
        for (let m = 1; m <= M; m++) {
          for (const start of new Set([0, Math.floor((M - m) / 2), M - m])) {
            const part = words(matmul(slice(a, 0, start, start + m), b, { transposeB: true }));
            expect(sameWords(part, whole.subarray(start * N, (start + m) * N)), `K ${K} N ${N}, rows ${start} to ${start + m}`).toBe(true);
          }
        }
      });
    }
  });

  it('halves: the bits of the product with the same values as f32', async () => {
    for (const format of ['f16', 'bf16'] as const) {
      for (const M of [1, 5, 17]) {
        const half = tensorOf(device, g.weight([300, 600], format));
        const wide = device.tensor(await half.data(), [300, 600]);
        const a = device.tensor(random(M, 600), [M, 600]);
        const [x, y] = [half, wide].map((b) => matmul(a, b, { transposeB: true })) as [Tensor, Tensor];
        expect(sameWords(words(x), words(y))).toBe(true);
        for (const tensor of [half, wide, a, x, y]) tensor.dispose();
      }
    }
  });

  it.each(formats)('%s: threads do not change a bit', async (format) => {
    const many = createCpuDevice({ threads: 2 });
    const weight = g.weight([515, 96], format);
    const rows = random(37, 96);
    const one = tidy(device, () => words(matmul(device.tensor(rows, [37, 96]), tensorOf(device, weight), { transposeB: true })));
    const [a, b] = [many.tensor(rows, [37, 96]), tensorOf(many, weight)];
    // Workers start after some work and take part once they are there: the last results come from both threads.
    for (let i = 0; i < 60; i++) {
      const y = matmul(a, b, { transposeB: true });
      const values = many.readSync(y);
      expect(sameWords(new Int32Array(values.buffer, values.byteOffset, values.length), one), `run ${i}`).toBe(true);
      y.dispose();
      if (i % 20 === 19) await new Promise((resolve) => setTimeout(resolve, 50));
    }
    many.dispose();
  });

  it.each(formats)('%s: fused products equal their parts, bit by bit', (format) => {
    tidy(device, () => {
      const [M, K] = [5, 48];
      const x = device.tensor(random(M, K), [M, K]);
      const w = device.tensor(random(K), [K]);
      const b = tensorOf(device, g.weight([26, K], format));
      const wide = tensorOf(device, g.weight([10, 2 * K], format));
      const normed = rmsNorm(x, w, { eps: 1e-6 });
      expect(words(normMatmul(x, w, b, { eps: 1e-6 }))).toEqual(words(matmul(normed, b, { transposeB: true })));
      expect(words(gatedMatmul(x, b))).toEqual(words(siluMul(matmul(x, b, { transposeB: true }))));
      const pair = Float32Array.from({ length: M * 2 * K }, (_, i) => device.readSync(x)[Math.floor(i / (2 * K)) * K + (i % K)]!);
      expect(words(concatMatmul(x, x, wide))).toEqual(words(matmul(device.tensor(pair, [M, 2 * K]), wide, { transposeB: true })));
    });
  });

  it('a row with NaN or infinity is NaN, and the other rows do not see it', async () => {
    for (const format of quantized) {
      const rows = random(6, 64);
      rows[64 + 40] = Number.NaN;
      rows[4 * 64 + 3] = Number.POSITIVE_INFINITY;
      const b = tensorOf(device, g.weight([9, 64], format));
      const a = device.tensor(rows, [6, 64]);
      const y = await matmul(a, b, { transposeB: true }).data();
      for (let m = 0; m < 6; m++) {
        for (let n = 0; n < 9; n++) expect(Number.isNaN(y[m * 9 + n]), `${format}, row ${m}`).toBe(m === 1 || m === 4);
      }
    }
  });

  it('codes of -128, which no quantiser writes, and the largest activations do not overflow', async () => {
    const parts = quantizeRows('q8', new Float32Array(8 * 32).fill(1), 32);
    parts[0]!.fill(0x80);
    const b = device.fromBytes(parts, 'q8', [8, 32]);
    const a = device.tensor(new Float32Array(32).fill(-1), [1, 32]);
    const y = await matmul(a, b, { transposeB: true }).data();
    const [value] = dequantizeRows('q8', parts, 8, 32);
    for (const x of y) expect(x).toBeCloseTo(-32 * value!, 4);
  });
});

describe('weight formats elsewhere', () => {
  const weight = () => device.tensor(random(8, 32), [8, 32], { dtype: 'q8' });

  it('every operation refuses them by its name, but where it reads weights', () => {
    for (const op of opList) {
      const { inputs, attrs } = op.samples(new Generate(1))[0]!;
      inputs.forEach((_, at) => {
        if (op.weight === at) return;
        tidy(device, () => {
          const tensors = inputs.map((input, i) => (i === at ? weight() : tensorOf(device, input)));
          expect(() => apply(op, tensors, attrs, device), `${op.name}, input ${at}`).toThrow(DTypeError);
          expect(() => apply(op, tensors, attrs, device)).toThrow(/q8\[8,32\], a format that only matmul/);
        });
      });
    }
    expect(() => reshape(weight(), [32, 8])).toThrow('reshape: input 0 is q8[8,32]');
    expect(() => device.write(weight(), new Float32Array(8))).toThrow(DTypeError);
  });

  it('matmul takes them as (N, K) with transposeB alone', () => {
    tidy(device, () => {
      const a = device.zeros([8, 8]);
      for (const options of [{}, { transposeA: true, transposeB: true }])
        expect(() => matmul(a, weight(), options)).toThrow(/^matmul: (b is q8\[8,32\], which is read by rows|the inner axes)/);
      expect(() => matmul(weight(), weight(), { transposeB: true })).toThrow(DTypeError);
    });
  });

  it('no gradient goes through them, nor into them', () => {
    const x = device.tensor(random(2, 32), [2, 32]);
    const w = weight();
    expect(() => grad(({ x }) => mean(matmul(x, w, { transposeB: true })), { x })).toThrow(GradientError);
    expect(() => grad(({ x }) => mean(matmul(x, w, { transposeB: true })), { x })).toThrow('load the model as f32 to train it');
    expect(() => grad(({ w }) => mean(matmul(x, w, { transposeB: true })), { w })).toThrow(DTypeError);
    const rows = device.tensor([1], [1], { dtype: 'i32' });
    // A table that no gradient follows is only read.
    expect(() => grad(({ x }) => mean(matmul(x, gatherRows(w, rows), { transposeB: true })), { x })).not.toThrow();
  });
});
