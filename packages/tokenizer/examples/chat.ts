// #region chat
import { parseTokenizer, trainByteLevelBPE } from '@unroll/tokenizer';
import { applyChatTemplate, HUGINN_CHAT_TEMPLATE } from '@unroll/tokenizer/chat';

const specialTokens = ['<|begin_text|>', '<|end_text|>', '<|begin_header|>', '<|end_header|>', '<|end_turn|>'];
const tokenizer = parseTokenizer({
  tokenizer: trainByteLevelBPE(['What is 2 + 3?'], { vocabSize: 261, specialTokens }),
  config: { bos_token: '<|begin_text|>', eos_token: '<|end_text|>', chat_template: HUGINN_CHAT_TEMPLATE },
});
const messages = [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'What is 2 + 3?' },
];
const prompt = applyChatTemplate(tokenizer, messages, { addGenerationPrompt: true });
const tokens = tokenizer.encode(prompt, { addSpecialTokens: false }); // the template has written them
console.log(prompt, tokens.length);
// #endregion
