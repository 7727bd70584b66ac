import { createCpuDevice } from '../../../packages/tensor/dist/cpu.js';
import { matmul } from '../../../packages/tensor/dist/index.js';

export const name = 'unroll';
export const packages = [];
export const webAssembly = true;
export const kinds = { gemm: ['f32', 'q8', 'q4'], decoder: ['f32', 'q8', 'q4'], train: true };

export async function open({ threads }) {
  const device = createCpuDevice({ threads });
  return {
    device,
    gemm({ M, K, N, kind }, a, b) {
      const x = device.tensor(a, [M, K]);
      const y = device.tensor(b, [N, K], { memory: 'weights', dtype: kind });
      return {
        run: () => matmul(x, y, { transposeB: true }).dispose(),
        result: async () => {
          const c = matmul(x, y, { transposeB: true });
          const data = await c.data();
          c.dispose();
          return data;
        },
        close: () => [x, y].forEach((one) => void one.dispose()),
      };
    },
    // Modules apart from the weights that they load.
    prepare: () => import('../models/unroll-decoder.mjs'),
    decoder: async (options) => (await import('../models/unroll-decoder.mjs')).openUnrollDecoder(device, options),
    close: () => device.dispose(),
  };
}
