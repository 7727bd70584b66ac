// Ids from the end of the vocabulary, as huginn-0125 has them with 65536: 65504 begin_text, 65505 end_text, 65508 end_turn, 65509 pad.
const SPECIAL = 32;
const named = ['begin_text', 'end_text', 'begin_header', 'end_header', 'end_turn', 'pad'];
// Every id has a text: a model with random weights may choose any.
const special = Object.fromEntries(Array.from({ length: SPECIAL }, (_, at) => [named[at] ?? `reserved_${at}`, at]));

/** The printable characters that byte-level BPE writes bytes as. */
function byteCharacters(): string[] {
  const printable = (b: number) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCodePoint(printable(b) ? b : next++));
}

/**
 * tokenizer.json, tokenizer_config.json and generation_config.json of a byte-level BPE that fills a vocabulary: the 256 bytes, then pairs
 * of bytes, then the special tokens of huginn-0125. Nothing where the vocabulary has no room for the bytes.
 */
export function byteLevelTokenizer(vocabulary: number): Record<string, unknown> {
  const plain = vocabulary - SPECIAL;
  if (plain < 256) return {};
  const bytes = byteCharacters();
  const vocab: Record<string, number> = {};
  bytes.forEach((character, b) => {
    vocab[character] = b;
  });
  const merges: string[] = [];
  for (let n = 0; n < Math.min(plain - 256, 65536); n++) {
    const [a, b] = [bytes[n >> 8]!, bytes[n & 255]!];
    merges.push(`${a} ${b}`);
    vocab[a + b] = 256 + n;
  }
  const tokens = Object.entries(special).map(([name, at]) => ({ id: plain + at, content: `<|${name}|>` }));
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: tokens.map((token) => ({ ...token, ...flags })),
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        vocab,
        merges,
      },
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      bos_token: '<|begin_text|>',
      eos_token: '<|end_text|>',
      pad_token: '<|pad|>',
    },
    'generation_config.json': { bos_token_id: plain, eos_token_id: [plain, plain + 1, plain + 4], pad_token_id: plain + 5 },
  };
}
