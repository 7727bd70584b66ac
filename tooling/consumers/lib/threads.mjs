import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ISOLATION_HEADERS } from '../../scripts/chromium.mjs';

/** Paths that begin so are served without isolation. */
const PLAIN = '/plain';
/** Paths that begin so are served under a policy that allows no script from a string, as a blob or as data. */
const STRICT = '/strict';
const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'";
const WORKER = '/unroll-worker.js';

/** @param {string} path @returns {{ headers: Record<string, string>, file: string }} */
export function headersOf(path) {
  if (path.startsWith(PLAIN)) return { headers: {}, file: path.slice(PLAIN.length) };
  if (!path.startsWith(STRICT)) return { headers: ISOLATION_HEADERS, file: path };
  return { headers: { ...ISOLATION_HEADERS, 'Content-Security-Policy': POLICY }, file: path.slice(STRICT.length) };
}

const PROGRAM = `import { matmul } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';

const worker = new URLSearchParams(location.search).get('worker');
const device = createCpuDevice({ threads: 2, ...(worker === null ? {} : { workerUrl: new URL(worker, location.href) }) });
const expected = crossOriginIsolated ? /SIMD, 2 threads$/ : /SIMD, 1 thread, as the page is not cross-origin isolated$/;
const x = device.tensor(new Float32Array(512 * 512).fill(0.5), [512, 512]);
for (let i = 0; i < 2000 && crossOriginIsolated && device.jobs.ready() === 0; i++) {
  if (i < 2) matmul(x, x).dispose();
  await new Promise((resolve) => setTimeout(resolve, 10));
}
if (crossOriginIsolated && device.jobs.ready() !== 1) throw new Error('no worker came: ' + device.description);
if (!expected.test(device.description)) throw new Error('it says: ' + device.description);
if ((await matmul(x, x).data()).some((value) => value !== 128)) throw new Error('the product is wrong');
console.log(device.description);
device.dispose();
`;

const NODE_PROGRAM = `import { matmul } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';

const device = createCpuDevice({ threads: 3, ...(process.argv[2] === undefined ? {} : { workerUrl: new URL(import.meta.resolve(process.argv[2])) }) });
const x = device.zeros([512, 512]);
for (let i = 0; i < 2000 && device.jobs.ready() < 2; i++) {
  if (i < 2) matmul(x, x).dispose();
  await new Promise((resolve) => setTimeout(resolve, 10));
}
if (device.jobs.ready() !== 2) throw new Error('no workers came: ' + device.description);
console.log(device.description);
`;

/** Writes a program that leaves its workers running and must end by itself; its argument names the worker's script. @param {string} consumer */
export function threadsInNode(consumer) {
  mkdirSync(join(consumer, 'run'), { recursive: true });
  writeFileSync(join(consumer, 'run', 'threads-node.js'), NODE_PROGRAM);
  return 'run/threads-node.js';
}

/**
 * A page that computes on two threads, and the ways to open it besides the plain one.
 *
 * @param {string} consumer
 */
export function threadPages(consumer) {
  mkdirSync(join(consumer, 'out'), { recursive: true });
  writeFileSync(join(consumer, 'run', 'threads.js'), PROGRAM);
  copyFileSync(join(consumer, 'node_modules', '@unroll', 'tensor', 'dist', 'worker.js'), join(consumer, 'out', WORKER));
  return {
    page: { name: 'threads', file: 'run/threads.js' },
    variants: [
      { name: 'under a strict content security policy', prefix: STRICT, query: `?worker=${WORKER}` },
      { name: 'without isolation', prefix: PLAIN, query: '' },
    ],
  };
}
