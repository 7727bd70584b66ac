import { SplitPreTokenizer } from '@huggingface/tokenizers';
import { TokenizerFormatError } from './errors';
import { describe } from './options';

/** A JSON value together with its path, so that every complaint names the field. */
export class Field {
  constructor(
    readonly value: unknown,
    readonly path: string,
  ) {}

  fail(expected: string): never {
    throw new TokenizerFormatError(this.path, `expected ${expected}, got ${this.value === undefined ? 'nothing' : describe(this.value)}`);
  }

  object(): Readonly<Record<string, unknown>> {
    if (typeof this.value !== 'object' || this.value === null || Array.isArray(this.value)) this.fail('an object');
    return this.value as Record<string, unknown>;
  }

  get(name: string): Field {
    const object = this.object();
    return new Field(Object.hasOwn(object, name) ? object[name] : undefined, `${this.path}.${name}`);
  }

  /** The member, or undefined where it is absent or null. */
  optional(name: string): Field | undefined {
    const field = this.get(name);
    return field.value === undefined || field.value === null ? undefined : field;
  }

  items(): Field[] {
    if (!Array.isArray(this.value)) this.fail('an array');
    return (this.value as unknown[]).map((value, i) => new Field(value, `${this.path}[${i}]`));
  }

  string(): string {
    if (typeof this.value !== 'string') this.fail('a string');
    return this.value as string;
  }

  boolean(): boolean {
    if (typeof this.value !== 'boolean') this.fail('true or false');
    return this.value as boolean;
  }

  number(): number {
    if (typeof this.value !== 'number' || !Number.isFinite(this.value)) this.fail('a finite number');
    return this.value as number;
  }

  /** A non-negative integer below 2^31. */
  count(): number {
    if (!Number.isInteger(this.value) || (this.value as number) < 0 || (this.value as number) >= 2 ** 31) {
      this.fail('an integer from 0 to 2^31 - 1');
    }
    return this.value as number;
  }

  type(): string {
    return this.get('type').string();
  }

  oneOf<T extends string>(...names: T[]): T {
    const value = this.string();
    if (!(names as string[]).includes(value)) this.fail(`one of ${names.join(', ')}`);
    return value as T;
  }
}

/**
 * Compiles `{ "String": … }` or `{ "Regex": … }` to a global regular expression.
 *
 * Regular expressions in these files are Oniguruma's; `@huggingface/tokenizers` rewrites them for JavaScript (`\s` and `\w` mean other
 * sets there), and hands them out only on its Split.
 */
export function compilePattern(pattern: Field): RegExp {
  const literal = pattern.optional('String')?.string();
  if (literal !== undefined) return new RegExp(literal.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'), 'gu');
  const source = pattern.optional('Regex');
  if (source === undefined) pattern.fail('{ "String": … } or { "Regex": … }');
  return compileRegex(source.string(), source.path);
}

/** The two ASCII letters that have a third, non-ASCII case: Oniguruma folds it, the rewriting does not. */
function foldLetters(source: string): string {
  return source.replace(/\(\?i:([^()[\]\\]*)\)/g, (_, body: string) => {
    return `(?i:${body.replace(/s/gi, '[sS\u017f]').replace(/k/gi, '[kK\u212a]')})`;
  });
}

export function compileRegex(source: string, path: string): RegExp {
  let compiled: RegExp | null;
  try {
    compiled = new SplitPreTokenizer({ type: 'Split', pattern: { Regex: foldLetters(source) }, behavior: 'Isolated', invert: false })
      .pattern;
  } catch (error) {
    throw new TokenizerFormatError(path, `the regular expression is not supported: ${(error as Error).message}`);
  }
  if (compiled === null) throw new TokenizerFormatError(path, 'the regular expression is not supported');
  return compiled;
}
