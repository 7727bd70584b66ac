import { parseTokenizer, trainByteLevelBPE } from '@unroll/tokenizer';
import { describe, expect, test } from 'vitest';

const texts = ['low lower lowest\n', 'low low newer new new wider\n', '\n', '\n', '  aaaa aaaa aaa\n'];
type Model = { vocab: Record<string, number>; merges: [string, string][] };
const modelOf = (json: Record<string, unknown>) => json.model as Model;

describe('trainByteLevelBPE', () => {
  test('learns the most frequent pair first, of equals the one with the smaller ids', () => {
    // What the native trainer learns from this text (tooling/tokenizer-parity compares on real ones).
    const expected =
      'a a|l o|lo w|e r|e w|n ew|Ġ aa|Ġ low|Ġ new|Ġaa aa|d er|e s|i der|w ider|Ġ wider|Ġaa a|Ġlow er|Ġlow es|Ġnew er|Ġlowes t';
    const json = trainByteLevelBPE(texts, { vocabSize: 1000, minFrequency: 0, alphabet: 'seen' });
    expect(
      modelOf(json)
        .merges.map((pair) => pair.join(' '))
        .join('|'),
    ).toBe(expected);
    expect(Object.keys(modelOf(json).vocab)).toHaveLength(33);
  });

  test('stops at the vocabulary size and at the frequency', () => {
    expect(modelOf(trainByteLevelBPE(texts, { vocabSize: 260, minFrequency: 0 })).merges).toHaveLength(4);
    expect(modelOf(trainByteLevelBPE(texts, { vocabSize: 1000, minFrequency: 4 })).merges).toEqual([
      ['a', 'a'],
      ['l', 'o'],
      ['lo', 'w'],
    ]);
    expect(modelOf(trainByteLevelBPE([], { vocabSize: 1000 })).merges).toEqual([]);
  });

  test('gives special tokens the first ids, and a file that reads back', () => {
    const json = trainByteLevelBPE(texts, { vocabSize: 270, specialTokens: ['<|end|>', '<|pad|>'] });
    const tokenizer = parseTokenizer({ tokenizer: JSON.parse(JSON.stringify(json)) });
    expect(tokenizer.encode('<|pad|>low<|end|>')).toEqual([1, tokenizer.idOf('low'), 0]);
    expect([...tokenizer.specialIds]).toEqual([0, 1]);
    const anything = 'Größe 😀 \u0000\n\t low';
    expect(tokenizer.decode(tokenizer.encode(anything))).toBe(anything);
  });

  test('gives a merge that spells a special token the id of that token', () => {
    const { vocab, merges } = modelOf(trainByteLevelBPE(texts, { vocabSize: 262, minFrequency: 0, specialTokens: ['low'] }));
    expect(merges.slice(0, 3)).toEqual([
      ['a', 'a'],
      ['l', 'o'],
      ['lo', 'w'],
    ]);
    expect(vocab.low).toBe(0);
    // The reused id does not count towards the size.
    expect(merges).toHaveLength(6);
    expect(Object.values(vocab).sort((a, b) => a - b)).toEqual(Array.from({ length: 262 }, (_, id) => id));
  });

  test('cuts by a pattern of the caller', () => {
    const json = trainByteLevelBPE(['12 12 12 ab ab ab'], { vocabSize: 300, pattern: '\\d|\\s|[a-z]+' });
    expect(modelOf(json).merges).toEqual([['a', 'b']]);
    expect(parseTokenizer({ tokenizer: json }).encode('12')).toHaveLength(2);
  });

  test('with only the characters seen, refuses others', () => {
    const tokenizer = parseTokenizer({ tokenizer: trainByteLevelBPE(['1+1=2\n'], { vocabSize: 5, alphabet: 'seen' }) });
    expect(tokenizer.vocabularySize).toBe(5);
    expect(() => tokenizer.encode('1+3')).toThrow(/"3" \(U\+0033\) at index 2/);
  });

  test.each<[object, RegExp]>([
    [{ vocabSize: 255 }, /vocabSize must be an integer from 256/],
    [{ vocabSize: 257, specialTokens: ['a1', 'b1'] }, /from 258/],
    [{ vocabSize: 300, minFrequency: -1 }, /minFrequency/],
    [{ vocabSize: 300, specialTokens: ['a', 'a'] }, /specialTokens must be different/],
    [{ vocabSize: 300, alphabet: 'utf8' }, /alphabet must be 'bytes' or 'seen', got "utf8"/],
    [{ vocabSize: 300, vocab_size: 1 }, /unknown option "vocab_size"/],
    [{ vocabSize: 300, pattern: '(' }, /pattern.*regular expression/],
    [{ vocabSize: 3, alphabet: 'seen' }, /vocabSize 3 is less than the/],
  ])('refuses %j', (options, message) => {
    expect(() => trainByteLevelBPE(texts, options as never)).toThrow(message);
  });
});
