export const title = 'Size';
export const about =
  'Installed: the packages with all that npm brings along on this platform (for unroll, the six libraries that run a model, as packed). Fetched: what a page loads to run on the CPU.';
/** Other work on the machine changes nothing. */
export const timed = false;
export const threads = [1];

const wasm = '@tensorflow/tfjs-backend-wasm';
const items = {
  unroll: {
    own: ['tensor', 'nn', 'recurrent', 'sampler', 'tokenizer', 'checkpoint'],
    page: {
      code: `export { generate } from '../../packages/sampler/dist/index.js';
        export { loadRecurrentModel } from '../../packages/recurrent/dist/index.js';
        export { openCheckpoint } from '../../packages/checkpoint/dist/index.js';
        export { parseTokenizer } from '../../packages/tokenizer/dist/index.js';
        export { createCpuDevice } from '../../packages/tensor/dist/cpu.js';`,
    },
  },
  'onnxruntime-node': { install: ['onnxruntime-node'] },
  'onnxruntime-web': {
    install: ['onnxruntime-web'],
    page: { code: `export * from 'onnxruntime-web/wasm';`, files: [['onnxruntime-web', 'dist/ort-wasm-simd-threaded.wasm']] },
  },
  'tfjs-wasm': {
    install: ['@tensorflow/tfjs-core', wasm],
    page: { code: `export * from '@tensorflow/tfjs-core'; export * from '${wasm}';`, files: [[wasm, 'dist/tfjs-backend-wasm-simd.wasm']] },
  },
  'jax-js': { install: ['@jax-js/jax'], page: { code: `export * from '@jax-js/jax';` } },
  'node-llama-cpp': { install: ['node-llama-cpp'] },
};

export const jobs = (peers) =>
  peers
    .filter((peer) => items[peer] !== undefined)
    .map((peer) => ({ peer, threads: 1, open: false, items: [{ task: 'size', kind: '', ...items[peer] }] }));
