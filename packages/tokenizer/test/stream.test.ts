import { cleanUpSpaces, parseTokenizer, trainByteLevelBPE } from '@unroll/tokenizer';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { settledLength } from '../src/cleanup';
import { withByteFallback } from './files';

const bytes = parseTokenizer({ tokenizer: trainByteLevelBPE(['the cat sat'], { vocabSize: 258, minFrequency: 1 }) });
const fallback = parseTokenizer({ tokenizer: withByteFallback() });

describe('streaming', () => {
  test('gives a character when it is complete', () => {
    const stream = bytes.stream();
    const shown = bytes.encode('a😀é').map((token) => stream.push(token));
    expect(shown).toEqual(['a', '', '', '', '😀', '', 'é']);
    expect(stream.flush()).toBe('');
  });

  test('gives up on a character that the end cuts off, and on one that a token breaks, not before', () => {
    const [first, second] = bytes.encode('😀') as [number, number];
    const letter = bytes.encode('a')[0] as number;
    const stream = bytes.stream();
    expect([stream.push(first), stream.push(second), stream.push(letter)]).toEqual(['', '', '\ufffda']);
    expect([stream.push(first), stream.flush()]).toEqual(['', '\ufffd']);
    expect(stream.push(letter)).toBe('a');
  });

  test('holds a run of byte tokens until it ends', () => {
    const stream = fallback.stream({ skipSpecialTokens: true });
    expect(fallback.encode('éa').map((token) => stream.push(token))).toEqual(['', '', '', '', 'éa']);
    const broken = fallback.stream();
    expect([2 + 0xc3, 2 + 0xa9, 2 + 0xff].map((token) => broken.push(token))).toEqual(['', '', '']);
    expect(broken.flush()).toBe('\ufffd\ufffd\ufffd');
  });

  test('continues after a prompt', () => {
    const continuation = fallback.encode('ab', { addSpecialTokens: false });
    expect(fallback.stream().push(continuation[0] as number)).toBe('ab');
    expect(fallback.stream({ after: fallback.encode('ab') }).push(continuation[0] as number)).toBe(' ab');
    const [first, second, third, fourth] = bytes.encode('😀') as [number, number, number, number];
    const cut = bytes.stream({ after: [first, second] });
    expect([cut.push(third), cut.push(fourth)]).toEqual(['', '😀']);
  });

  test.each([
    ['byte level', bytes],
    ['byte fallback', fallback],
  ])('together is what decode gives, and stays what it was: %s', (_, tokenizer) => {
    const ids = fc.array(fc.nat({ max: tokenizer.vocabularySize - 1 }), { maxLength: 12 });
    fc.assert(
      fc.property(ids, ids, fc.boolean(), (tokens, others, cleanUpSpaces) => {
        const stream = tokenizer.stream({ cleanUpSpaces });
        let shown = '';
        tokens.forEach((token, i) => {
          shown += stream.push(token);
          expect(tokenizer.decode([...tokens.slice(0, i + 1), ...others], { cleanUpSpaces }).startsWith(shown)).toBe(true);
        });
        expect(shown + stream.flush()).toBe(tokenizer.decode(tokens, { cleanUpSpaces }));
      }),
      { numRuns: 500 },
    );
  });
});

describe('the clean-up of spaces', () => {
  test('is off for BPE whatever the config says, and there when asked for', () => {
    const tokenizer = parseTokenizer({
      tokenizer: trainByteLevelBPE([], { vocabSize: 256 }),
      config: { clean_up_tokenization_spaces: true },
    });
    const text = "x != y , it 's";
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect(tokenizer.decode(tokenizer.encode(text), { cleanUpSpaces: true })).toBe("x!= y, it's");
  });

  test('follows the config for other models, and is off by default', () => {
    const tokenizer = {
      model: { type: 'WordLevel', vocab: { hi: 0, '.': 1 } },
      pre_tokenizer: { type: 'WhitespaceSplit' },
    };
    expect(parseTokenizer({ tokenizer }).decode([0, 1])).toBe('hi .');
    expect(parseTokenizer({ tokenizer, config: { clean_up_tokenization_spaces: true } }).decode([0, 1])).toBe('hi.');
    expect(parseTokenizer({ tokenizer, config: { clean_up_tokenization_spaces: false } }).decode([0, 1])).toBe('hi .');
  });

  test('never changes what was settled', { timeout: 60_000 }, () => {
    const pieces = fc.constantFrom(
      " 'r",
      " 'v",
      ' n',
      'e',
      "'t",
      ' ',
      ' ',
      "'",
      "'",
      'n',
      't',
      'm',
      's',
      'v',
      'e',
      'r',
      '.',
      '?',
      '!',
      ',',
      'x',
      '😀',
    );
    const text = fc.array(pieces, { maxLength: 14 }).map((all) => all.join(''));
    fc.assert(
      fc.property(text, text, (head, tail) => {
        const cut = settledLength(head);
        expect(cleanUpSpaces(head.slice(0, cut)) + cleanUpSpaces(head.slice(cut) + tail)).toBe(cleanUpSpaces(head + tail));
      }),
      { numRuns: 20_000 },
    );
  });

  test('settles as soon as it can', () => {
    expect(['', ' ', 'a ', "a '", 'an', ' n', "'v", " 'r", 'ar', '.'].map(settledLength)).toEqual([0, 0, 1, 1, 2, 0, 0, 0, 2, 1]);
  });
});
