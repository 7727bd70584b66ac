// #region load
import { loadEmbedded } from '@unroll/pretrained';

const { config, weights, tokenizer, problems, card } = await loadEmbedded('adder');
console.log(config, tokenizer, `${weights.length} bytes of safetensors`, problems[0], card.split('\n')[0]);

// #endregion load

export { card, config, problems, tokenizer, weights };
