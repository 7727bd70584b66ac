import { BYTE_TO_CHAR } from './bytes';
import { TokenizerOptionError } from './errors';
import { Field } from './fields';
import { MergeHeap } from './merge-heap';
import { checkBoolean, describe, refuseUnknown } from './options';
import { parsePreTokenizer } from './pre-tokenizer';

export interface TrainOptions {
  /** Tokens in all: special tokens, alphabet and merges. Training stops before where nothing is left to merge. */
  vocabSize: number;
  /** Pairs seen fewer times are not merged. Default 2. */
  minFrequency?: number;
  /** Get the first ids, in order. Default none. */
  specialTokens?: readonly string[];
  /**
   * `bytes` (default): all 256 bytes, so that any text can be encoded. `seen`: only those of the texts, for tiny vocabularies; other
   * text is then refused with UnencodableTextError.
   */
  alphabet?: 'bytes' | 'seen';
  /** Treat the beginning of a text as the beginning of a word. Default false. */
  addPrefixSpace?: boolean;
  /** Regular expression (Oniguruma dialect) that cuts text into pieces, which merges do not cross. Default: that of GPT-2. */
  pattern?: string;
}

interface Words {
  /** Token ids of each distinct piece, merged as training goes. */
  symbols: number[][];
  /** How often the piece occurs. */
  counts: number[];
}

/** Merges a pair wherever it stands in the word and reports how the counts of the pairs around change. */
function mergeInWord(
  symbols: number[],
  first: number,
  second: number,
  merged: number,
  change: (a: number, b: number, by: number) => void,
): void {
  for (let i = 0; i + 1 < symbols.length; i++) {
    if (symbols[i] !== first || symbols[i + 1] !== second) continue;
    if (i > 0) {
      const before = symbols[i - 1] as number;
      change(before, first, -1);
      change(before, merged, 1);
    }
    symbols.splice(i, 2, merged);
    if (i + 1 < symbols.length) {
      const after = symbols[i + 1] as number;
      change(second, after, -1);
      change(merged, after, 1);
    }
  }
}

const PAIR_BASE = 2 ** 26;
const pairKey = (a: number, b: number): number => a * PAIR_BASE + b;

/** The loop of the `tokenizers` BPE trainer: most frequent pair first, of equals the one with the smaller ids. */
function learnMerges(
  words: Words,
  tokens: string[],
  ids: Map<string, number>,
  vocabSize: number,
  minFrequency: number,
): [string, string][] {
  const counts = new Map<number, number>();
  let places = new Map<number, Set<number>>();
  const add = (a: number, b: number, by: number, word: number) => {
    const key = pairKey(a, b);
    counts.set(key, (counts.get(key) ?? 0) + by);
    if (by <= 0) return;
    const at = places.get(key);
    if (at) at.add(word);
    else places.set(key, new Set([word]));
  };
  words.symbols.forEach((symbols, word) => {
    for (let i = 0; i + 1 < symbols.length; i++) add(symbols[i] as number, symbols[i + 1] as number, words.counts[word] as number, word);
  });
  const heap = new MergeHeap();
  const enqueue = () => {
    for (const [key, at] of places) {
      const count = counts.get(key) as number;
      if (count > 0) heap.push({ count, key, at });
    }
    places = new Map();
  };
  enqueue();

  // Of a pair merged twice (its token reused) the later rank stands, as in the reference.
  const ranks = new Map<number, number>();
  let rank = 0;
  while (ids.size < vocabSize) {
    const top = heap.pop();
    if (!top) break;
    const count = counts.get(top.key) as number;
    if (count !== top.count) {
      top.count = count;
      heap.push(top);
      continue;
    }
    if (count < 1 || count < minFrequency) break;
    const first = Math.floor(top.key / PAIR_BASE);
    const second = top.key % PAIR_BASE;
    const text = (tokens[first] as string) + (tokens[second] as string);
    let merged = ids.get(text);
    if (merged === undefined) {
      merged = tokens.length;
      tokens.push(text);
      ids.set(text, merged);
    }
    ranks.set(top.key, rank++);
    for (const word of top.at) {
      const weight = words.counts[word] as number;
      mergeInWord(words.symbols[word] as number[], first, second, merged, (a, b, by) => add(a, b, by * weight, word));
    }
    enqueue();
  }
  return [...ranks]
    .sort((x, y) => x[1] - y[1])
    .map(([key]): [string, string] => [tokens[Math.floor(key / PAIR_BASE)] as string, tokens[key % PAIR_BASE] as string]);
}

