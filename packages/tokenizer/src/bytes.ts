/**
 * The 256 printable characters that stand for the bytes in a byte-level vocabulary: printable Latin-1 stands for itself, the rest
 * is shifted to U+0100 and on (GPT-2 `bytes_to_unicode`).
 */
export const BYTE_TO_CHAR: readonly string[] = (() => {
  const table: string[] = [];
  let shifted = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    table.push(String.fromCharCode(printable ? byte : shifted++));
  }
  return table;
})();

const CHAR_TO_BYTE: ReadonlyMap<string, number> = new Map(BYTE_TO_CHAR.map((char, byte) => [char, byte]));

const encoder = new TextEncoder();

/** UTF-8 bytes of the text, each as its character of the byte-level alphabet. */
export function toByteLevel(text: string): string {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 0x80) {
      for (const byte of encoder.encode(text.slice(i))) out += BYTE_TO_CHAR[byte];
      return out;
    }
    out += BYTE_TO_CHAR[code];
  }
  return out;
}

/** The bytes that a byte-level token stands for, or undefined if it has a character outside the alphabet. */
export function fromByteLevel(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = CHAR_TO_BYTE.get(token[i] as string);
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}

export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** The name of a byte in vocabularies with byte fallback: `<0x0A>`. */
export function byteToken(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}
