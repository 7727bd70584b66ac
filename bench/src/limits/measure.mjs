import { Worker } from 'node:worker_threads';
import { kernelBytes, microKernels, opsPerPass } from './kernels.mjs';

const ROUNDS = 12;
// The engine's better compiler takes over during the first rounds.
const WARM = 4;
const STREAM_BYTES = 256 * 2 ** 20;
const PASSES = 20_000;

/** Billions of operations a second (micro-kernels) or gigabytes a second (stream) of all threads together, one number a round. */
export async function measureLimit(name, threads) {
  const bytes = await kernelBytes(name);
  if (!WebAssembly.validate(bytes)) {
    throw new Error(`this engine (Node ${process.versions.node}) has no relaxed SIMD without a flag`);
  }
  const streamBytes = STREAM_BYTES / threads;
  const gate = new SharedArrayBuffer(4);
  const workerData = { bytes, name, threads, rounds: ROUNDS, gate, streamBytes, passes: PASSES };
  const spans = await Promise.all(
    Array.from(
      { length: threads },
      () =>
        new Promise((resolve, reject) => {
          const worker = new Worker(new URL('./thread.mjs', import.meta.url), { workerData });
          worker.once('message', resolve).once('error', reject);
        }),
    ),
  );
  const work = name === 'stream' ? STREAM_BYTES : opsPerPass(name) * PASSES * threads;
  return Array.from({ length: ROUNDS }, (_, round) => {
    const from = Math.min(...spans.map((list) => list[round][0]));
    const to = Math.max(...spans.map((list) => list[round][1]));
    return work / (to - from) / 1e6;
  }).slice(WARM);
}

export const limitNames = [...microKernels, 'stream'];
