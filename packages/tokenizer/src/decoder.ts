import { fromByteLevel, utf8 } from './bytes';
import { cleanUpSpaces, settledLength } from './cleanup';
import { TokenizerFormatError } from './errors';
import { compilePattern, type Field } from './fields';

type Emit = (piece: string) => void;

/**
 * One step of a decoder. What it emits is final: whatever a later token could still change is held back until it cannot.
 * Decoding at once and decoding token by token are this same code, so that they cannot differ.
 */
interface Stage {
  push(piece: string, emit: Emit): void;
  end(emit: Emit): void;
}

/** `fused` says that the pieces from here on are one text cut anywhere, no more one piece a token. */
interface StageMaker {
  make(): Stage;
  fused: boolean;
}

const nothing = (): void => {};

function perToken(change: (token: string, index: number) => string): StageMaker {
  return {
    fused: false,
    make: () => {
      let index = 0;
      return { push: (piece, emit) => emit(change(piece, index++)), end: nothing };
    },
  };
}

function byteLevel(verbatim: ReadonlySet<string>): StageMaker {
  return {
    fused: true,
    make: () => {
      const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
      return {
        push: (piece, emit) => {
          // An added token is text as it stands, even where its characters happen to be of the byte alphabet.
          const bytes = verbatim.has(piece) ? utf8(piece) : (fromByteLevel(piece) ?? utf8(piece));
          emit(decoder.decode(bytes, { stream: true }));
        },
        end: (emit) => emit(decoder.decode()),
      };
    },
  };
}

/** A run of byte tokens is UTF-8 as a whole or, if any of it is not, one U+FFFD a byte: it is not final before the run ends. */
function byteFallback(): StageMaker {
  return {
    fused: false,
    make: () => {
      const run: number[] = [];
      const endRun = (emit: Emit) => {
        if (run.length === 0) return;
        let text: string;
        try {
          text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(run));
        } catch {
          text = '\ufffd'.repeat(run.length);
        }
        run.length = 0;
        emit(text);
      };
      return {
        push: (piece, emit) => {
          const hex = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece)?.[1];
          if (hex !== undefined) {
            run.push(Number.parseInt(hex, 16));
          } else {
            endRun(emit);
            emit(piece);
          }
        },
        end: endRun,
      };
    },
  };
}

/** `suffix` ends a word: it becomes a space, but nothing on the last token, so that the newest token is always held. */
function wordSuffix(suffix: string): StageMaker {
  return {
    fused: false,
    make: () => {
      let held: string | undefined;
      return {
        push: (piece, emit) => {
          if (held !== undefined) emit(held.replaceAll(suffix, ' '));
          held = piece;
        },
        end: (emit) => {
          if (held !== undefined) emit(held.replaceAll(suffix, ''));
        },
      };
    },
  };
}

function stripPiece(token: string, content: string, start: number, stop: number): string {
  const chars = [...token];
  let from = 0;
  while (from < start && from < chars.length && chars[from] === content) from++;
  let to = chars.length;
  while (chars.length - to < stop && to > from && chars[to - 1] === content) to--;
  return chars.slice(from, to).join('');
}

function stripText(content: string, start: number, stop: number): StageMaker {
  return {
    fused: true,
    make: () => {
      let left = start;
      let tail = '';
      return {
        push: (piece, emit) => {
          while (left > 0 && piece !== '') {
            if (!piece.startsWith(content)) {
              left = 0;
            } else {
              piece = piece.slice(content.length);
              left--;
            }
          }
          const text = tail + piece;
          let keep = text.length;
          for (let i = 0; i < stop && text.slice(0, keep).endsWith(content); i++) keep -= content.length;
          emit(text.slice(0, keep));
          tail = text.slice(keep);
        },
        end: nothing,
      };
    },
  };
}

function replaceText(from: string, to: string): StageMaker {
  return {
    fused: true,
    make: () => {
      let held = '';
      return {
        push: (piece, emit) => {
          const text = held + piece;
          let done = 0;
          let out = '';
          for (let at = text.indexOf(from); at >= 0; at = text.indexOf(from, done)) {
            out += text.slice(done, at) + to;
            done = at + from.length;
          }
          const cut = Math.max(done, text.length - from.length + 1);
          emit(out + text.slice(done, cut));
          held = text.slice(cut);
        },
        end: (emit) => emit(held),
      };
    },
  };
}

