import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../scripts/lib/workspace.mjs';

// The benchmarks' own modules that need no peer: what writes files for other libraries, checks results, and says what was reached.
const load = (path: string) => import(/* @vite-ignore */ pathToFileURL(join(ROOT, 'bench', 'src', path)).href);

describe('numbers', () => {
  it('rounds to f16 as the format says, and back', async () => {
    const { toHalf, fromHalf } = await load('numbers.mjs');
    for (const [value, bits] of [
      [1, 0x3c00],
      [-2, 0xc000],
      [65504, 0x7bff],
      [65520, 0x7c00],
      [2 ** -24, 1],
      [2 ** -25, 0],
      [1 + 2 ** -11, 0x3c00],
      [1 + 3 * 2 ** -11, 0x3c02],
    ] as const) {
      expect(toHalf(value), `${value}`).toBe(bits);
    }
    for (let bits = 0; bits < 0x7c00; bits++) expect(toHalf(fromHalf(bits))).toBe(bits);
  });

  it('measures the error of a product, and finds one wrong output', async () => {
    const { productError, uniform } = await load('numbers.mjs');
    const shape = { M: 3, K: 40, N: 5 };
    const [a, b] = [uniform(120, 1), uniform(200, 2)] as [Float32Array, Float32Array];
    const c = Float32Array.from({ length: 15 }, (_, i) => {
      let sum = 0;
      for (let k = 0; k < 40; k++) sum += a[Math.floor(i / 5) * 40 + k]! * b[(i % 5) * 40 + k]!;
      return sum;
    });
    expect(productError(shape, a, b, c)).toBeLessThan(1e-7);
    c[7]! += 0.01;
    expect(productError(shape, a, b, c)).toBeGreaterThan(1e-5);
    expect(productError(shape, a, b, c.subarray(1))).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('formats', () => {
  it('quantises blocks so that ONNX and llama.cpp read back the weights', async () => {
    const { uniform, fromHalf } = await load('numbers.mjs');
    const { quantizeBlocks } = await load('formats/onnx-linear.mjs');
    const { encodeValues } = await load('formats/gguf.mjs');
    const w: Float32Array = uniform(64, 3);
    const most = (read: (i: number) => number) => Math.max(...w.map((value, i) => Math.abs(value - read(i))));
    const q8 = quantizeBlocks(w, 1, 64, 8);
    expect(most((i) => (q8.codes[i] - 128) * q8.scales[i >> 5])).toBeLessThan(0.01);
    const q4 = quantizeBlocks(w, 1, 64, 4);
    expect(most((i) => (((q4.codes[i >> 1] >> (4 * (i & 1))) & 15) - 8) * q4.scales[i >> 5])).toBeLessThan(0.15);
    const bytes: Buffer = encodeValues(w, 'q8_0');
    expect(most((i) => bytes.readInt8((i >> 5) * 34 + 2 + (i & 31)) * fromHalf(bytes.readUInt16LE((i >> 5) * 34)))).toBeLessThan(0.01);
    const nibbles: Buffer = encodeValues(w, 'q4_0');
    const nibble = (i: number) => (nibbles[(i >> 5) * 18 + 2 + (i & 15)]! >> (i & 16 ? 4 : 0)) & 15;
    expect(most((i) => (nibble(i) - 8) * fromHalf(nibbles.readUInt16LE((i >> 5) * 18)))).toBeLessThan(0.15);
  });

  it('writes protobuf integers, floats and nested messages', async () => {
    const { Message, joined } = await load('formats/protobuf.mjs');
    const inner = new Message().integer(1, -1);
    const bytes: Uint8Array = joined(new Message().integer(1, 300).text(2, 'ab').float(3, 1).message(4, inner));
    const ones = new Array<number>(9).fill(255);
    expect([...bytes]).toEqual([8, 0xac, 2, 18, 2, 97, 98, 29, 0, 0, 0x80, 0x3f, 34, 11, 8, ...ones, 1]);
  });
});

describe('command line', () => {
  it('refuses what it does not know', async () => {
    const { parseOptions } = await load('options.mjs');
    expect(parseOptions(['gemm', '--threads', '1', '--peers', 'unroll,jax-js'])).toMatchObject({ groups: ['gemm'], threads: [1] });
    expect(() => parseOptions(['gem'])).toThrow('"gem" is unknown');
    expect(() => parseOptions(['--peers', 'tensorflow'])).toThrow('"tensorflow" is unknown');
    expect(() => parseOptions(['--rounds', '0'])).toThrow('--rounds must be a whole number from 1');
    expect(() => parseOptions(['--fast'])).toThrow("'--fast'");
  });
});

describe('bars', () => {
  const row = (what: string, peer: string, kind: string, median: number) => ({ what, peer, kind, unit: 'GFLOPS', median });
  const gemm = (ours: number) => ({
    group: 'gemm',
    node: '24.21.0',
    threads: 1,
    rows: [
      row('f32-relaxed', 'limit', 'limit', 50),
      row('512 x 512 x 512', 'unroll', 'f32', ours),
      row('512 x 512 x 512', 'tfjs-wasm', 'f32', 30),
      row('512 x 512 x 512', 'onnxruntime-node', 'f32', 100),
    ],
  });

  it('compares with the limit and the best WebAssembly peer of the same run', async () => {
    const { evaluateBars } = await load('bars.mjs');
    const bars = (ours: number) => evaluateBars([gemm(ours)]).slice(0, 2);
    expect(bars(46).map(([, , result]: [string, string, { reached: boolean }]) => result.reached)).toEqual([true, true]);
    expect(bars(44).map(([, , result]: [string, string, { reached: boolean }]) => result.reached)).toEqual([false, false]);
    expect(bars(46)[1][2].text).toBe('1.53 x (tfjs-wasm f32)');
  });

  it('takes the newest Node, and says nothing of what was not measured', async () => {
    const { evaluateBars } = await load('bars.mjs');
    const old = { ...gemm(10), node: '20.20.2' };
    expect(evaluateBars([old, gemm(46)])[0][2].reached).toBe(true);
    const rest = evaluateBars([gemm(46)]).slice(2);
    expect(rest.every(([, , result]: [string, string, { reached?: boolean }]) => result.reached === undefined)).toBe(true);
  });

  it('voids a comparison with a torch on a reference BLAS', async () => {
    const { evaluateBars } = await load('bars.mjs');
    const training = (torchGemm: number) => ({
      group: 'train',
      node: '24.21.0',
      threads: 1,
      rows: [
        row('default batch: training', 'unroll', '2 threads', 50),
        row('default batch: training', 'torch', '1 thread', 100),
        row('default batch: GEMM 1024 of the same library', 'torch', '1 thread', torchGemm),
      ],
    });
    const bar = (torchGemm: number) =>
      evaluateBars([training(torchGemm)]).find(([what]: [string]) => what === "training, the default model's batch")[2];
    expect(bar(90)).toMatchObject({ reached: true });
    expect(bar(5)).toMatchObject({ reached: undefined, text: expect.stringContaining('void') });
  });
});
