import { BPE, Unigram, WordPiece } from '@huggingface/tokenizers';
import { byteToken, utf8 } from './bytes';
import { TokenizerFormatError } from './errors';
import type { Field } from './fields';

/** The vocabulary and the rule that cuts one piece of text into its tokens. */
export interface Model {
  readonly type: 'BPE' | 'Unigram' | 'WordPiece' | 'WordLevel';
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly unknown: number | undefined;
  /** Appends the ids of the piece; returns the characters that no token expresses, if any (and appends nothing then). */
  tokenize(piece: string, ids: number[]): string | undefined;
}

function parseVocabulary(field: Field): Map<string, number> {
  const vocabulary = new Map<string, number>();
  const owners = new Map<number, string>();
  for (const [token, id] of Object.entries(field.object())) {
    if (!Number.isInteger(id) || (id as number) < 0 || (id as number) >= 2 ** 31) {
      throw new TokenizerFormatError(`${field.path}[${JSON.stringify(token)}]`, `expected an id from 0 to 2^31 - 1, got ${String(id)}`);
    }
    const owner = owners.get(id as number);
    if (owner !== undefined) {
      throw new TokenizerFormatError(field.path, `id ${id} belongs to both ${JSON.stringify(owner)} and ${JSON.stringify(token)}`);
    }
    owners.set(id as number, token);
    vocabulary.set(token, id as number);
  }
  if (vocabulary.size === 0) field.fail('at least one token');
  return vocabulary;
}

/** Merges as pairs, each checked against the vocabulary. Both forms of the file, `"a b"` and `["a", "b"]`, are read. */
function parseMerges(field: Field, vocabulary: ReadonlyMap<string, number>): [string, string][] {
  if (!Array.isArray(field.value)) field.fail('an array');
  return (field.value as unknown[]).map((entry, i) => {
    const pair = typeof entry === 'string' ? entry.split(' ') : entry;
    const path = `${field.path}[${i}]`;
    if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== 'string' || typeof pair[1] !== 'string') {
      throw new TokenizerFormatError(path, `expected "a b" or ["a", "b"], got ${JSON.stringify(entry) ?? 'nothing'}`);
    }
    for (const token of [pair[0], pair[1], pair[0] + pair[1]]) {
      if (!vocabulary.has(token)) throw new TokenizerFormatError(path, `${JSON.stringify(token)} is not in model.vocab`);
    }
    return pair as [string, string];
  });
}

function unknownToken(field: Field, vocabulary: ReadonlyMap<string, number>): { token: string; id: number } | undefined {
  const unknown = field.optional('unk_token');
  if (!unknown) return undefined;
  const token = unknown.string();
  const id = vocabulary.get(token);
  if (id === undefined) throw new TokenizerFormatError(unknown.path, `${JSON.stringify(token)} is not in model.vocab`);
  return { token, id };
}

function refuseUnlessEmpty(field: Field, name: string): void {
  const value = field.optional(name);
  if (value && value.value !== '' && value.value !== 0) throw new TokenizerFormatError(value.path, 'is not supported in a BPE model');
}

// A book has some 20,000 different words; the library's own cache of 10,000 thrashes there.
const CACHED_PIECES = 65_536;
const CACHED_LENGTH = 64;

function bpe(field: Field): Model {
  const vocabulary = parseVocabulary(field.get('vocab'));
  const merges = parseMerges(field.get('merges'), vocabulary);
  // Dropout makes encoding random, and the library beneath knows no prefix: taking either for absent would give wrong ids.
  refuseUnlessEmpty(field, 'dropout');
  refuseUnlessEmpty(field, 'continuing_subword_prefix');
  const unknown = unknownToken(field, vocabulary);
  const suffix = field.optional('end_of_word_suffix')?.string() ?? '';
  const byteFallback = field.optional('byte_fallback')?.boolean() ?? false;
  const ignoreMerges = field.optional('ignore_merges')?.boolean() ?? false;
  const fuse = field.optional('fuse_unk')?.boolean() ?? false;
  const model = new BPE({
    type: 'BPE',
    vocab: Object.fromEntries(vocabulary),
    merges,
    byte_fallback: byteFallback,
    ignore_merges: ignoreMerges,
    ...(unknown ? { unk_token: unknown.token } : {}),
    ...(suffix === '' ? {} : { end_of_word_suffix: suffix }),
  } as ConstructorParameters<typeof BPE>[0]);

  const cache = new Map<string, readonly number[]>();
  const expressible = (symbol: string) =>
    vocabulary.has(symbol) || (byteFallback && Array.from(utf8(symbol), byteToken).every((token) => vocabulary.has(token)));
  const missing = (piece: string): string | undefined => {
    if (ignoreMerges && vocabulary.has(piece)) return undefined;
    let lastStart = 0;
    for (const symbol of piece) {
      lastStart += symbol.length;
      if (!expressible(lastStart === piece.length ? symbol + suffix : symbol)) return symbol;
    }
    return undefined;
  };
  return {
    type: 'BPE',
    vocabulary,
    unknown: unknown?.id,
    tokenize(piece, ids) {
      const known = cache.get(piece);
      if (known) {
        for (const id of known) ids.push(id);
        return undefined;
      }
      // Without an unknown token the library beneath drops what it cannot express, without a word.
      const symbol = unknown ? undefined : missing(piece);
      if (symbol !== undefined) return symbol;
      const out: number[] = [];
      let previous: string | undefined;
      for (const token of model.encode([piece])) {
        if (!(fuse && token === unknown?.token && previous === token)) out.push(vocabulary.get(token) as number);
        previous = token;
      }
      if (piece.length <= CACHED_LENGTH) {
        if (cache.size >= CACHED_PIECES) cache.clear();
        cache.set(piece, out);
      }
      for (const id of out) ids.push(id);
      return undefined;
    },
  };
}

