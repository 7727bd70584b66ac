import { parseArgs as tokenize } from 'node:util';
import { UsageError } from './errors.js';

export interface ArgDef {
  /** A word by its place, a flag with a value, or a flag alone. */
  readonly type: 'positional' | 'string' | 'boolean';
  readonly description: string;
  /** What stands for the value in usage texts. */
  readonly valueHint?: string;
  /** One letter: `-n`. */
  readonly short?: string;
  /** Of a positional: the command cannot do without it. */
  readonly required?: boolean;
  /** Of a flag with a value: each time it is given adds one. */
  readonly repeatable?: boolean;
}

export type ArgsDef = Readonly<Record<string, ArgDef>>;

/** What flags hold: the last value given of each, and all values of those that may be repeated. */
export interface Flags {
  readonly values: Readonly<Record<string, string | boolean | undefined>>;
  readonly lists: ReadonlyMap<string, readonly string[]>;
}

/** Edits (insert, delete, replace, swap neighbours) that turn a into b. */
function distance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => [i, ...new Array<number>(b.length).fill(0)]);
  for (let j = 0; j <= b.length; j++) rows[0]![j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1, rows[i - 1]![j - 1]! + cost);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, rows[i - 2]![j - 2]! + 1);
      rows[i]![j] = best;
    }
  }
  return rows[a.length]![b.length]!;
}

/** The name that was probably meant, or undefined when none is near. */
export function nearest(word: string, names: readonly string[]): string | undefined {
  const ranked = names.map((name) => ({ name, far: name.startsWith(word) && word.length > 1 ? 0.5 : distance(word, name) }));
  ranked.sort((a, b) => a.far - b.far);
  const best = ranked[0];
  return best !== undefined && best.far <= Math.max(1, Math.floor(word.length / 3)) ? best.name : undefined;
}

export function didYouMean(word: string, names: readonly string[], show: (name: string) => string = (name) => name): string {
  const near = nearest(word, names);
  return near === undefined ? '' : `; did you mean ${show(near)}?`;
}

/**
 * Reads the arguments of a command. Throws UsageError for unknown flags, missing values, missing or surplus words, and a flag given
 * twice that is not repeatable.
 */
export function readFlags(command: string, rawArgs: readonly string[], defs: ArgsDef): Flags {
  const options: Record<string, { type: 'string' | 'boolean'; multiple: true; short?: string }> = {};
  const positionals: string[] = [];
  for (const [name, def] of Object.entries(defs)) {
    if (def.type === 'positional') {
      positionals.push(name);
      continue;
    }
    options[name] = { type: def.type, multiple: true, ...(def.short === undefined ? {} : { short: def.short }) };
  }
  const help = `; "unroll ${command} --help" lists what there is`;
  const { tokens } = tokenize({ args: [...rawArgs], options, strict: false, allowPositionals: true, tokens: true });
  const values: Record<string, string | boolean | undefined> = {};
  const lists = new Map<string, string[]>();
  const words: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') words.push(token.value);
    if (token.kind !== 'option') continue;
    const def = Object.hasOwn(options, token.name) ? defs[token.name] : undefined;
    if (def === undefined) {
      throw new UsageError(
        `${command}: unknown flag ${token.rawName}${didYouMean(token.name, Object.keys(options), (name) => `--${name}`)}${help}`,
      );
    }
    if (def.type === 'boolean') {
      if (token.value !== undefined) throw new UsageError(`${command}: ${token.rawName} takes no value; write it alone`);
      values[token.name] = true;
      continue;
    }
    const swallowed = token.inlineValue !== true && token.value?.startsWith('--') === true && Object.hasOwn(options, token.value.slice(2));
    if (token.value === undefined || swallowed) throw new UsageError(`${command}: ${token.rawName} needs a value${help}`);
    const list = lists.get(token.name) ?? [];
    if (list.length > 0 && def.repeatable !== true) throw new UsageError(`${command}: ${token.rawName} is given twice; give it once`);
    lists.set(token.name, [...list, token.value]);
    values[token.name] = token.value;
  }
  positionals.forEach((name, i) => {
    if (words[i] === undefined && defs[name]!.required === true) {
      throw new UsageError(`${command}: ${name.toUpperCase()} is missing; ${defs[name]!.description}${help}`);
    }
    values[name] = words[i];
  });
  const surplus = words[positionals.length];
  if (surplus !== undefined) {
    throw new UsageError(`${command}: unexpected word "${surplus}"; put text with spaces in quotes${help}`);
  }
  return { values, lists };
}

const text = (flags: Flags, name: string): string | undefined => {
  const value = flags.values[name];
  return typeof value === 'string' ? value : undefined;
};

export const readText = text;
/** Every value of a repeatable flag, in order. */
export const readList = (flags: Flags, name: string): readonly string[] | undefined => flags.lists.get(name);
export const readFlag = (flags: Flags, name: string): boolean => flags.values[name] === true;

/** A number as somebody types it. Throws UsageError. */
export function parseNumber(flag: string, value: string, what: string): number {
  // Number('') is 0 and Number('0x10') 16: neither is what somebody means who types a number here.
  const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value.trim()) ? Number(value) : Number.NaN;
  if (Number.isNaN(number)) throw new UsageError(`--${flag} must be ${what}; got "${value}"`);
  return number;
}

/** A whole number within bounds, or undefined when the flag is absent. Throws UsageError. */
export function readWhole(flags: Flags, name: string, least: number, most: number = Number.MAX_SAFE_INTEGER): number | undefined {
  const value = text(flags, name);
  return value === undefined ? undefined : whole(name, value, least, most);
}

function whole(flag: string, value: string, least: number, most: number): number {
  const what = most === Number.MAX_SAFE_INTEGER ? `a whole number from ${least}` : `a whole number from ${least} to ${most}`;
  const number = parseNumber(flag, value, what);
  if (!Number.isInteger(number) || number < least || number > most) throw new UsageError(`--${flag} must be ${what}; got ${value}`);
  return number;
}

/** Whole numbers separated by commas, each once. Throws UsageError. */
export function readWholes(flags: Flags, name: string, least: number, most: number): number[] | undefined {
  const value = text(flags, name);
  if (value === undefined) return undefined;
  return value.split(',').map((part) => whole(name, part, least, most));
}

/** A number within bounds (included). Throws UsageError. */
export function readNumber(
  flags: Flags,
  name: string,
  least: number,
  most: number,
  what = `a number from ${least} to ${most}`,
): number | undefined {
  const value = text(flags, name);
  if (value === undefined) return undefined;
  const number = parseNumber(name, value, what);
  if (!(number >= least && number <= most)) throw new UsageError(`--${name} must be ${what}; got ${value}`);
  return number;
}

/** Most recurrences that a model takes. */
export const DEEPEST = 65536;
export const readDepth = (flags: Flags, name = 'depth'): number | undefined => readWhole(flags, name, 1, DEEPEST);
export const readDepths = (flags: Flags, name = 'depths'): number[] | undefined => readWholes(flags, name, 1, DEEPEST);
