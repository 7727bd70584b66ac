import { argmax, type RandomOptions, type RandomStream, randomKey, randomRows, reshape, softmax, threefry2x32, tidy } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());

/** Rows (positions, width) drawn with one key. */
function draw(key: readonly [number, number], positions: readonly number[], options: RandomOptions): Float32Array {
  return tidy(device, () => {
    const keys = device.tensor(
      positions.flatMap(() => [...key]),
      [positions.length, 2],
      { dtype: 'i32' },
    );
    return device.readSync(randomRows(keys, device.tensor(positions, [positions.length], { dtype: 'i32' }), options));
  });
}

const count = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe('threefry-2x32, 20 rounds', () => {
  // kat_vectors of Random123 (Salmon et al. 2011).
  it.each([
    ['zeros', [0, 0], [0, 0], [0x6b200159, 0x99ba4efe]],
    ['ones', [0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff], [0x1cb996fc, 0xbb002be7]],
    ['digits of pi', [0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3], [0xc4923a9c, 0x483df7a0]],
  ] as const)('known answer: %s', (_, key, counter, expected) => {
    expect(threefry2x32(key, counter)).toEqual(expected);
    expect(threefry2x32([key[0] | 0, key[1] | 0], [counter[0] | 0, counter[1] | 0])).toEqual(expected);
  });

  it.each([
    ['zeros', [0, 0], 0, [0x6b200159, 0x99ba4efe]],
    ['extremes of i32', [-1, -2147483648], -1, undefined],
  ] as const)('the kernel runs the same function: %s', (_, key, position, words) => {
    const row = draw(key, [position], { distribution: 'uniform', width: 2000 });
    for (let c = 0; c < row.length; c++) {
      const bits = c < 2 && words !== undefined ? words[c]! : threefry2x32(key, [c >> 1, position])[c & 1]!;
      expect(row[c]).toBe(((bits >>> 9) + 0.5) / 2 ** 23);
    }
  });
});

describe('values are keyed, never ordered', () => {
  const key = randomKey(42, 'state');
  it.each<RandomOptions>([
    { distribution: 'uniform', width: 37 },
    { distribution: 'truncatedNormal', width: 37, std: 2, bound: 3 },
    { distribution: 'gumbel', width: 37 },
  ])('$distribution: chunked = whole, in any order, and a narrower row is the beginning of a wider', (options) => {
    const whole = draw(key, count(0, 60), options);
    const chunks = [...draw(key, count(0, 17), options), ...draw(key, [17], options), ...draw(key, count(18, 60), options)];
    expect(chunks).toEqual([...whole]);
    const backwards = draw(key, count(0, 60).reverse(), options);
    for (let p = 0; p < 60; p++)
      expect([...backwards.subarray((59 - p) * 37, (60 - p) * 37)]).toEqual([...whole.subarray(p * 37, (p + 1) * 37)]);
    for (const width of [1, 2, 5, 36]) {
      expect([...draw(key, [8], { ...options, width })]).toEqual([...whole.subarray(8 * 37, 8 * 37 + width)]);
    }
  });

  it('seeds, streams and positions give other values', () => {
    const streams: RandomStream[] = ['state', 'sampling', 'init', 'noise'];
    const seeds = [0, 1, 2, 2 ** 31, 2 ** 32, 2 ** 32 + 1, Number.MAX_SAFE_INTEGER];
    const keys = streams.flatMap((stream) => seeds.map((seed) => randomKey(seed, stream)));
    expect(new Set(keys.map(String)).size).toBe(keys.length);
    const rows = keys.flatMap((k) => [0, 1, 4095].map((p) => draw(k, [p], { distribution: 'uniform', width: 4 })));
    expect(new Set(rows.map(String)).size).toBe(rows.length);
    for (const k of keys) expect(k.every((word) => (word | 0) === word)).toBe(true);
  });
});

/** Largest distance between the empirical and the exact distribution (Kolmogorov-Smirnov), times sqrt(n). */
function ksStatistic(values: Float32Array, cdf: (x: number) => number): number {
  const sorted = Float64Array.from(values).sort();
  const n = sorted.length;
  let worst = 0;
  sorted.forEach((x, i) => {
    const p = cdf(x);
    worst = Math.max(worst, Math.abs(p - i / n), Math.abs(p - (i + 1) / n));
  });
  return worst * Math.sqrt(n);
}

// Normal distribution function by Simpson's rule, tabulated: independent of the erf of the library.
const steps = 6000;
const table = new Float64Array(steps + 1);
const density = (x: number) => Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);
for (let i = 1; i <= steps; i++) {
  const [a, b] = [-6 + ((i - 1) * 12) / steps, -6 + (i * 12) / steps];
  table[i] = table[i - 1]! + ((b - a) / 6) * (density(a) + 4 * density((a + b) / 2) + density(b));
}
function normalCdf(x: number): number {
  const at = Math.min(steps - 1, Math.max(0, ((x + 6) / 12) * steps));
  const i = Math.floor(at);
  return table[i]! + (at - i) * (table[i + 1]! - table[i]!);
}

