import { openOnnx } from './onnxruntime.mjs';

export { kinds } from './onnxruntime.mjs';
export const name = 'onnxruntime-node';
export const packages = ['onnxruntime-node'];
export const webAssembly = false;

export async function open(options) {
  const { default: ort } = await import('onnxruntime-node');
  return openOnnx(ort, options, 'cpu');
}
