import type { Device } from '../device.js';
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
    const values = await output.data();
    for (const tensor of [...inputs, output]) tensor.dispose();
    for (let i = 0; i < values.length; i++) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += a[Math.floor(i / N) * K + k]! * b[(i % N) * K + k]!;
      if (values[i] !== sum) return `the self-test of [${M},${K}] x [${N},${K}] gave ${values[i]} for ${sum} at ${i}`;
    }
  }
  return undefined;
}
