// Our CPU kernels beside a peer's, in turns in one process: `npm run bench` at the root. One JSON object a row on stdout, a table on stderr.

import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import { createCpuDevice } from '../packages/tensor/dist/cpu.js';
import { matmul } from '../packages/tensor/dist/index.js';

const require = createRequire(import.meta.url);
const rounds = 7;

/** Shapes of C (M, N) = A (M, K) . B (N, K)^T: squares, a prefill, a decode. */
const shapes = [
  { name: 'gemm 512', M: 512, K: 512, N: 512 },
  { name: 'gemm 1024', M: 1024, K: 1024, N: 1024 },
  { name: 'prefill 128 x 1024 x 4096', M: 128, K: 1024, N: 4096 },
  { name: 'gemv 4096 x 4096', M: 1, K: 4096, N: 4096 },
];

const values = (n, seed) => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 12.9898 + seed));
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

function ours({ M, K, N }) {
  const device = createCpuDevice();
  const a = device.tensor(values(M * K, 1), [M, K]);
  const b = device.tensor(values(N * K, 2), [N, K], { memory: 'weights' });
  return {
    run: () => matmul(a, b, { transposeB: true }).dispose(),
    result: async () => {
      const c = matmul(a, b, { transposeB: true });
      const data = await c.data();
      c.dispose();
      return data;
    },
    close: () => device.dispose(),
  };
}

/** tfjs with its WebAssembly SIMD backend on one thread; null with the reason on stderr where it does not start. */
async function loadTfjs() {
  try {
    const tf = await import('@tensorflow/tfjs-core');
    const wasm = await import('@tensorflow/tfjs-backend-wasm');
    wasm.setWasmPaths(`${dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
    wasm.setThreadsCount(1);
    if (!(await tf.setBackend('wasm'))) throw new Error('its wasm backend did not start');
    return tf;
  } catch (error) {
    console.error(`tfjs-wasm could not be used: ${error.message}`);
    return null;
  }
}

// Given its best layout, (K, N): with a transposed operand it leaves XNNPACK for a plain loop, 20 times slower.
function theirs(tf, { M, K, N }) {
  const a = tf.tensor2d(values(M * K, 1), [M, K]);
  const rows = values(N * K, 2);
  const b = tf.tensor2d(
    Float32Array.from({ length: N * K }, (_, i) => rows[(i % N) * K + Math.floor(i / N)]),
    [K, N],
  );
  return {
    run: () => tf.matMul(a, b).dispose(),
    result: async () => {
      const c = tf.matMul(a, b);
      const data = await c.data();
      c.dispose();
      return data;
    },
    close: () => tf.dispose([a, b]),
  };
}

/** Milliseconds of one run, averaged over as many as fill about 150 ms. */
function time({ run }, count) {
  const started = performance.now();
  for (let i = 0; i < count; i++) run();
  return (performance.now() - started) / count;
}

const tf = await loadTfjs();
console.error(
  `node ${process.versions.node}, ${cpus()[0]?.model ?? 'unknown processor'}, one thread, ${rounds} rounds in turns, medians (min to max)`,
);
for (const shape of shapes) {
  const sides = { unroll: ours(shape), ...(tf === null ? {} : { 'tfjs-wasm': theirs(tf, shape) }) };
  const counts = {};
  for (const [name, side] of Object.entries(sides)) {
    side.run();
    counts[name] = Math.max(1, Math.round(150 / time(side, 1)));
  }
  if (tf !== null) {
    const [x, y] = [await sides.unroll.result(), await sides['tfjs-wasm'].result()];
    const worst = x.reduce((most, v, i) => Math.max(most, Math.abs(v - y[i])), 0);
    if (!(worst < 1e-2)) throw new Error(`${shape.name}: the two results differ by ${worst}`);
  }
  const times = Object.fromEntries(Object.keys(sides).map((name) => [name, []]));
  for (let round = 0; round < rounds; round++) for (const [name, side] of Object.entries(sides)) times[name].push(time(side, counts[name]));
  const flops = 2 * shape.M * shape.K * shape.N;
  const row = { shape: shape.name };
  for (const [name, list] of Object.entries(times)) {
    const gflops = list.map((ms) => flops / ms / 1e6);
    row[name] = { gflops: median(gflops), min: Math.min(...gflops), max: Math.max(...gflops) };
    if (shape.M === 1) row[name].gigabytesPerSecond = (median(gflops) / 2) * 4;
  }
  if (row['tfjs-wasm'] !== undefined) row.ratio = row.unroll.gflops / row['tfjs-wasm'].gflops;
  console.log(JSON.stringify(row));
  const show = ({ gflops, min, max }) => `${gflops.toFixed(1)} GFLOPS (${min.toFixed(1)} to ${max.toFixed(1)})`;
  console.error(
    Object.entries(row)
      .filter(([, v]) => typeof v === 'object')
      .map(([name, v]) => `${shape.name}: ${name} ${show(v)}`)
      .join('; ') + (row.ratio ? `; ratio ${row.ratio.toFixed(2)}` : ''),
  );
  for (const side of Object.values(sides)) side.close();
}
