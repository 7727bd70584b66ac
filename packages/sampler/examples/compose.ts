// #region compose
import { bytesSource, openSafetensors } from '@unroll/checkpoint';
import { loadEmbedded } from '@unroll/pretrained';
import { loadRecurrentModel } from '@unroll/recurrent';
import { generate } from '@unroll/sampler';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { parseTokenizer } from '@unroll/tokenizer';

const device = createCpuDevice();
const { config, tokenizer: json, tokenizerConfig, generationConfig, weights } = await loadEmbedded('adder');
const tokenizer = parseTokenizer({ tokenizer: json, config: tokenizerConfig, generationConfig });
const model = await loadRecurrentModel({ device, config, weights: await openSafetensors(bytesSource(weights)) });
let answer = '';
for await (const { text } of generate({ model, tokenizer, prompt: '731+94=', recurrences: 8 })) answer += text;
console.log(answer);
model.dispose();
device.dispose();

// #endregion

export { answer, device };