describe('distributions', () => {
  const n = 200;
  const width = 1000;
  const total = n * width;
  const moments = (values: Float32Array) => {
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    return { mean, variance: values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length };
  };
  // 1.95 is exceeded once in 1000 draws; the seed is fixed, so that the test always gives the same answer.
  const ksLimit = 1.95;

  it('uniform: mean 1/2, variance 1/12, KS', () => {
    const values = draw(randomKey(1, 'noise'), count(0, n), { distribution: 'uniform', width });
    const { mean, variance } = moments(values);
    expect(Math.abs(mean - 0.5)).toBeLessThan(4 * Math.sqrt(1 / 12 / total));
    expect(Math.abs(variance - 1 / 12)).toBeLessThan(4 * Math.sqrt(1 / 180 / total));
    expect(ksStatistic(values, (x) => x)).toBeLessThan(ksLimit);
    expect(values.every((x) => x > 0 && x < 1)).toBe(true);
  });

  it.each([
    [0.632, 3],
    [2, 1],
    [1, 4.5],
  ])('truncatedNormal, std %f, cut at %f: exact mean and variance, KS', (std, bound) => {
    const values = draw(randomKey(5, 'state'), count(0, n), { distribution: 'truncatedNormal', width, std, bound });
    const inside = 2 * normalCdf(bound) - 1;
    const exact = std ** 2 * (1 - (2 * bound * density(bound)) / inside);
    const { mean, variance } = moments(values);
    expect(Math.abs(mean)).toBeLessThan(4 * Math.sqrt(exact / total));
    expect(Math.abs(variance / exact - 1)).toBeLessThan(4 * Math.sqrt(2 / total));
    expect(ksStatistic(values, (x) => (normalCdf(x / std) - normalCdf(-bound)) / inside)).toBeLessThan(ksLimit);
  });

  it('gumbel: mean Euler gamma, variance pi^2 / 6, KS', () => {
    const values = draw(randomKey(3, 'sampling'), count(0, n), { distribution: 'gumbel', width });
    const { mean, variance } = moments(values);
    const exact = Math.PI ** 2 / 6;
    expect(Math.abs(mean - 0.5772156649)).toBeLessThan(4 * Math.sqrt(exact / total));
    expect(Math.abs(variance / exact - 1)).toBeLessThan(4 * Math.sqrt(4.4 / total));
    expect(ksStatistic(values, (x) => Math.exp(-Math.exp(-x)))).toBeLessThan(ksLimit);
  });

  it('the KS test notices a normal of 3 % more width', () => {
    const values = draw(randomKey(5, 'state'), count(0, n), { distribution: 'truncatedNormal', width, std: 1.03, bound: 4.5 });
    expect(ksStatistic(values, normalCdf)).toBeGreaterThan(ksLimit);
  });

  // Positions of key (0, 0) whose upper 23 bits are all ones and all zeros: the ends of every distribution.
  it.each([
    ['highest', 950104, 0, 1],
    ['lowest', 1498746, 1, -1],
  ] as const)('stays inside its bounds at the %s bits', (_, position, channel, sign) => {
    const at = (options: RandomOptions) => draw([0, 0], [position], options)[channel]!;
    for (let bound = 0.1; bound <= 5; bound += 0.1) {
      const x = at({ distribution: 'truncatedNormal', width: 2, std: 1, bound }) * sign;
      expect(x).toBeLessThanOrEqual(bound * (1 + 2e-6));
      expect(x).toBeGreaterThan(bound * 0.98);
    }
    const u = at({ distribution: 'uniform', width: 2 });
    expect(u).toBe(sign > 0 ? 1 - 2 ** -24 : 2 ** -24);
    const gumbel = at({ distribution: 'gumbel', width: 2 });
    expect(sign > 0 ? gumbel < -2.7 : gumbel > 15).toBe(true);
  });
});

it('the largest of logits + gumbel noise is distributed as softmax (chi-square)', async () => {
  const logits = [2, 0, -1, 1.5, 1.5, -3, 0.5, -0.5];
  const V = logits.length;
  const draws = 100_000;
  const noise = draw(randomKey(11, 'sampling'), count(0, draws), { distribution: 'gumbel', width: V });
  const noisy = device.tensor(
    noise.map((x, i) => x + logits[i % V]!),
    [draws, V],
  );
  const winners = await argmax(noisy).data();
  const observed = new Array<number>(V).fill(0);
  for (const winner of winners) observed[winner]!++;
  const p = device.readSync(reshape(softmax(device.tensor(logits)), [V]));
  const chiSquare = observed.reduce((sum, seen, i) => sum + (seen - draws * p[i]!) ** 2 / (draws * p[i]!), 0);
  // 7 degrees of freedom: 24.3 is exceeded once in 1000.
  expect(chiSquare).toBeLessThan(24.3);
  expect(observed.every((seen) => seen > 0)).toBe(true);
});
