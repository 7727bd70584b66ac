import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { TextStream } from '../src/text.js';

/** A codec whose token i is the i-th piece. */
const codecOf = (pieces: readonly string[]) => ({
  stopTokens: [],
  encode: () => [],
  stream: () => ({ push: (token: number) => pieces[token]!, flush: () => '' }),
});

/** What comes out piece by piece, and the stop string that ended it. */
function stream(pieces: readonly string[], stops: readonly string[]): { texts: string[]; stop: string | undefined } {
  const text = new TextStream(codecOf(pieces), [], stops);
  const texts: string[] = [];
  for (const token of pieces.keys()) {
    const { text: piece, stop } = text.push(token);
    texts.push(piece);
    if (stop !== undefined) return { texts, stop };
  }
  const last = text.flush();
  texts.push(last.text);
  return { texts, stop: last.stop };
}

describe('stop strings', () => {
  it('end the text across token borders and are never given out', () => {
    expect(stream(['Hello', ' wo', 'rld', '\nUs', 'er', ': hi'], ['\nUser:'])).toEqual({
      texts: ['Hello', ' wo', 'rld', '', '', ''],
      stop: '\nUser:',
    });
  });

  it('text that turns out not to be one comes out after all', () => {
    expect(stream(['a', '<', '/', 'b', 'c'], ['</s>']).texts).toEqual(['a', '', '', '</b', 'c', '']);
    expect(stream(['x<', '<s'], ['<s>'])).toEqual({ texts: ['x', '<', '<s'], stop: undefined });
  });

  it('the one that is complete first wins, whatever the cut', () => {
    for (const pieces of [['abXY'], ['abX', 'Y'], ['a', 'b', 'X', 'Y']]) {
      const { texts, stop } = stream(pieces, ['abXY', 'bX']);
      expect({ text: texts.join(''), stop }).toEqual({ text: 'a', stop: 'bX' });
    }
  });

  it('give the same text for every cut into tokens, up to the first stop, early enough', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 0, maxLength: 24 });
    const stop = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(
        letters,
        fc.array(stop, { maxLength: 3 }),
        fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 24, maxLength: 24 }),
        (text, stops, sizes) => {
          const pieces: string[] = [];
          for (let at = 0; at < text.length; at += sizes[pieces.length - 1]!) pieces.push(text.slice(at, at + sizes[pieces.length]!));
          let expected = text;
          for (let end = 1; end <= text.length; end++) {
            const found = stops.filter((s) => text.slice(0, end).endsWith(s)).sort((a, b) => b.length - a.length)[0];
            if (found === undefined) continue;
            expected = text.slice(0, end - found.length);
            break;
          }
          const { texts } = stream(pieces, stops);
          expect(texts.join('')).toBe(expected);
          const longest = Math.max(0, ...stops.map((s) => s.length - 1));
          texts.slice(0, -1).forEach((_, i) => {
            const arrived = pieces.slice(0, i + 1).join('').length;
            expect(arrived - texts.slice(0, i + 1).join('').length <= longest || texts.slice(0, i + 1).join('') === expected).toBe(true);
          });
        },
      ),
      { numRuns: 2000 },
    );
  });
});
