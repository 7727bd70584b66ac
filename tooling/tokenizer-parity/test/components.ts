import { addedToken, bpeModel, type Json, tokenizerJson } from './oracle';

const BYTES = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
const number = (tokens: readonly string[]): Record<string, number> =>
  Object.fromEntries([...new Set(tokens)].map((token, id) => [token, id]));
const LETTERS = [...'abcdefghijklmnopqrstuvwxyzTWI.,!?\'"0123456789éü你好ΣσςП'];

/** A BPE vocabulary of the given characters with merges towards the given words, left to right. */
function grow(base: readonly string[], words: readonly string[]): { vocab: Record<string, number>; merges: [string, string][] } {
  const tokens = [...base];
  const merges: [string, string][] = [];
  for (const word of words) {
    const chars = [...word];
    for (let n = 1; n < chars.length; n++) {
      const pair: [string, string] = [chars.slice(0, n).join(''), chars[n] as string];
      if (tokens.includes(pair.join(''))) continue;
      tokens.push(pair.join(''));
      merges.push(pair);
    }
  }
  return { vocab: number(tokens), merges };
}

const llamaVocab = grow(['<unk>', '<s>', '</s>', ...BYTES, '▁', ...LETTERS], ['▁the', '▁quick', '▁▁▁', 'fox', 'ing', "n't", '你好']);

/** Llama 2: byte fallback, a space put in front, and taken away again in decoding. */
export const llama = tokenizerJson(
  bpeModel(llamaVocab.vocab, llamaVocab.merges, { unk_token: '<unk>', fuse_unk: true, byte_fallback: true }),
  {
    added_tokens: [
      addedToken(0, '<unk>', { special: true }),
      addedToken(1, '<s>', { special: true }),
      addedToken(2, '</s>', { special: true }),
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
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
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
  },
);

/** Unknown characters without byte fallback: one unknown token each, or one for a run. */
export const unknowns = (fuse: boolean) => {
  const { vocab, merges } = grow(['<unk>', ...LETTERS, ' '], ['the', 'fox']);
  return tokenizerJson(bpeModel(vocab, merges, { unk_token: '<unk>', fuse_unk: fuse }), {
    pre_tokenizer: { type: 'WhitespaceSplit' },
    decoder: { type: 'Fuse' },
  });
};

export const metaspaceUnigram = (scheme: string, byteFallback: boolean, split: boolean): Json => {
  const pieces = [
    '<unk>',
    ...(byteFallback ? BYTES : []),
    '▁',
    ...LETTERS,
    '▁the',
    'the',
    '▁qu',
    'quick',
    'ick',
    '▁▁',
    'fox',
    'ox',
    '你好',
  ];
  const vocab = [...new Set(pieces)].map((piece, i) => [piece, piece === '<unk>' ? 0 : -1 - ((i * 37) % 101) / 13]);
  return tokenizerJson(
    { type: 'Unigram', unk_id: 0, vocab, byte_fallback: byteFallback },
    {
      added_tokens: [addedToken(vocab.length, '<s>', { special: true })],
      pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: scheme, split },
      decoder: byteFallback
        ? { type: 'Sequence', decoders: [{ type: 'ByteFallback' }, { type: 'Metaspace', replacement: '▁', prepend_scheme: scheme, split }] }
        : { type: 'Metaspace', replacement: '▁', prepend_scheme: scheme, split },
    },
  );
};

export const bert = (lowercase: boolean): Json => {
  const words = [
    '[UNK]',
    '[CLS]',
    '[SEP]',
    ...LETTERS,
    ...LETTERS.map((letter) => `##${letter}`),
    'the',
    'quick',
    '##ing',
    'fox',
    'do',
    '##n',
    'straße',
  ];
  const vocab = number(words);
  return tokenizerJson(
    { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 20, vocab },
    {
      added_tokens: [
        addedToken(0, '[UNK]', { special: true }),
        addedToken(1, '[CLS]', { special: true }),
        addedToken(2, '[SEP]', { special: true }),
      ],
      normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      post_processor: { type: 'BertProcessing', sep: ['[SEP]', 2], cls: ['[CLS]', 1] },
      decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    },
  );
};

/** CLIP: a suffix marks the end of a word. */
export const clip = (() => {
  const { vocab, merges } = grow(['<unk>', ...LETTERS, ...LETTERS.map((letter) => `${letter}</w>`)], []);
  for (const [a, b] of [
    ['t', 'h'],
    ['th', 'e</w>'],
    ['f', 'o'],
    ['fo', 'x</w>'],
  ] as const) {
    merges.push([a, b]);
    vocab[a + b] = Object.keys(vocab).length;
  }
  return tokenizerJson(bpeModel(vocab, merges, { unk_token: '<unk>', end_of_word_suffix: '</w>' }), {
    normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }, { type: 'Lowercase' }] },
    pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Whitespace' }, { type: 'Digits', individual_digits: true }] },
    decoder: { type: 'BPEDecoder', suffix: '</w>' },
  });
})();

/** Whole words, joined by spaces for want of a decoder. */
export const wordLevel = tokenizerJson(
  { type: 'WordLevel', vocab: number(['[UNK]', 'the', 'fox', '!', "don't", '你好']), unk_token: '[UNK]' },
  {
    pre_tokenizer: { type: 'WhitespaceSplit' },
  },
);

/** Added tokens with every flag, over a byte-level vocabulary and a normalizer that lowercases. */
export const flagged = (alphabet: readonly string[]): Json =>
  tokenizerJson(bpeModel(number(alphabet), []), {
    added_tokens: [
      addedToken(256, '<s>', { special: true }),
      addedToken(257, '<mask>', { special: true, lstrip: true }),
      addedToken(258, '<end>', { special: true, rstrip: true }),
      addedToken(259, '<both>', { lstrip: true, rstrip: true }),
      addedToken(260, 'fox', { single_word: true }),
      addedToken(261, 'quick', { normalized: true }),
      addedToken(262, 'quickest', { normalized: true, single_word: true }),
      addedToken(263, '<s><s>', { special: true }),
      addedToken(264, '  ', {}),
      addedToken(265, '你好吗', { normalized: true, lstrip: true }),
    ].map((token, i) => ({ ...token, id: 256 + i })),
    normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }, { type: 'Lowercase' }] },
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
  });
