import type { Device } from '../device.js';
import { RangeOpError } from '../errors.js';
import { matmul } from '../ops/matmul.js';

/** Runs the subgroup kernels on whole numbers, whose sums are exact; what is wrong with them, or undefined. */
export async function selfTestSubgroups(device: Device): Promise<string | undefined> {
  for (const [M, K, N] of [
    [1, 1036, 7],
    [3, 64, 5],
  ] as const) {
    const a = Float32Array.from({ length: M * K }, (_, i) => (i % 7) - 3);
    const b = Float32Array.from({ length: N * K }, (_, i) => (i % 5) - 2);
    const inputs = [device.tensor(a, [M, K]), device.tensor(b, [N, K])] as const;
    const output = matmul(...inputs, { transposeB: true });
    let values: Float32Array;
    try {
      values = (await output.data()) as Float32Array;
    } catch (error) {
      // A product has no site of faults: a record that holds one was not written by the kernels, as on a driver that computes nothing.
      if (!(error instanceof RangeOpError)) throw error;
      return `the self-test of [${M},${K}] x [${N},${K}] ended with: ${error.message}`;
    } finally {
      for (const tensor of [...inputs, output]) tensor.dispose();
    }
    for (let i = 0; i < values.length; i++) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += a[Math.floor(i / N) * K + k]! * b[(i % N) * K + k]!;
      if (values[i] !== sum) return `the self-test of [${M},${K}] x [${N},${K}] gave ${values[i]} for ${sum} at ${i}`;
    }
  }
  return undefined;
}
