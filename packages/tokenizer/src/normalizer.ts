import { toByteLevel } from './bytes';
import { TokenizerFormatError } from './errors';
import { compilePattern, type Field } from './fields';

export type Normalizer = (text: string) => string;

const CONTROL = /[\p{Cc}\p{Cf}\p{Co}]/u;
const WHITESPACE = /\p{White_Space}/u;

function isChinese(codePoint: number): boolean {
  return (
    (codePoint >= 0x4e00 && codePoint <= 0x9fff) ||
    (codePoint >= 0x3400 && codePoint <= 0x4dbf) ||
    (codePoint >= 0x20000 && codePoint <= 0x2a6df) ||
    (codePoint >= 0x2a700 && codePoint <= 0x2b81f) ||
    (codePoint >= 0x2b920 && codePoint <= 0x2ceaf) ||
    (codePoint >= 0xf900 && codePoint <= 0xfaff) ||
    (codePoint >= 0x2f800 && codePoint <= 0x2fa1f)
  );
}

function cleanText(text: string): string {
  let out = '';
  for (const char of text) {
    const layout = char === '\t' || char === '\n' || char === '\r';
    if (char === '\0' || char === '\ufffd' || (!layout && CONTROL.test(char))) continue;
    out += layout || WHITESPACE.test(char) ? ' ' : char;
  }
  return out;
}

/** Character by character: `toLowerCase` on the whole text writes a final sigma where the model saw a plain one in training. */
function lowercase(text: string): string {
  let out = '';
  for (const char of text) out += char.toLowerCase();
  return out;
}

function bert(field: Field): Normalizer {
  const lower = field.optional('lowercase')?.boolean() ?? true;
  const clean = field.optional('clean_text')?.boolean() ?? true;
  const spaceChinese = field.optional('handle_chinese_chars')?.boolean() ?? true;
  const strip = field.optional('strip_accents')?.boolean() ?? lower;
  return (text) => {
    if (clean) text = cleanText(text);
    if (spaceChinese) text = Array.from(text, (char) => (isChinese(char.codePointAt(0) as number) ? ` ${char} ` : char)).join('');
    if (strip) text = text.normalize('NFD').replace(/\p{Mn}/gu, '');
    return lower ? lowercase(text) : text;
  };
}

/** @throws TokenizerFormatError naming a normalizer that is not supported */
export function parseNormalizer(field: Field): Normalizer {
  const type = field.type();
  switch (type) {
    case 'Sequence': {
      const steps = field.get('normalizers').items().map(parseNormalizer);
      return (text) => steps.reduce((current, step) => step(current), text);
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
      return (text) => text.normalize(type);
    case 'Lowercase':
      return lowercase;
    case 'StripAccents':
      return (text) => text.replace(/\p{M}/gu, '');
    case 'Strip': {
      const left = field.optional('strip_left')?.boolean() ?? true;
      const right = field.optional('strip_right')?.boolean() ?? true;
      return (text) => {
        if (left) text = text.replace(/^\p{White_Space}+/u, '');
        return right ? text.replace(/\p{White_Space}+$/u, '') : text;
      };
    }
    case 'Prepend': {
      const prefix = field.get('prepend').string();
      return (text) => (text === '' ? text : prefix + text);
    }
    case 'Replace': {
      const pattern = compilePattern(field.get('pattern'));
      const content = field.get('content').string();
      return (text) => text.replace(pattern, () => content);
    }
    case 'ByteLevel':
      return toByteLevel;
    case 'BertNormalizer':
      return bert(field);
    default:
      throw new TokenizerFormatError(
        `${field.path}.type`,
        `normalizer "${type}" is not supported; known are BertNormalizer, ByteLevel, Lowercase, NFC, NFD, NFKC, NFKD, Prepend, Replace, Sequence, Strip, StripAccents`,
      );
  }
}
