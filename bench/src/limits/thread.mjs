// One thread of a limit: measures rounds of fixed work, all threads beginning together.
import { parentPort, workerData } from 'node:worker_threads';

const { bytes, name, threads, rounds, gate, streamBytes, passes } = workerData;
const pages = name === 'stream' ? Math.ceil(streamBytes / 65536) + 1 : 2;
const memory = new WebAssembly.Memory({ initial: pages });
new Float32Array(memory.buffer).fill(1e-3);
const { run } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: { memory } }).exports;
const work = name === 'stream' ? () => run(0, streamBytes) : () => run(0, 16384, passes);

const arrived = new Int32Array(gate);
const spans = [];
for (let round = 0; round < rounds; round++) {
  Atomics.add(arrived, 0, 1);
  while (Atomics.load(arrived, 0) < threads * (round + 1));
  const from = performance.timeOrigin + performance.now();
  work();
  spans.push([from, performance.timeOrigin + performance.now()]);
}
parentPort.postMessage(spans);
