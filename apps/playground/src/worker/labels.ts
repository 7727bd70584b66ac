import type { Tokenizer } from '@unroll/tokenizer';
import type { LabelledToken } from './protocol.js';

const SHOWN: Readonly<Record<string, string>> = { '\n': '⏎', '\t': '⇥', ' ': '␣', '': '∅' };

/** A token as people can see it: a line end or a blank would be invisible. */
export function labelOf(tokenizer: Tokenizer | undefined, token: number): string {
  if (tokenizer === undefined) return `#${token}`;
  const text = tokenizer.decode([token], { unknownTokens: 'skip' });
  const shown = SHOWN[text];
  if (shown !== undefined) return text === '' ? (tokenizer.tokenOf(token) ?? `#${token}`) : shown;
  return text.replaceAll('\n', '⏎');
}

/** Log-probabilities as labelled shares. */
export const labelled = (
  tokenizer: Tokenizer | undefined,
  list: readonly { readonly token: number; readonly logprob: number }[],
): LabelledToken[] => list.map(({ token, logprob }) => ({ label: labelOf(tokenizer, token), p: Math.exp(logprob) }));
