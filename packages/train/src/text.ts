import { OptionError } from '@unroll/tensor';

const padding = '<|pad|>';
// The newline ends an answer. Their places are their token ids: an order that models were trained with, so characters are only ever added.
const tokens: readonly string[] = [...'\n0123456789+=#:@*%.', padding, '&'];
const characters = tokens.filter((token) => token !== padding).join('');

/** Tokens of the character text that the tasks share. */
export const vocabularySize = 24;
export const endToken = 0;
export const padToken = tokens.indexOf(padding);

/** Throws OptionError for a character that the tasks do not use. */
export function encodeText(text: string): number[] {
  return Array.from(text, (character) => {
    const token = tokens.indexOf(character);
    if (token < 0)
      throw new OptionError(`encodeText: the tasks have no character ${JSON.stringify(character)}; they use ${JSON.stringify(characters)}`);
    return token;
  });
}

/** `tokenizer.json` and the small files beside it, for a checkpoint that other programs can read. */
export function tokenizerFiles(contextLength: number): Readonly<Record<string, unknown>> {
  const unused = Array.from({ length: vocabularySize - tokens.length }, (_, i) => `<|unused${tokens.length - padToken - 1 + i}|>`);
  const special = [...tokens, ...unused].flatMap((content, id) => (content.length === 1 ? [] : [{ id, content }]));
  const added = special.map(({ id, content }) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false };
  const model = {
    type: 'BPE',
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    // The byte alphabet of GPT-2 writes the newline as Ċ.
    vocab: Object.fromEntries(Array.from(characters, (character) => [character === '\n' ? 'Ċ' : character, tokens.indexOf(character)])),
    merges: [],
  };
  return {
    'tokenizer.json': {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: null,
      pre_tokenizer: byteLevel,
      post_processor: null,
      decoder: byteLevel,
      model,
    },
    'tokenizer_config.json': {
      tokenizer_class: 'PreTrainedTokenizerFast',
      pad_token: padding,
      eos_token: '\n',
      clean_up_tokenization_spaces: false,
      model_max_length: contextLength,
    },
    'generation_config.json': { eos_token_id: endToken, pad_token_id: padToken, do_sample: false, max_new_tokens: 12 },
  };
}
