import { bytesSource, openSafetensors } from '@unroll/checkpoint';
import { loadEmbedded } from '@unroll/pretrained';
import { loadRecurrentModel } from '@unroll/recurrent';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { parseTokenizer } from '@unroll/tokenizer';

const device = createCpuDevice();
const files = await loadEmbedded('adder');
const tokenizer = parseTokenizer({ tokenizer: files.tokenizer, config: files.tokenizerConfig, generationConfig: files.generationConfig });
const model = await loadRecurrentModel({ device, config: files.config, weights: await openSafetensors(bytesSource(files.weights)) });

// #region strategies
import { type CommonOptions, collect, generate, kl, latentDiff } from '@unroll/sampler';

const strategies: Record<string, Partial<CommonOptions>> = {
  plain: { recurrences: 16 },
  'adaptive, by latent': { recurrences: 16, exit: latentDiff({ threshold: 0.03 }) },
  'adaptive, by output': { recurrences: 16, exit: kl({ threshold: 5e-4 }), warmStart: 'state' },
  speculative: { recurrences: 16, speculative: { draftRecurrences: 2, lookahead: 4 } },
  wavefront: { recurrences: 16, wavefront: { innerRecurrences: 2, stateNoise: 0 } },
};
const answers: string[] = [];
for (const [name, strategy] of Object.entries(strategies)) {
  const { text, report } = await collect(generate({ model, tokenizer, prompt: '731+94=', ...strategy }));
  answers.push(text);
  console.log(name, text, { corePasses: report?.corePasses, meanRecurrences: report?.meanRecurrences, slots: report?.cache.slots });
}
// #endregion

model.dispose();
device.dispose();

export { answers, device };
