import type { Field } from './fields';
import type { Normalizer } from './normalizer';

/** A token that is found in the text before the model sees it. */
export interface AddedToken {
  readonly id: number;
  readonly content: string;
  /** Only where no letter, digit or underscore touches it. */
  readonly singleWord: boolean;
  /** Takes the whitespace before it along. */
  readonly lstrip: boolean;
  /** Takes the whitespace after it along. */
  readonly rstrip: boolean;
  /** Looked for in the normalised text rather than in the text given. */
  readonly normalized: boolean;
  readonly special: boolean;
}

export function parseAddedToken(field: Field, id: number): AddedToken {
  const flag = (name: string) => field.optional(name)?.boolean() ?? false;
  const special = flag('special');
  const content = field.get('content').string();
  if (content === '') field.get('content').fail('at least one character');
  return {
    id,
    content,
    singleWord: flag('single_word'),
    lstrip: flag('lstrip'),
    rstrip: flag('rstrip'),
    normalized: field.optional('normalized')?.boolean() ?? !special,
    special,
  };
}

/** A part of a text: an added token, or the text between. `start` is in UTF-16 units. */
export interface Part {
  readonly start: number;
  readonly text: string;
  readonly token: AddedToken | undefined;
}

interface Node {
  readonly next: Map<string, Node>;
  token?: AddedToken;
}

/** Word characters of Rust's regular expressions, which differ from JavaScript's and from Oniguruma's. */
export const WORD_CLASS = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}';
const WORD = new RegExp(`[${WORD_CLASS}]`, 'u');
const SPACE = /\p{White_Space}/u;

function endsInWord(text: string, end: number): boolean {
  const low = text.charCodeAt(end - 1);
  const width = low >= 0xdc00 && low <= 0xdfff ? 2 : 1;
  return end > 0 && WORD.test(text.slice(Math.max(0, end - width), end));
}

function startsWithWord(text: string, start: number): boolean {
  return start < text.length && WORD.test(String.fromCodePoint(text.codePointAt(start) as number));
}

/** Finds added tokens in text, leftmost first and of those the longest, as the reference tokenizers do. */
export class AddedTokenMatcher {
  readonly #root: Node = { next: new Map() };
  readonly #empty: boolean;

  constructor(tokens: readonly AddedToken[], normalizer?: Normalizer) {
    this.#empty = tokens.length === 0;
    for (const token of tokens) {
      let node = this.#root;
      for (const unit of (normalizer ? normalizer(token.content) : token.content).split('')) {
        let next = node.next.get(unit);
        if (!next) {
          next = { next: new Map() };
          node.next.set(unit, next);
        }
        node = next;
      }
      // A token that the normalizer erases can never be found.
      if (node !== this.#root) node.token ??= token;
    }
  }

  #longest(text: string, from: number): { token: AddedToken; end: number } | undefined {
    let node: Node | undefined = this.#root;
    let found: { token: AddedToken; end: number } | undefined;
    for (let i = from; i < text.length; i++) {
      node = node.next.get(text[i] as string);
      if (!node) break;
      if (node.token) found = { token: node.token, end: i + 1 };
    }
    return found;
  }

  /** Cuts the text. Tokens that `allow` refuses stay text. No part is empty. */
  split(text: string, allow: (token: AddedToken) => boolean): Part[] {
    if (this.#empty) return text === '' ? [] : [{ start: 0, text, token: undefined }];
    const parts: Part[] = [];
    let done = 0;
    for (let at = 0; at < text.length; ) {
      const found = this.#longest(text, at);
      if (!found) {
        at++;
        continue;
      }
      let start = at;
      let end = found.end;
      at = end;
      const { token } = found;
      if (!allow(token)) continue;
      if (token.singleWord && (endsInWord(text, start) || startsWithWord(text, end))) continue;
      if (token.lstrip) while (start > done && SPACE.test(text[start - 1] as string)) start--;
      if (token.rstrip) while (end < text.length && SPACE.test(text[end] as string)) end++;
      if (start > done) parts.push({ start: done, text: text.slice(done, start), token: undefined });
      parts.push({ start, text: text.slice(start, end), token });
      done = end;
    }
    if (done < text.length) parts.push({ start: done, text: text.slice(done), token: undefined });
    return parts;
  }
}
