import { exp, gelu, log, rsqrt, sigmoid, silu, sqrt, type Tensor, tanh } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, describe, expect, it } from 'vitest';
import { spread, ulpError } from './ulp.js';

const device = createCpuDevice();
afterAll(() => device.dispose());

const sigmoidOf = (x: number) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));
const bitPatterns = spread(2 ** 19);
// Where results are neither 0, 1 nor infinite, and the thresholds of the kernels lie.
const middle = Float32Array.from({ length: 2 ** 19 }, (_, i) => -110 + (i * 220) / 2 ** 19);
const near1 = Float32Array.from({ length: 4001 }, (_, i) => 1 + (i - 2000) * 2 ** -23);

function worst(f: (x: Tensor) => Tensor, exact: (x: number) => number, inputs: Float32Array): { ulp: number; x: number } {
  const x = device.tensor(inputs);
  const y = f(x);
  const values = device.readSync(y);
  let found = { ulp: 0, x: 0 };
  for (let i = 0; i < inputs.length; i++) {
    const ulp = ulpError(values[i]!, exact(inputs[i]!));
    if (!(ulp <= found.ulp)) found = { ulp, x: inputs[i]! };
  }
  x.dispose();
  y.dispose();
  return found;
}

describe('error of the kernels in ulp, over all exponents, subnormals, infinities and NaN', () => {
  // Measured over these inputs: 0.98, 0.75, 1.22, 2.17, 0.50, 1.47.
  it.each([
    ['exp', exp, Math.exp, 1],
    ['log', log, Math.log, 0.8],
    ['tanh', tanh, Math.tanh, 1.25],
    ['sigmoid', sigmoid, sigmoidOf, 2.25],
    ['sqrt', sqrt, Math.sqrt, 0.5],
    ['rsqrt', rsqrt, (x: number) => 1 / Math.sqrt(x), 1.5],
  ] as const)('%s', (_, f, exact, bound) => {
    for (const inputs of [bitPatterns, middle, near1]) {
      const { ulp, x } = worst(f, exact, inputs);
      expect(ulp, `at ${x}`).toBeLessThanOrEqual(bound);
    }
  });

  it('notices an error of 3 ulp', () => {
    const off = (x: number) => Math.exp(x) * (1 + 3 * 2 ** -23);
    expect(worst(exp, off, middle).ulp).toBeGreaterThan(2);
  });

  it('keeps 1e-6 of the size of x in silu and gelu', () => {
    for (const [f, exact] of [
      [silu, (x: number) => x * sigmoidOf(x)],
      [gelu, (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))],
    ] as const) {
      const x = device.tensor(middle);
      const y = device.readSync(f(x));
      const bad = middle.findIndex((value, i) => !(Math.abs(y[i]! - exact(value)) <= 1e-6 * Math.abs(value)));
      expect(bad).toBe(-1);
    }
  });
});

describe('special values', () => {
  const specials = [0, -0, 1, -1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN];
  const subnormal = 2 ** -149;
  it.each([
    ['exp', exp, [1, 1, Math.fround(Math.E), Math.fround(1 / Math.E), Number.POSITIVE_INFINITY, 0, Number.NaN]],
    ['log', log, [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, Number.NaN, Number.POSITIVE_INFINITY, Number.NaN, Number.NaN]],
    ['tanh', tanh, [0, -0, Math.fround(Math.tanh(1)), Math.fround(Math.tanh(-1)), 1, -1, Number.NaN]],
    ['sigmoid', sigmoid, [0.5, 0.5, Math.fround(sigmoidOf(1)), Math.fround(sigmoidOf(-1)), 1, 0, Number.NaN]],
  ] as const)('%s of 0, -0, 1, -1, Infinity, -Infinity, NaN', (_, f, expected) => {
    const y = device.readSync(f(device.tensor(specials)));
    expected.forEach((value, i) => {
      if (Number.isFinite(value) && value !== 0) expect(y[i]).toBeCloseTo(value, 6);
      else expect(y[i]).toBe(value);
    });
  });

  it('exp reaches the smallest subnormal and the largest number, and no further', () => {
    const largest = Math.fround(88.7228);
    const y = device.readSync(exp(device.tensor([-103.97, -103.98, -104.5, -1e30, largest, 88.723, 1e30])));
    expect([...y.slice(0, 4)]).toEqual([subnormal, 0, 0, 0]);
    expect(ulpError(y[4]!, Math.exp(largest))).toBeLessThan(1);
    expect([...y.slice(5)]).toEqual([Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]);
  });

  it('log reads subnormals', () => {
    const y = device.readSync(log(device.tensor([subnormal, 2 ** -127, -subnormal])));
    expect(y[0]).toBeCloseTo(-149 * Math.LN2, 4);
    expect(y[1]).toBeCloseTo(-127 * Math.LN2, 4);
    expect(y[2]).toBeNaN();
  });
});