function metaspace(field: Field): StageMaker {
  const replacement = field.optional('replacement')?.string() ?? '\u2581';
  const scheme =
    field.optional('prepend_scheme')?.string() ?? (field.optional('add_prefix_space')?.boolean() === false ? 'never' : 'always');
  return perToken((token, index) => token.replaceAll(replacement, index === 0 && scheme !== 'never' ? '' : ' '));
}

function wordPiece(field: Field): StageMaker {
  const prefix = field.optional('prefix')?.string() ?? '##';
  const cleanup = field.optional('cleanup')?.boolean() ?? true;
  return perToken((token, index) => {
    const joined = index === 0 ? token : prefix !== '' && token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
    return cleanup ? cleanUpSpaces(joined) : joined;
  });
}

function makers(field: Field, verbatim: ReadonlySet<string>, alreadyFused: boolean): StageMaker[] {
  const type = field.type();
  if (type === 'Sequence') {
    const all: StageMaker[] = [];
    for (const child of field.get('decoders').items()) {
      all.push(...makers(child, verbatim, alreadyFused || all.some((stage) => stage.fused)));
    }
    return all;
  }
  if (type === 'Fuse') return [{ fused: true, make: () => ({ push: (piece, emit) => emit(piece), end: nothing }) }];
  if (type === 'Strip') {
    const content = field.get('content').string();
    const [start, stop] = [field.get('start').count(), field.get('stop').count()];
    return [alreadyFused ? stripText(content, start, stop) : perToken((token) => stripPiece(token, content, start, stop))];
  }
  if (type === 'Replace') {
    const content = field.get('content').string();
    const literal = field.get('pattern').optional('String')?.string();
    if (alreadyFused) {
      if (literal === undefined || literal === '') {
        throw new TokenizerFormatError(field.path, 'Replace by a regular expression after Fuse or ByteLevel is not supported');
      }
      return [replaceText(literal, content)];
    }
    const pattern = compilePattern(field.get('pattern'));
    return [perToken((token) => token.replace(pattern, () => content))];
  }
  if (alreadyFused) throw new TokenizerFormatError(field.path, `${type} after Fuse or ByteLevel is not supported`);
  switch (type) {
    case 'ByteLevel':
      return [byteLevel(verbatim)];
    case 'ByteFallback':
      return [byteFallback()];
    case 'Metaspace':
      return [metaspace(field)];
    case 'WordPiece':
      return [wordPiece(field)];
    case 'BPEDecoder':
      return [wordSuffix(field.optional('suffix')?.string() ?? '</w>')];
    default:
      throw new TokenizerFormatError(
        `${field.path}.type`,
        `decoder "${type}" is not supported; known are BPEDecoder, ByteFallback, ByteLevel, Fuse, Metaspace, Replace, Sequence, Strip, WordPiece`,
      );
  }
}

/** Turns token strings into text, piece by piece. */
export interface TextAssembler {
  push(token: string): string;
  end(): string;
}

/**
 * @param decoder - the `decoder` of tokenizer.json; without one the tokens are joined by spaces
 * @param verbatim - contents of the added tokens, which a byte-level decoder leaves as they are
 * @returns a maker of assemblers; `cleanUp` applies the English space clean-up to the assembled text
 */
export function parseDecoder(decoder: Field | undefined, verbatim: ReadonlySet<string>): (cleanUp: boolean) => TextAssembler {
  const plan = decoder ? makers(decoder, verbatim, false) : [perToken((token, index) => (index === 0 ? token : ` ${token}`))];
  return (cleanUp) => {
    const stages = plan.map((maker) => maker.make());
    const feed = (from: number, piece: string): string => {
      if (from === stages.length) return piece;
      let out = '';
      stages[from]?.push(piece, (next) => {
        out += feed(from + 1, next);
      });
      return out;
    };
    const finish = (): string => {
      let out = '';
      stages.forEach((stage, i) => {
        stage.end((next) => {
          out += feed(i + 1, next);
        });
      });
      return out;
    };
    if (!cleanUp) return { push: (token) => feed(0, token), end: finish };
    let held = '';
    return {
      push: (token) => {
        held += feed(0, token);
        const cut = settledLength(held);
        const out = cleanUpSpaces(held.slice(0, cut));
        held = held.slice(cut);
        return out;
      },
      end: () => cleanUpSpaces(held + finish()),
    };
  };
}
