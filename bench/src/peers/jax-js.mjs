import { transposed } from '../numbers.mjs';
import { provideWorkers } from './node-worker.mjs';

export const name = 'jax-js';
export const packages = ['@jax-js/jax'];
export const webAssembly = true;
export const kinds = { gemm: ['f32'], decoder: ['f32'] };
// It uses relaxed SIMD where the engine has it, which Node 20 has behind this flag.
export const nodeFlags = (major) => (major < 22 ? ['--experimental-wasm-relaxed-simd'] : []);

export async function open({ threads }) {
  if (threads > 1) provideWorkers(threads);
  const jax = await import('@jax-js/jax');
  const { numpy: np } = jax;
  await jax.init('wasm');
  jax.defaultDevice('wasm');
  return {
    jax,
    gemm({ M, K, N }, a, b) {
      const x = np.array(a).reshape([M, K]);
      const y = np.array(transposed(b, N, K)).reshape([K, N]);
      const product = jax.jit((p, q) => np.matmul(p, q));
      return {
        run: async () => {
          const c = product(x.ref, y.ref);
          await jax.blockUntilReady(c.ref);
          c.dispose();
        },
        result: () => product(x.ref, y.ref).data(),
        close: () => [x, y].forEach((one) => void one.dispose()),
      };
    },
    decoder: async (options) => (await import('../models/jax-decoder.mjs')).openJaxDecoder(jax, options),
    close: () => {},
  };
}
