import { readFileSync } from 'node:fs';

type Json = Record<string, unknown>;

/** The tokenizer of a model that adds numbers: sixteen tokens, no unknown token. */
export const adder = {
  tokenizer: JSON.parse(readFileSync(new URL('./fixtures/adder-tokenizer.json', import.meta.url), 'utf8')) as Json,
  config: { eos_token: '\n', pad_token: '<|pad|>', clean_up_tokenization_spaces: false, model_max_length: 64 },
  generationConfig: { eos_token_id: 0, pad_token_id: 13 },
};

/** A small vocabulary with byte fallback, in the manner of Llama 2. */
export function withByteFallback(): Json {
  const vocab: Record<string, number> = { '<unk>': 0, '<s>': 1 };
  for (let byte = 0; byte < 256; byte++) vocab[`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`] = byte + 2;
  for (const token of ['▁', 'a', 'b', 'ab', '▁ab']) vocab[token] = Object.keys(vocab).length;
  return {
    added_tokens: [
      { id: 0, content: '<unk>', special: true },
      { id: 1, content: '<s>', special: true },
    ],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: { type: 'BPE', vocab, merges: ['a b', '▁ ab'], unk_token: '<unk>', byte_fallback: true, fuse_unk: true },
  };
}

/** A deep copy with the value at a dotted path replaced, or removed where undefined. */
export function altered(json: unknown, path: string, value: unknown): unknown {
  const copy = structuredClone(json);
  const keys = path.split('.');
  let at = copy as Record<string, unknown>;
  for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>;
  const last = keys.at(-1) as string;
  if (value === undefined) delete at[last];
  else at[last] = value;
  return copy;
}
