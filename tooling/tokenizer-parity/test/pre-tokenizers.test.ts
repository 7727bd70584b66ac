import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { Field } from '../../../packages/tokenizer/src/fields';
import { parseNormalizer } from '../../../packages/tokenizer/src/normalizer';
import { parsePreTokenizer } from '../../../packages/tokenizer/src/pre-tokenizer';
import { type Json, native, tokenizerJson } from './oracle';
import { strings } from './strings';

vi.setConfig({ testTimeout: 60_000 });

const model = { type: 'WordLevel', vocab: { x: 0 }, unk_token: 'x' };
const texts = strings(['--', 'a--b', '__']);
const nativeOf = (parts: Json) => native.Tokenizer.fromString(JSON.stringify(tokenizerJson(model, parts)));

const BEHAVIORS = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'];
const patterns = [
  { String: ' ' },
  { String: '--' },
  { Regex: '\\s+|[aeiou]' },
  { Regex: "(?i:'s|'ll)|\\w+|\\d" },
  { Regex: '\\p{Han}|[^\\s\\w]*' },
];

const preTokenizers: Json[] = [
  ...BEHAVIORS.flatMap((behavior) =>
    patterns.flatMap((pattern) => [false, true].map((invert) => ({ type: 'Split', pattern, behavior, invert }))),
  ),
  ...BEHAVIORS.map((behavior) => ({ type: 'Punctuation', behavior })),
  ...[true, false].map((individual_digits) => ({ type: 'Digits', individual_digits })),
  ...[true, false].flatMap((add_prefix_space) =>
    [true, false].map((use_regex) => ({ type: 'ByteLevel', add_prefix_space, trim_offsets: true, use_regex })),
  ),
  ...['always', 'first', 'never'].flatMap((prepend_scheme) =>
    [true, false].map((split) => ({ type: 'Metaspace', replacement: '▁', prepend_scheme, split })),
  ),
  { type: 'Whitespace' },
  { type: 'WhitespaceSplit' },
  { type: 'BertPreTokenizer' },
  { type: 'CharDelimiterSplit', delimiter: 'e' },
  { type: 'FixedLength', length: 3 },
  {
    type: 'Sequence',
    pretokenizers: [
      { type: 'Digits', individual_digits: true },
      { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: true },
    ],
  },
];

describe('pre-tokenizers cut as the native ones do', () => {
  test.each(preTokenizers.map((config): [string, Json] => [JSON.stringify(config), config]))('%s', (_, config) => {
    const ours = parsePreTokenizer(new Field(config, 'pre_tokenizer'));
    const theirs = nativeOf({ pre_tokenizer: config }).getPreTokenizer();
    fc.assert(
      fc.property(
        texts.filter((text) => text !== ''),
        (text) => {
          const pieces = theirs.preTokenizeString(text).map(([piece]) => piece);
          expect(ours(text, true)).toEqual(pieces);
        },
      ),
      { numRuns: 200, seed: 1 },
    );
  });
});

const normalizers: Json[] = [
  ...['NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase', 'StripAccents', 'ByteLevel'].map((type) => ({ type })),
  ...[true, false].flatMap((strip_left) => [true, false].map((strip_right) => ({ type: 'Strip', strip_left, strip_right }))),
  { type: 'Prepend', prepend: '▁' },
  { type: 'Replace', pattern: { String: 'e' }, content: '$&x' },
  { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' },
  { type: 'Sequence', normalizers: [{ type: 'NFD' }, { type: 'StripAccents' }, { type: 'Lowercase' }] },
  ...[true, false].flatMap((lowercase) =>
    [true, false, null].map((strip_accents) => ({
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents,
      lowercase,
    })),
  ),
];

describe('normalizers change text as the native ones do', () => {
  test.each(normalizers.map((config): [string, Json] => [JSON.stringify(config), config]))('%s', (_, config) => {
    const ours = parseNormalizer(new Field(config, 'normalizer'));
    const theirs = nativeOf({ normalizer: config }).getNormalizer();
    fc.assert(
      fc.property(texts, (text) => {
        expect(ours(text)).toBe(theirs.normalizeString(text));
      }),
      { numRuns: 300, seed: 1 },
    );
  });
});
