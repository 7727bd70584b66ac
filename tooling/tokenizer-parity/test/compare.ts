import { parseTokenizer } from '@unroll/tokenizer';
import fc from 'fast-check';
import { expect } from 'vitest';
import { type Json, native } from './oracle';

const SEED = 20250107;

/** Both tokenizers on generated strings, and on generated ids, which spell broken UTF-8 as well. */
export async function compare(json: Json, texts: fc.Arbitrary<string>, numRuns: number): Promise<{ tokens: number }> {
  const ours = parseTokenizer({ tokenizer: json });
  const theirs = native.Tokenizer.fromString(JSON.stringify(json));
  const idsOf = async (text: string, addSpecialTokens: boolean) => (await theirs.encode(text, null, { addSpecialTokens })).getIds();
  let tokens = 0;
  await fc.assert(
    fc.asyncProperty(texts, fc.boolean(), fc.boolean(), async (text, addSpecialTokens, skipSpecialTokens) => {
      const ids = ours.encode(text, { addSpecialTokens });
      expect(ids).toEqual(await idsOf(text, addSpecialTokens));
      expect(ours.decode(ids, { skipSpecialTokens })).toBe(await theirs.decode(ids, skipSpecialTokens));
      tokens += ids.length;
    }),
    { numRuns, seed: SEED },
  );
  const id = fc.nat({ max: ours.vocabularySize - 1 });
  // Neighbouring ids make runs of byte tokens likely.
  const ids = fc.array(fc.oneof(id, fc.integer({ min: 0, max: Math.min(300, ours.vocabularySize - 1) })), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(ids, fc.boolean(), async (sequence, skipSpecialTokens) => {
      expect(ours.decode(sequence, { skipSpecialTokens, unknownTokens: 'skip' })).toBe(await theirs.decode(sequence, skipSpecialTokens));
    }),
    { numRuns: Math.min(numRuns, 2000), seed: SEED },
  );
  return { tokens };
}

/** Streaming: together the whole text; and at no time a text that another continuation would have changed. */
export function checkStreaming(json: Json, texts: fc.Arbitrary<string>, numRuns: number, cleanUpSpaces = false): void {
  const tokenizer = parseTokenizer({ tokenizer: json });
  const id = fc.nat({ max: tokenizer.vocabularySize - 1 }).filter((token) => tokenizer.tokenOf(token) !== undefined);
  const sequence = fc.oneof(
    texts.map((text) => tokenizer.encode(text)),
    fc.array(id, { maxLength: 12 }),
  );
  fc.assert(
    fc.property(sequence, fc.array(id, { maxLength: 4 }), fc.boolean(), (tokens, others, skipSpecialTokens) => {
      const options = { skipSpecialTokens, cleanUpSpaces };
      const stream = tokenizer.stream(options);
      const whole = tokenizer.decode(tokens, options);
      let shown = '';
      tokens.forEach((token, i) => {
        shown += stream.push(token);
        expect(whole.startsWith(shown)).toBe(true);
        expect(tokenizer.decode([...tokens.slice(0, i + 1), ...others], options).startsWith(shown)).toBe(true);
        expect(/\p{Surrogate}/u.test(shown)).toBe(false);
      });
      expect(shown + stream.flush()).toBe(whole);
    }),
    { numRuns, seed: SEED },
  );
}
