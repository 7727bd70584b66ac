// The embedded default model as a decoder, at its mean depth.
import { bytesSource, openSafetensors } from '../../../packages/checkpoint/dist/index.js';
import { embeddedNames, loadEmbedded } from '../../../packages/pretrained/dist/index.js';
import { loadRecurrentModel } from '../../../packages/recurrent/dist/index.js';
import { generate } from '../../../packages/sampler/dist/index.js';

export async function openEmbedded(device) {
  const { config, weights } = await loadEmbedded(embeddedNames[0]);
  const model = await loadRecurrentModel({ device, config, weights: await openSafetensors(bytesSource(weights)) });
  return {
    async run(prompt, count) {
      const tokens = [];
      const started = performance.now();
      let first = 0;
      for await (const { token } of generate({ model, prompt, maxNewTokens: count, stopTokens: [] })) {
        if (tokens.length === 0) first = performance.now();
        tokens.push(token);
      }
      return { tokens, prefillMs: first - started, decodeMs: performance.now() - first };
    },
    close: () => model.dispose(),
  };
}
