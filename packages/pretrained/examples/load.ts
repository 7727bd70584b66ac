// #region load
import { loadEmbedded } from '@unroll/pretrained';

const { config, weights, tokenizer, problems, card } = await loadEmbedded('adder');

// #endregion load
export { card, config, problems, tokenizer, weights };
