import { CONTEXT } from '../models/shapes.mjs';

export const name = 'node-llama-cpp';
export const packages = ['node-llama-cpp'];
export const webAssembly = false;
// No way leads from JavaScript to a single product of its kernels.
export const kinds = { gemm: [], decoder: ['f32', 'q8', 'q4'] };

export async function open({ threads }) {
  const { getLlama, LlamaLogLevel } = await import('node-llama-cpp');
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: LlamaLogLevel.disabled, maxThreads: threads });
  return {
    async decoder({ model, kind }) {
      const { ggufFile } = await import('../models/gguf-decoder.mjs');
      const loaded = await llama.loadModel({ modelPath: await ggufFile(model, kind) });
      const context = await loaded.createContext({ contextSize: CONTEXT, threads, sequences: 1, batchSize: CONTEXT, flashAttention: true });
      const sequence = context.getSequence();
      return {
        async run(prompt, count) {
          await sequence.clearHistory();
          const tokens = [];
          const started = performance.now();
          let first = 0;
          for await (const token of sequence.evaluate(prompt, { temperature: 0 })) {
            if (tokens.length === 0) first = performance.now();
            tokens.push(token);
            if (tokens.length === count) break;
          }
          return { tokens, prefillMs: first - started, decodeMs: performance.now() - first };
        },
        close: () => loaded.dispose(),
      };
    },
    close: () => llama.dispose(),
  };
}
