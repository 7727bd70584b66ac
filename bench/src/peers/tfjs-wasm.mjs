import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { transposed } from '../numbers.mjs';

export const name = 'tfjs-wasm';
export const packages = ['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-wasm', '@tensorflow/tfjs-backend-cpu'];
export const webAssembly = true;
export const kinds = { gemm: ['f32'], decoder: ['f32'] };

export async function open({ threads }) {
  const require = createRequire(import.meta.url);
  const tf = await import('@tensorflow/tfjs-core');
  const wasm = await import('@tensorflow/tfjs-backend-wasm');
  wasm.setWasmPaths(`${dirname(require.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
  if (threads > 1) (await import('./tfjs-threads.mjs')).allowThreads(tf, threads);
  wasm.setThreadsCount(threads);
  if (!(await tf.setBackend('wasm'))) throw new Error('its wasm backend did not start');
  await tf.ready();
  if (wasm.getThreadsCount() !== threads) throw new Error(`it runs ${wasm.getThreadsCount()} threads where ${threads} were asked for`);
  return {
    gemm({ M, K, N }, a, b) {
      const x = tf.tensor2d(a, [M, K]);
      // Its best layout, (K, N): with a transposed operand it leaves XNNPACK for a plain loop, 20 times slower.
      const y = tf.tensor2d(transposed(b, N, K), [K, N]);
      return {
        run: () => tf.matMul(x, y).dispose(),
        result: async () => {
          const c = tf.matMul(x, y);
          const data = await c.data();
          c.dispose();
          return data;
        },
        close: () => tf.dispose([x, y]),
      };
    },
    decoder: async (options) => (await import('../models/tfjs-decoder.mjs')).openTfjsDecoder(tf, options),
    close: () => {},
  };
}
