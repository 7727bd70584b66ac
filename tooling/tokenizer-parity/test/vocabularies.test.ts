import { parseTokenizer } from '@unroll/tokenizer';
import { applyChatTemplate } from '@unroll/tokenizer/chat';
import { describe, expect, test } from 'vitest';
import { checkStreaming, compare } from './compare';
import { gpt2, qwen3 } from './oracle';
import { strings } from './strings';

const MINUTE = 60_000;

describe('GPT-2', () => {
  test(
    'encodes and decodes 10,000 generated strings as the native tokenizers do',
    async () => {
      const { tokens } = await compare(gpt2(), strings(['<|endoftext|>']), 10_000);
      expect(tokens).toBeGreaterThan(100_000);
    },
    3 * MINUTE,
  );

  test('streams what it decodes', () => checkStreaming(gpt2(), strings(['<|endoftext|>']), 500), MINUTE);
  test('streams what it decodes with the spaces cleaned up', () => checkStreaming(gpt2(), strings(['<|endoftext|>']), 500, true), MINUTE);

  test(
    'gives the ids that everybody knows',
    () => {
      const tokenizer = parseTokenizer({ tokenizer: gpt2() });
      expect(tokenizer.encode('Hello world')).toEqual([15496, 995]);
      expect(tokenizer.encode('<|endoftext|>')).toEqual([50256]);
      expect(tokenizer.encode('<|endoftext|>', { allowSpecial: false }).length).toBeGreaterThan(1);
      expect(tokenizer.vocabularySize).toBe(50257);
    },
    MINUTE,
  );
});

describe('Qwen3', () => {
  const lookAlikes = ['<|im_start|>', '<|im_end|>', '<|endoftext|>', '<think>', '</tool_call>'];

  test(
    'encodes and decodes 10,000 generated strings as the native tokenizers do',
    async () => {
      const { tokens } = await compare(qwen3().tokenizer, strings(lookAlikes), 10_000);
      expect(tokens).toBeGreaterThan(100_000);
    },
    3 * MINUTE,
  );

  test('streams what it decodes', () => checkStreaming(qwen3().tokenizer, strings(lookAlikes), 500), MINUTE);

  test(
    'reads its configuration and renders its chat template',
    () => {
      const tokenizer = parseTokenizer(qwen3());
      expect(tokenizer.specialTokens).toEqual({ eos: 151645, pad: 151643 });
      expect(tokenizer.stopTokens).toEqual([151645]);
      expect(tokenizer.modelMaxLength).toBe(131072);
      const messages = [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Hello!' },
        { role: 'user', content: 'Add 1 and 2.' },
      ];
      const prompt = applyChatTemplate(tokenizer, messages, { addGenerationPrompt: true, variables: { enable_thinking: false } });
      expect(prompt).toBe(
        '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n' +
          '<|im_start|>user\nAdd 1 and 2.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n',
      );
      const tools = [{ type: 'function', function: { name: 'add', parameters: { type: 'object' } } }];
      const withTools = applyChatTemplate(tokenizer, messages, { tools });
      expect(withTools).toContain('<tools>\n{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}\n</tools>');
    },
    MINUTE,
  );
});
