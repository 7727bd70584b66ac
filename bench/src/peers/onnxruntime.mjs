// What onnxruntime-node and onnxruntime-web have in common.
import { gemmModel } from '../formats/onnx-gemm.mjs';

/** What the two packages run: `q8` and `q4` are MatMulNBits with blocks of 32, `dynq8` is DynamicQuantizeLinear with MatMulInteger. */
export const kinds = { gemm: ['f32', 'q8', 'q4', 'dynq8'], decoder: ['f32', 'q8', 'q4', 'dynq8'] };

export async function openOnnx(ort, { threads }, provider) {
  const session = (model) =>
    ort.InferenceSession.create(model, {
      executionProviders: [provider],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
    });
  return {
    ort,
    async gemm({ M, K, N, kind, constantB }, a, b) {
      const model = await session(gemmModel({ M, K, N, kind, constantB }, b));
      const feeds = { a: new ort.Tensor('float32', a, [M, K]) };
      if (!constantB && kind === 'f32') feeds.b = new ort.Tensor('float32', (await import('../numbers.mjs')).transposed(b, N, K), [K, N]);
      return {
        run: () => model.run(feeds),
        result: async () => (await model.run(feeds)).c.data,
        close: () => model.release(),
      };
    },
    decoder: async (options) =>
      (await import('../models/onnx-decoder.mjs')).openOnnxDecoder(ort, session, { ...options, fromBytes: provider === 'wasm' }),
    close: () => {},
  };
}