function checkOptions(options: TrainOptions): void {
  refuseUnknown('trainByteLevelBPE', options, ['vocabSize', 'minFrequency', 'specialTokens', 'alphabet', 'addPrefixSpace', 'pattern']);
  const { vocabSize, minFrequency = 2, specialTokens = [], alphabet = 'bytes', pattern } = options;
  const fail = (name: string, expected: string, value: unknown): never => {
    throw new TokenizerOptionError(`trainByteLevelBPE: ${name} must be ${expected}, got ${describe(value)}`);
  };
  if (alphabet !== 'bytes' && alphabet !== 'seen') fail('alphabet', "'bytes' or 'seen'", alphabet);
  const least = specialTokens.length + (alphabet === 'bytes' ? 256 : 1);
  if (!Number.isInteger(vocabSize) || vocabSize < least || vocabSize >= PAIR_BASE) {
    fail('vocabSize', `an integer from ${least} (special tokens and alphabet) to 2^26 - 1`, vocabSize);
  }
  if (!Number.isInteger(minFrequency) || minFrequency < 0) fail('minFrequency', 'an integer of 0 or more', minFrequency);
  if (specialTokens.some((token) => typeof token !== 'string' || token === '') || new Set(specialTokens).size !== specialTokens.length) {
    fail('specialTokens', 'different, non-empty strings', specialTokens);
  }
  if (pattern !== undefined && typeof pattern !== 'string') fail('pattern', 'a string', pattern);
  checkBoolean('trainByteLevelBPE', 'addPrefixSpace', options.addPrefixSpace);
}

/**
 * Trains a byte-level BPE vocabulary and returns the content of a tokenizer.json, for `parseTokenizer` and for any library that reads
 * such files. The merges are those of the trainer of the `tokenizers` library on the same texts.
 *
 * @param texts - each is cut into pieces on its own, so merges do not cross from one to the next; read once, not kept
 */
export function trainByteLevelBPE(texts: Iterable<string>, options: TrainOptions): Record<string, unknown> {
  checkOptions(options);
  const { vocabSize, minFrequency = 2, specialTokens = [], alphabet = 'bytes', addPrefixSpace = false, pattern } = options;
  const byteLevel = { type: 'ByteLevel', add_prefix_space: addPrefixSpace, trim_offsets: true, use_regex: pattern === undefined };
  const split = { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
  const preTokenizer = pattern === undefined ? byteLevel : { type: 'Sequence', pretokenizers: [split, byteLevel] };
  const cut = parsePreTokenizer(new Field(preTokenizer, 'trainByteLevelBPE: pattern'));

  const pieces = new Map<string, number>();
  for (const text of texts) {
    if (typeof text !== 'string') throw new TokenizerOptionError(`trainByteLevelBPE: texts must be strings, got ${describe(text)}`);
    for (const piece of cut(text, true)) pieces.set(piece, (pieces.get(piece) ?? 0) + 1);
  }

  const letters = new Set(alphabet === 'bytes' ? BYTE_TO_CHAR : []);
  for (const piece of pieces.keys()) for (const letter of piece) letters.add(letter);
  const tokens: string[] = [];
  const ids = new Map<string, number>();
  // Code point order: it decides between pairs of equal count.
  for (const token of [...specialTokens, ...[...letters].sort()]) {
    if (!ids.has(token)) {
      ids.set(token, tokens.length);
      tokens.push(token);
    }
  }
  if (ids.size > vocabSize) {
    throw new TokenizerOptionError(
      `trainByteLevelBPE: vocabSize ${vocabSize} is less than the ${ids.size} special tokens and bytes of the texts`,
    );
  }
  const words: Words = { symbols: [], counts: [] };
  for (const [piece, count] of pieces) {
    words.symbols.push(Array.from(piece, (letter) => ids.get(letter) as number));
    words.counts.push(count);
  }
  const merges = learnMerges(words, tokens, ids, vocabSize, minFrequency);
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: preTokenizer,
    post_processor: { type: 'ByteLevel', add_prefix_space: addPrefixSpace, trim_offsets: true, use_regex: true },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}
