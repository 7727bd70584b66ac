import { parseTokenizer, TokenizerError, trainByteLevelBPE, UnencodableTextError, UnknownTokenError } from '@unroll/tokenizer';
import { describe, expect, test } from 'vitest';
import { adder, altered, withByteFallback } from './files';

function caught(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('expected an error');
}

describe('a tiny vocabulary', () => {
  const tokenizer = parseTokenizer(adder);

  test('encodes and decodes what it can express', () => {
    expect(tokenizer.encode('731+94=')).toEqual([10, 6, 4, 1, 12, 7, 2]);
    expect(tokenizer.encode('\n')).toEqual([0]);
    expect(tokenizer.encode('')).toEqual([]);
    expect(tokenizer.encode('1<|pad|>2')).toEqual([4, 13, 5]);
    expect(tokenizer.decode([10, 6, 4, 1, 12, 7, 2, 11, 5, 8, 0])).toBe('731+94=825\n');
    expect(tokenizer.decode([])).toBe('');
  });

  test('names the character that it cannot express, and where it stands', () => {
    const error = caught(() => tokenizer.encode('12+x=')) as UnencodableTextError;
    expect(error).toBeInstanceOf(UnencodableTextError);
    expect(TokenizerError.is(error)).toBe(true);
    expect(error.character).toBe('x');
    expect(error.position).toBe(3);
    expect(error.message).toBe(
      'encode: "x" (U+0078) at index 3 has no token in this vocabulary (16 tokens); it knows "0" "1" "2" "3" "4" "5" "6" "7" "8" "9" "\\n" "+" "="',
    );
    expect(caught(() => tokenizer.encode('1<|pad|>2😀3'))).toMatchObject({ character: '😀', position: 9 });
    expect(caught(() => tokenizer.encode('1 2'))).toMatchObject({ character: ' ', position: 1 });
    expect(caught(() => tokenizer.encode('<|pad|>', { allowSpecial: false }))).toMatchObject({ character: '<', position: 0 });
  });

  test('names what a normalizer made, where no character of the text is to blame', () => {
    const prefixed = parseTokenizer({
      tokenizer: altered(adder.tokenizer, 'normalizer', { type: 'Replace', pattern: { String: '1+1' }, content: 'two' }),
    });
    expect(caught(() => prefixed.encode('1+1='))).toMatchObject({ character: 't', position: undefined });
    expect(prefixed.encode('1+2')).toEqual([4, 1, 5]);
  });

  test('refuses half a surrogate pair', () => {
    expect(caught(() => tokenizer.encode('1\ud83d2'))).toMatchObject({ name: 'UnencodableTextError', position: 1 });
  });

  test('knows its special tokens', () => {
    expect(tokenizer.specialTokens).toEqual({ eos: 0, pad: 13 });
    expect([...tokenizer.specialIds].sort((a, b) => a - b)).toEqual([0, 13, 14, 15]);
    expect(tokenizer.stopTokens).toEqual([0]);
    expect(tokenizer.modelMaxLength).toBe(64);
    expect(tokenizer.vocabularySize).toBe(16);
    expect(tokenizer.idOf('<|unused1|>')).toBe(15);
    expect(tokenizer.idOf('nothing')).toBeUndefined();
    expect(tokenizer.tokenOf(0)).toBe('Ċ');
    expect(tokenizer.tokenOf(16)).toBeUndefined();
    expect(tokenizer.decode([4, 13, 0], { skipSpecialTokens: true })).toBe('1');
  });

  test('unites the stop tokens of both files', () => {
    const several = parseTokenizer({ ...adder, generationConfig: { eos_token_id: [2, 14] } });
    expect([...several.stopTokens].sort((a, b) => a - b)).toEqual([0, 2, 14]);
    expect(parseTokenizer({ tokenizer: adder.tokenizer }).stopTokens).toEqual([]);
  });

  test('refuses ids that it does not have, unless told to skip them', () => {
    expect(caught(() => tokenizer.decode([4, 16]))).toBeInstanceOf(UnknownTokenError);
    expect(caught(() => tokenizer.decode([4, -1]))).toMatchObject({ token: -1 });
    expect(caught(() => tokenizer.stream().push(1.5))).toBeInstanceOf(UnknownTokenError);
    expect(tokenizer.decode([4, 16, 5], { unknownTokens: 'skip' })).toBe('12');
  });

  test.each([
    () => tokenizer.encode('1', { addSpecialToken: false } as object),
    () => tokenizer.decode([1], { skipSpecial: true } as object),
    () => tokenizer.stream({ cleanup: true } as object),
    () => tokenizer.encode(12 as unknown as string),
    () => tokenizer.encode('1', { allowSpecial: 'no' as unknown as boolean }),
    () => tokenizer.decode([1], { unknownTokens: 'ignore' as 'skip' }),
    () => parseTokenizer({ ...adder, tokenizerConfig: {} } as never),
  ])('refuses wrong options: %s', (run) => {
    expect(caught(run)).toMatchObject({ name: 'TokenizerOptionError' });
  });
});

describe('byte fallback', () => {
  const tokenizer = parseTokenizer({ tokenizer: withByteFallback() });

  test('spells unknown characters in bytes, and frames the text', () => {
    const bytes = [...new TextEncoder().encode('é')].map((byte) => byte + 2);
    expect(tokenizer.encode('ab é')).toEqual([1, 262, 258, ...bytes]);
    expect(tokenizer.encode('ab', { addSpecialTokens: false })).toEqual([262]);
    expect(tokenizer.decode(tokenizer.encode('ab é'), { skipSpecialTokens: true })).toBe('ab é');
  });

  test('decodes a broken run to one replacement character a byte', () => {
    expect(tokenizer.decode([2 + 0xf0, 2 + 0x9f, 259])).toBe('\ufffd\ufffda');
    expect(tokenizer.decode([2 + 0x41, 2 + 0xff])).toBe('\ufffd\ufffd');
  });

  test('keeps a byte order mark', () => {
    expect(tokenizer.decode([2 + 0xef, 2 + 0xbb, 2 + 0xbf, 259])).toBe('\ufeffa');
  });
});

describe('added tokens', () => {
  test('decode to their content, also where it is of the byte alphabet or normalised for the search', () => {
    const json = trainByteLevelBPE([], { vocabSize: 256 });
    const tokenizer = parseTokenizer({
      tokenizer: {
        ...json,
        normalizer: { type: 'Lowercase' },
        added_tokens: [
          { id: 256, content: 'Été', normalized: true },
          { id: 257, content: '<<', special: true },
        ],
      },
    });
    expect(tokenizer.encode('ÉTÉ<<a')).toEqual([256, 257, tokenizer.idOf('a')]);
    expect(tokenizer.decode([256, 257])).toBe('Été<<');
    expect(tokenizer.decode([256, 257], { skipSpecialTokens: true })).toBe('Été');
    expect(tokenizer.decode(tokenizer.encode('x<<y', { allowSpecial: false }))).toBe('x<<y');
    expect(tokenizer.encode('x<<y', { allowSpecial: false })).toHaveLength(4);
  });

  test('come from tokenizer_config.json too', () => {
    const tokenizer = parseTokenizer({ ...adder, config: { added_tokens_decoder: { 16: { content: '<|more|>', special: true } } } });
    expect(tokenizer.encode('1<|more|>')).toEqual([4, 16]);
    expect(tokenizer.vocabularySize).toBe(17);
  });
});
