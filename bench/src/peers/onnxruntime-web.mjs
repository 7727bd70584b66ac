import { openOnnx } from './onnxruntime.mjs';

export { kinds } from './onnxruntime.mjs';
export const name = 'onnxruntime-web';
export const packages = ['onnxruntime-web'];
export const webAssembly = true;

export async function open(options) {
  const { default: ort } = await import('onnxruntime-web');
  ort.env.wasm.numThreads = options.threads;
  return openOnnx(ort, options, 'wasm');
}
