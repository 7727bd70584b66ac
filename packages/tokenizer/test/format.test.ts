import { parseTokenizer, TokenizerFormatError } from '@unroll/tokenizer';
import { describe, expect, test } from 'vitest';
import { adder, altered, withByteFallback } from './files';

function complaint(files: Parameters<typeof parseTokenizer>[0]): TokenizerFormatError {
  try {
    parseTokenizer(files);
  } catch (error) {
    if (error instanceof TokenizerFormatError) return error;
    throw error;
  }
  throw new Error('expected a TokenizerFormatError');
}

const many = { type: 'Sequence', normalizers: [{ type: 'NFC' }, { type: 'Nmt' }] };
const pad = { id: 13, content: '<|pad|>', special: true };
const replaceLate = { type: 'Sequence', decoders: [{ type: 'Fuse' }, { type: 'Replace', pattern: { Regex: 'a' }, content: '' }] };

describe('malformed or unsupported files are refused by field', () => {
  test.each<[string, unknown, string]>([
    ['model', undefined, 'tokenizer.json.model'],
    ['model', [], 'tokenizer.json.model'],
    ['model.type', 'Magic', 'tokenizer.json.model.type'],
    ['model.vocab', undefined, 'tokenizer.json.model.vocab'],
    ['model.vocab', {}, 'tokenizer.json.model.vocab'],
    ['model.vocab.0', -1, 'tokenizer.json.model.vocab["0"]'],
    ['model.vocab.0', '3', 'tokenizer.json.model.vocab["0"]'],
    ['model.vocab.0', 5, 'tokenizer.json.model.vocab'],
    ['model.merges', undefined, 'tokenizer.json.model.merges'],
    ['model.merges', [['1', '2']], 'tokenizer.json.model.merges[0]'],
    ['model.merges', ['1'], 'tokenizer.json.model.merges[0]'],
    ['model.merges', [7], 'tokenizer.json.model.merges[0]'],
    ['model.unk_token', '<unk>', 'tokenizer.json.model.unk_token'],
    ['model.dropout', 0.1, 'tokenizer.json.model.dropout'],
    ['model.continuing_subword_prefix', '##', 'tokenizer.json.model.continuing_subword_prefix'],
    ['model.byte_fallback', 'yes', 'tokenizer.json.model.byte_fallback'],
    ['added_tokens', {}, 'tokenizer.json.added_tokens'],
    ['added_tokens', [{ content: 'x' }], 'tokenizer.json.added_tokens[0].id'],
    ['added_tokens', [{ id: 13, content: '' }], 'tokenizer.json.added_tokens[0].content'],
    ['added_tokens', [{ id: 3, content: 'x' }], 'tokenizer.json.added_tokens[0]'],
    ['added_tokens', [{ id: 20, content: '0' }], 'tokenizer.json.added_tokens[0]'],
    ['added_tokens', [pad, pad], 'tokenizer.json.added_tokens[1]'],
    ['added_tokens', [{ ...pad, special: 1 }], 'tokenizer.json.added_tokens[0].special'],
    ['normalizer', { type: 'Precompiled', precompiled_charsmap: '' }, 'tokenizer.json.normalizer.type'],
    ['normalizer', many, 'tokenizer.json.normalizer.normalizers[1].type'],
    ['normalizer', 'NFC', 'tokenizer.json.normalizer'],
    ['pre_tokenizer', { type: 'UnicodeScripts' }, 'tokenizer.json.pre_tokenizer.type'],
    ['pre_tokenizer', { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated' }, 'tokenizer.json.pre_tokenizer.pattern.Regex'],
    ['pre_tokenizer', { type: 'Split', pattern: {}, behavior: 'Isolated' }, 'tokenizer.json.pre_tokenizer.pattern'],
    ['pre_tokenizer', { type: 'Split', pattern: { String: 'a' }, behavior: 'Shuffled' }, 'tokenizer.json.pre_tokenizer.behavior'],
    ['pre_tokenizer', { type: 'FixedLength', length: 0 }, 'tokenizer.json.pre_tokenizer.length'],
    ['post_processor', { type: 'Magic' }, 'tokenizer.json.post_processor.type'],
    ['post_processor', { type: 'BertProcessing', sep: ['a', 99], cls: ['b', 1] }, 'tokenizer.json.post_processor'],
    ['post_processor', { type: 'TemplateProcessing', single: [] }, 'tokenizer.json.post_processor.single'],
    ['decoder', { type: 'CTC' }, 'tokenizer.json.decoder.type'],
    ['decoder', replaceLate, 'tokenizer.json.decoder.decoders[1]'],
  ])('%s = %j', (path, value, field) => {
    const error = complaint({ tokenizer: altered(adder.tokenizer, path, value) });
    expect(error.field).toBe(field);
    expect(error.message.startsWith(`${field}: `)).toBe(true);
  });

  test.each<[string, Partial<Parameters<typeof parseTokenizer>[0]>, string]>([
    ['no file', { tokenizer: undefined }, 'tokenizer.json'],
    ['text', { tokenizer: '{}' }, 'tokenizer.json'],
    ['a special token that does not exist', { config: { bos_token: '<s>' } }, 'tokenizer_config.json.bos_token'],
    ['a special token that is a number', { config: { bos_token: { content: 3 } } }, 'tokenizer_config.json.bos_token.content'],
    ['a length that is a text', { config: { model_max_length: 'long' } }, 'tokenizer_config.json.model_max_length'],
    ['a template without a name', { config: { chat_template: [{ template: '' }] } }, 'tokenizer_config.json.chat_template[0].name'],
    ['stop tokens that are texts', { generationConfig: { eos_token_id: ['</s>'] } }, 'generation_config.json.eos_token_id[0]'],
    ['a config that is a list', { config: [] }, 'tokenizer_config.json'],
  ])('%s', (_, files, field) => {
    expect(complaint({ ...adder, ...files }).field).toBe(field);
  });

  test('a length of 1e30 means none', () => {
    expect(parseTokenizer({ ...adder, config: { model_max_length: 1e30 } })).not.toHaveProperty('modelMaxLength');
  });

  test('a token called __proto__ is a token', () => {
    const json = JSON.parse(
      '{"model":{"type":"WordLevel","vocab":{"__proto__":0,"constructor":1}},"pre_tokenizer":{"type":"WhitespaceSplit"}}',
    );
    const tokenizer = parseTokenizer({ tokenizer: json });
    expect(tokenizer.encode('constructor __proto__')).toEqual([1, 0]);
    expect(() => tokenizer.encode('toString')).toThrow('"t" (U+0074)');
  });

  test('the files given are not changed', () => {
    const json = withByteFallback();
    const before = structuredClone(json);
    parseTokenizer({ tokenizer: json }).encode('ab é');
    expect(json).toEqual(before);
  });
});
