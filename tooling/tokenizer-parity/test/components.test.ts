import { describe, expect, test } from 'vitest';
import { BYTE_TO_CHAR } from '../../../packages/tokenizer/src/bytes';
import { checkStreaming, compare } from './compare';
import * as components from './components';
import type { Json } from './oracle';
import { strings } from './strings';

const texts = strings([
  '<s>',
  '</s>',
  '<unk>',
  '[CLS]',
  '[SEP]',
  '<mask>',
  ' <end>  ',
  '<both>',
  'fox',
  'QUICK',
  'quickest',
  '  ',
  '▁',
  '<0xE9>',
  '你好吗',
  ' 你好吗',
]);

const cases: [string, Json][] = [
  ['Llama 2, with byte fallback', components.llama],
  ['unknown characters, one token each', components.unknowns(false)],
  ['unknown characters, fused', components.unknowns(true)],
  ...['always', 'first', 'never'].flatMap((scheme) =>
    [true, false].flatMap((bytes) =>
      [true, false].map((split): [string, Json] => [
        `Unigram, Metaspace ${scheme}, split ${split}, byte fallback ${bytes}`,
        components.metaspaceUnigram(scheme, bytes, split),
      ]),
    ),
  ),
  ['BERT, uncased', components.bert(true)],
  ['BERT, cased', components.bert(false)],
  ['CLIP, with a word suffix', components.clip],
  ['whole words', components.wordLevel],
  ['added tokens with flags', components.flagged(BYTE_TO_CHAR)],
];

describe.each(cases)('%s', (_, json) => {
  test('encodes and decodes as the native tokenizers do', async () => {
    const { tokens } = await compare(json, texts, 1000);
    expect(tokens).toBeGreaterThan(1000);
  }, 60_000);
  test('streams what it decodes', () => checkStreaming(json, texts, 200), 60_000);
  test('streams what it decodes with the spaces cleaned up', () => checkStreaming(json, texts, 200, true), 60_000);
});
