import { isQuantized, type WeightFormat } from '../dtype.js';
import type { Generate, Sample, SampleInput } from '../sample.js';

type Size = readonly [rows: number[], K: number, N: number];

// How rows are made and how a matrix is read are parts of shaders that do not meet: not every pair of them is compiled.
const byFormat: Record<WeightFormat, readonly Size[]> = {
  f16: [
    [[1], 132, 16],
    [[20], 40, 24],
  ],
  bf16: [[[3], 68, 48]],
  q8: [
    [[1], 2080, 16],
    [[3], 68, 48],
    [[1, 1], 8, 21],
    [[5], 33, 12],
    [[20], 40, 24],
  ],
  q4: [[[1, 1], 68, 48]],
};

/**
 * Samples of products whose left rows are normed, x (..., K), or x and y with two norms where `sum` is set, and b (N, K) in every weight
 * format. With quantised weights, what is rounded to int8 is a whole number already, so that the last digit of a norm moves no value to
 * its neighbour. `gated` is for products whose columns are multiplied in pairs: an even number of them, and errors that the other factor makes larger.
 */
export function normedSamples(g: Generate, { sum, gated = false }: { readonly sum: boolean; readonly gated?: boolean }) {
  const samples: Sample<{ readonly eps: number }>[] = [];
  const add = (inputs: SampleInput[]) => samples.push({ inputs, attrs: { eps: 1e-6 }, absolute: gated ? 1e-3 : 5e-5, relative: 2e-5 });
  const sizes: Size[] = [
    [[1, 1], 8, 12],
    [[1], 64, 32],
    [[2, 2], 40, 6],
    [[g.int(1, 9)], g.int(1, 20), g.int(1, 20)],
    [[0], 4, 4],
    [[2], 0, 4],
    [[2], 4, 0],
    [[20], 16, 24],
  ];
  const columns = (N: number) => (gated && N % 2 === 1 ? N + 1 : N);
  for (const [rows, K, N] of sizes) {
    const norm = () => g.f32([K], 0.5, 1.5);
    const x = () => g.f32([...rows, K]);
    add([x(), ...(sum ? [x(), norm()] : []), norm(), g.f32([columns(N), K])]);
  }
  for (const [format, weighed] of Object.entries(byFormat)) {
    for (const [rows, K, N] of weighed) {
      const norm = () => (isQuantized(format) ? g.steps(K) : g.f32([K], 0.5, 1.5));
      const x = isQuantized(format) ? g.codes([...rows, K]) : g.f32([...rows, K]);
      const b = g.weight([columns(N), K], format as WeightFormat);
      if (!sum) add([x, norm(), b]);
      else {
        const y = g.i32([...rows, K], -60, 60);
        const rest = x.data.map((v, i) => v - y.data[i]!);
        add([{ ...x, data: rest }, { ...y, dtype: 'f32', data: Float32Array.from(y.data) }, norm(), norm(), b]);
      }
    }
  }
  return samples;
}