function wordPiece(field: Field): Model {
  const vocabulary = parseVocabulary(field.get('vocab'));
  const unknown = unknownToken(field, vocabulary) ?? field.get('unk_token').fail('a token of model.vocab');
  const model = new WordPiece({
    type: 'WordPiece',
    vocab: Object.fromEntries(vocabulary),
    unk_token: unknown.token,
    continuing_subword_prefix: field.optional('continuing_subword_prefix')?.string() ?? '##',
    max_input_chars_per_word: field.optional('max_input_chars_per_word')?.count() ?? 100,
  } as ConstructorParameters<typeof WordPiece>[0]);
  return {
    type: 'WordPiece',
    vocabulary,
    unknown: unknown.id,
    tokenize(piece, ids) {
      for (const token of model.encode([piece])) ids.push(vocabulary.get(token) as number);
      return undefined;
    },
  };
}

function wordLevel(field: Field): Model {
  const vocabulary = parseVocabulary(field.get('vocab'));
  const unknown = unknownToken(field, vocabulary)?.id;
  return {
    type: 'WordLevel',
    vocabulary,
    unknown,
    tokenize(piece, ids) {
      const id = vocabulary.get(piece) ?? unknown;
      if (id === undefined) return piece;
      ids.push(id);
      return undefined;
    },
  };
}

function unigram(field: Field): Model {
  const scored = field
    .get('vocab')
    .items()
    .map((entry): [string, number] => {
      const [token, score] = entry.items();
      return token && score ? [token.string(), score.number()] : entry.fail('[token, score]');
    });
  if (scored.length === 0) field.get('vocab').fail('at least one token');
  const vocabulary = new Map(scored.map(([token], id) => [token, id]));
  if (vocabulary.size !== scored.length) field.get('vocab').fail('each token once');
  const unknown = field.optional('unk_id')?.count();
  if (unknown !== undefined && unknown >= scored.length) field.get('unk_id').fail(`an id below ${scored.length}`);
  const byteFallback = field.optional('byte_fallback')?.boolean() ?? false;
  const model = new Unigram({ type: 'Unigram', vocab: scored, unk_id: unknown } as unknown as ConstructorParameters<typeof Unigram>[0], '');

  return {
    type: 'Unigram',
    vocabulary,
    unknown,
    tokenize(piece, ids) {
      // Unknown neighbours are one unknown; the unknown token's own spelling in a text is as unknown as the rest.
      const parts: string[] = [];
      let afterUnknown = false;
      for (const token of model.encode([piece])) {
        const isUnknown = (vocabulary.get(token) ?? unknown) === unknown;
        if (isUnknown && afterUnknown) parts[parts.length - 1] += token;
        else parts.push(token);
        afterUnknown = isUnknown;
      }
      const out: number[] = [];
      for (const token of parts) {
        const id = vocabulary.get(token);
        const bytes = id === undefined && byteFallback ? Array.from(utf8(token), (byte) => vocabulary.get(byteToken(byte))) : [id];
        if (bytes.every((byte) => byte !== undefined)) out.push(...(bytes as number[]));
        else if (unknown !== undefined) out.push(unknown);
        else return token;
      }
      for (const id of out) ids.push(id);
      return undefined;
    },
  };
}

function typeOf(field: Field): string {
  const named = field.optional('type');
  if (named) return named.string();
  // Files from before the types were written down.
  if (Array.isArray(field.get('vocab').value)) return 'Unigram';
  if (field.optional('merges')) return 'BPE';
  return field.optional('continuing_subword_prefix') ? 'WordPiece' : 'WordLevel';
}

/** @throws TokenizerFormatError naming the field that is missing, malformed or not supported */
export function parseModel(field: Field): Model {
  const type = typeOf(field);
  switch (type) {
    case 'BPE':
      return bpe(field);
    case 'WordPiece':
      return wordPiece(field);
    case 'WordLevel':
      return wordLevel(field);
    case 'Unigram':
      return unigram(field);
    default:
      throw new TokenizerFormatError(
        `${field.path}.type`,
        `model "${type}" is not supported; known are BPE, Unigram, WordLevel, WordPiece`,
      );
  }
}
