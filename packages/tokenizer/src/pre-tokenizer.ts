import { WORD_CLASS } from './added-tokens';
import { toByteLevel } from './bytes';
import { TokenizerFormatError } from './errors';
import { compilePattern, compileRegex, type Field } from './fields';

/** Cuts text into the pieces that the model tokenises on their own. `atStart`: the piece begins the whole text. */
export type PreTokenizer = (piece: string, atStart: boolean) => string[];

const BEHAVIORS = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'] as const;
type Behavior = (typeof BEHAVIORS)[number];

/** The cut of GPT-2, in the dialect of tokenizer.json. */
export const GPT2_PATTERN = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

interface Span {
  text: string;
  match: boolean;
}

function spans(text: string, pattern: RegExp): Span[] {
  const out: Span[] = [];
  let done = 0;
  for (const found of text.matchAll(pattern)) {
    // Oniguruma finds nothing between a match and what follows it.
    if (found[0] === '' && found.index === done && out.at(-1)?.match) continue;
    if (found.index > done) out.push({ text: text.slice(done, found.index), match: false });
    out.push({ text: found[0], match: true });
    done = found.index + found[0].length;
  }
  if (done < text.length) out.push({ text: text.slice(done), match: false });
  return out;
}

/** A match joins its neighbour, but of several matches in a row only the one next to that neighbour does. */
function merge(all: Span[], joinTo: (kept: string, match: string) => string): string[] {
  const out: string[] = [];
  let afterMatch = false;
  for (const span of all) {
    const last = out.length - 1;
    if (span.match && !afterMatch && last >= 0) out[last] = joinTo(out[last] as string, span.text);
    else out.push(span.text);
    afterMatch = span.match;
  }
  return out;
}

function split(text: string, pattern: RegExp, behavior: Behavior, invert: boolean): string[] {
  const all = spans(text, pattern);
  if (invert) for (const span of all) span.match = !span.match;
  let pieces: string[];
  switch (behavior) {
    case 'Isolated':
      pieces = all.map((span) => span.text);
      break;
    case 'Removed':
      pieces = all.filter((span) => !span.match).map((span) => span.text);
      break;
    case 'MergedWithPrevious':
      pieces = merge(all, (kept, match) => kept + match);
      break;
    case 'MergedWithNext':
      pieces = merge(all.reverse(), (kept, match) => match + kept).reverse();
      break;
    case 'Contiguous': {
      pieces = [];
      all.forEach((span, i) => {
        if (i > 0 && all[i - 1]?.match === span.match) pieces[pieces.length - 1] += span.text;
        else pieces.push(span.text);
      });
    }
  }
  return pieces.filter((piece) => piece !== '');
}

function byteLevel(field: Field): PreTokenizer {
  const prefix = field.optional('add_prefix_space')?.boolean() ?? true;
  const useRegex = field.optional('use_regex')?.boolean() ?? true;
  const pattern = compileRegex(GPT2_PATTERN, field.path);
  return (piece) => {
    const text = prefix && !piece.startsWith(' ') ? ` ${piece}` : piece;
    return (useRegex ? split(text, pattern, 'Isolated', false) : [text]).map(toByteLevel);
  };
}

function metaspace(field: Field): PreTokenizer {
  const replacement = field.optional('replacement')?.string() ?? '\u2581';
  const legacy = field.optional('add_prefix_space')?.boolean() === false ? 'never' : 'always';
  const scheme = field.optional('prepend_scheme')?.oneOf('always', 'first', 'never') ?? legacy;
  const splits = field.optional('split')?.boolean() ?? true;
  const pattern = new RegExp(replacement.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'gu');
  return (piece, atStart) => {
    let text = piece.replaceAll(' ', replacement);
    if (!text.startsWith(replacement) && (scheme === 'always' || (scheme === 'first' && atStart))) text = replacement + text;
    return splits ? split(text, pattern, 'MergedWithNext', false) : [text];
  };
}

function fixedLength(length: number): PreTokenizer {
  return (piece) => {
    const chars = Array.from(piece);
    const out: string[] = [];
    for (let i = 0; i < chars.length; i += length) out.push(chars.slice(i, i + length).join(''));
    return out;
  };
}

/** @throws TokenizerFormatError naming a pre-tokenizer that is not supported */
export function parsePreTokenizer(field: Field): PreTokenizer {
  const type = field.type();
  const cut =
    (pattern: RegExp, behavior: Behavior, invert = false): PreTokenizer =>
    (piece) =>
      split(piece, pattern, behavior, invert);
  switch (type) {
    case 'Sequence': {
      const steps = field.get('pretokenizers').items().map(parsePreTokenizer);
      return (piece, atStart) =>
        steps.reduce((pieces, step) => pieces.flatMap((part, i) => step(part, atStart && i === 0)), [piece] as string[]);
    }
    case 'ByteLevel':
      return byteLevel(field);
    case 'Split':
      return cut(
        compilePattern(field.get('pattern')),
        field.get('behavior').oneOf(...BEHAVIORS),
        field.optional('invert')?.boolean() ?? false,
      );
    case 'Metaspace':
      return metaspace(field);
    case 'Digits':
      return cut(/\p{N}/gu, field.optional('individual_digits')?.boolean() ? 'Isolated' : 'Contiguous');
    case 'Punctuation':
      return cut(/[\p{P}!-/:-@[-`{-~]/gu, field.optional('behavior')?.oneOf(...BEHAVIORS) ?? 'Isolated');
    case 'Whitespace':
      return cut(new RegExp(`[${WORD_CLASS}]+|[^${WORD_CLASS}\\p{White_Space}]+`, 'gu'), 'Removed', true);
    case 'WhitespaceSplit':
      return cut(/\p{White_Space}/gu, 'Removed');
    case 'BertPreTokenizer':
      return (piece) =>
        cut(/\p{White_Space}/gu, 'Removed')(piece, false).flatMap((word) => split(word, /[\p{P}!-/:-@[-`{-~]/gu, 'Isolated', false));
    case 'CharDelimiterSplit':
      return (piece) => piece.split(field.get('delimiter').string()).filter((part) => part !== '');
    case 'FixedLength': {
      const length = field.get('length').count();
      if (length === 0) field.get('length').fail('a length of 1 or more');
      return fixedLength(length);
    }
    default:
      throw new TokenizerFormatError(
        `${field.path}.type`,
        `pre-tokenizer "${type}" is not supported; known are BertPreTokenizer, ByteLevel, CharDelimiterSplit, Digits, FixedLength, Metaspace, Punctuation, Sequence, Split, Whitespace, WhitespaceSplit`,
      );
  }
}
