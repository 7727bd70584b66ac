import { exp, gelu, log, reciprocal, rsqrt, sigmoid, silu, sqrt, type Tensor, tanh } from '@unroll/tensor';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { measureBuiltins } from '../scripts/builtins.mjs';
import { vulkanDevice } from './support/dawn.js';
import { ulpError } from './ulp.js';

let device: WebGPUDevice;
beforeAll(async () => {
  device = await vulkanDevice();
});
afterAll(() => device.dispose());

const sigmoidOf = (x: number) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x)));
const even = (low: number, high: number, n = 100_000) => Float32Array.from({ length: n }, (_, i) => low + ((high - low) * (i + 0.5)) / n);

async function worst(f: (x: Tensor) => Tensor, exact: (x: number) => number, inputs: Float32Array): Promise<{ ulp: number; x: number }> {
  const x = device.tensor(inputs);
  const y = f(x);
  const values = await y.data();
  let found = { ulp: 0, x: 0 };
  for (let i = 0; i < inputs.length; i++) {
    const ulp = ulpError(values[i]!, exact(inputs[i]!));
    if (!(ulp <= found.ulp)) found = { ulp, x: inputs[i]! };
  }
  x.dispose();
  y.dispose();
  return found;
}

describe('error on the adapter in ulp', () => {
  // Measured on SwiftShader 5.0.0 and lavapipe 25.0.7: exp 0.94 and 1.23, log 0.76 and 0.76, tanh 1.17 and 1.27, sigmoid 1.98 and 2.29,
  // sqrt 0.5, rsqrt 1.47, 1 / x 0.5. WGSL promises 2.5 for 1 / x and 2 for inverseSqrt on any adapter; exp, log and tanh are polynomials
  // of our own, which differ between adapters by contraction only.
  it.each([
    ['exp', exp, Math.exp, even(-87, 88), 2.5],
    ['log', log, Math.log, even(1e-6, 100), 2.5],
    ['log near 1', log, Math.log, even(0.9, 1.1), 2.5],
    ['tanh', tanh, Math.tanh, even(-12, 12), 2.5],
    ['tanh near 0', tanh, Math.tanh, even(-0.01, 0.01), 2.5],
    ['sigmoid', sigmoid, sigmoidOf, even(-80, 80), 5],
    ['sqrt', sqrt, Math.sqrt, even(0, 100), 2.5],
    ['rsqrt', rsqrt, (x: number) => 1 / Math.sqrt(x), even(1e-3, 100), 2.5],
    ['1 / x', reciprocal, (x: number) => 1 / x, even(0.01, 100), 2.5],
  ] as const)('%s', async (_, f, exact, inputs, bound) => {
    const { ulp, x } = await worst(f, exact, inputs);
    expect(ulp, `at ${x}`).toBeLessThanOrEqual(bound);
  });

  it('is of a kind that a wrong formula would exceed', async () => {
    expect((await worst(exp, (x) => Math.exp(x) * (1 + 2 ** -20), even(-5, 5))).ulp).toBeGreaterThan(2.5);
  });
});

describe('functions of the shading language', () => {
  // What `node packages/tensor/scripts/builtins.mjs` prints of each adapter is in docs/webgpu.md. These bounds are what kernels rest on:
  // inverseSqrt and division are used as they are, and exp, sin and others are not, since the language promises no more than this.
  it('are as accurate as the kernels take them to be', async () => {
    const measured = await measureBuiltins(device.gpuDevice);
    const bounds: Record<string, number> = {
      inverseSqrt: 2.5,
      sqrt: 2.5,
      '3 / x': 2.5,
      exp: 3e-5,
      sin: 2 ** -11,
      cos: 2 ** -11,
      log: 2 ** -20,
    };
    for (const { name, range, error } of measured) {
      if (name !== 'tanh') expect(error, `${name} from ${range[0]} to ${range[1]}`).toBeLessThanOrEqual(bounds[name]!);
      // Exact to the last bit, it was not computed on the device in f32.
      expect(error, name).toBeGreaterThan(0);
    }
    expect(new Set(measured.map(({ name }) => name))).toEqual(new Set([...Object.keys(bounds), 'tanh']));
  });
});

describe('values at which drivers go wrong', () => {
  const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
  const special = Float32Array.of(0, -0, 80, -80, 200, -200, inf, -inf, nan);

  it.each([
    // SwiftShader's tanh(80) is NaN, its log(0) -88, its log(-1) 0.
    ['tanh', tanh, [0, -0, 1, -1, 1, -1, 1, -1, nan]],
    ['gelu', gelu, [0, -0, 80, -0, 200, -0, inf, nan, nan]],
    ['silu', silu, [0, -0, 80, -80 * Math.exp(-80), 200, -200 * Math.exp(-200), inf, nan, nan]],
    ['log', log, [-inf, -inf, Math.log(80), nan, Math.log(200), nan, inf, nan, nan]],
    ['exp', exp, [1, 1, Math.exp(80), Math.exp(-80), inf, 0, inf, 0, nan]],
  ] as const)('%s', async (name, f, expected) => {
    const x = device.tensor(special);
    const y = f(x);
    const values = await y.data();
    for (const [i, value] of expected.entries()) {
      const got = values[i]!;
      const at = `${name}(${special[i]})`;
      if (Number.isNaN(value)) {
        // -Infinity times 0 is NaN by IEEE; a driver may take it for 0, and the sign of nothing is nobody's.
        if (special[i] !== -inf || name === 'log') expect(got, at).toBeNaN();
      } else if (Number.isFinite(value)) {
        expect(Math.abs(got - value), at).toBeLessThanOrEqual(1e-30 + 1e-6 * Math.abs(value));
      } else {
        expect(got, at).toBe(value);
      }
    }
    x.dispose();
    y.dispose();
  });
});
