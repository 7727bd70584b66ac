import { OptionError } from '@unroll/tensor';

/** A value as an error message shows it. */
export function show(value: unknown): string {
  if (typeof value === 'string' || Array.isArray(value)) return (JSON.stringify(value) ?? 'a list').slice(0, 80);
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'object' && value !== null) return `an object with ${Object.keys(value).slice(0, 8).join(', ') || 'nothing in it'}`;
  return String(value);
}

interface Shape {
  readonly expected: string;
  readonly fits: (value: unknown) => boolean;
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;
const isList = (value: unknown): value is ArrayLike<unknown> => Array.isArray(value) || (ArrayBuffer.isView(value) && 'length' in value);
const has = (value: unknown, type: 'function' | 'number', names: readonly string[]): boolean =>
  isObject(value) && names.every((name) => typeof value[name] === type);

const number: Shape = { expected: 'a number', fits: (value) => typeof value === 'number' };
const callable: Shape = { expected: 'a function', fits: (value) => typeof value === 'function' };
const record: Shape = { expected: 'an object', fits: (value) => isObject(value) && !isList(value) };
const text: Shape = { expected: 'a text or a list of token ids', fits: (value) => typeof value === 'string' || isList(value) };

const modelMethods = ['createCache', 'prelude', 'initialState', 'step', 'normState', 'readout'];
const modelNumbers = ['vocabularySize', 'contextLength', 'meanRecurrence'];

const shapes: Readonly<Record<string, Shape>> = {
  model: {
    expected: `a LanguageModel with ${[...modelMethods, ...modelNumbers].join(', ')} and device`,
    fits: (value) =>
      has(value, 'function', modelMethods) && has(value, 'number', modelNumbers) && isObject((value as { device?: unknown }).device),
  },
  tokenizer: {
    expected: 'a TextCodec with encode, stream and stopTokens',
    fits: (value) => has(value, 'function', ['encode', 'stream']) && isList((value as { stopTokens?: unknown }).stopTokens),
  },
  signal: {
    expected: 'an AbortSignal',
    fits: (value) => has(value, 'function', ['throwIfAborted']) && typeof (value as { aborted?: unknown }).aborted === 'boolean',
  },
  prompt: text,
  continuation: text,
  prompts: {
    expected: 'a list of prompts, each a text or a list of token ids',
    fits: (value) => Array.isArray(value) && value.every(text.fits),
  },
  stopTokens: { expected: 'a list of token ids', fits: isList },
  stopStrings: {
    expected: 'a list of texts',
    fits: (value) => Array.isArray(value) && value.every((stop) => typeof stop === 'string'),
  },
  logitBias: {
    expected: 'a Map or an object from token ids to numbers',
    fits: (value) =>
      record.fits(value) &&
      (value instanceof Map ? [...value.values()] : Object.values(value as object)).every((bias) => typeof bias === 'number'),
  },
  processors: { expected: 'a list of functions', fits: (value) => Array.isArray(value) && value.every(callable.fits) },
  recurrences: {
    expected: 'a number, a function of the index of the token, or an object with tokensPerSecond or budgetMs',
    fits: (value) => number.fits(value) || callable.fits(value) || record.fits(value),
  },
  exit: { expected: 'an exit rule with begin', fits: (value) => has(value, 'function', ['begin']) },
  speculative: record,
  wavefront: record,
  hook: {
    expected: 'a function, or an object with functions before or after',
    fits: (value) =>
      callable.fits(value) ||
      (record.fits(value) && Object.entries(value as object).every(([name, f]) => ['before', 'after'].includes(name) && callable.fits(f))),
  },
  ...Object.fromEntries(
    [
      ...[
        'maxNewTokens',
        'temperature',
        'topK',
        'topP',
        'minP',
        'repetitionPenalty',
        'presencePenalty',
        'frequencyPenalty',
        'alternatives',
      ],
      ...['seed', 'stateSeed', 'initScale', 'prefillChunk', 'samples', 'sequences', 'readAhead', 'chunk', 'top'],
    ].map((name) => [name, number]),
  ),
};

/**
 * Refuses options of another type than declared, which callers without TypeScript may give. `needed` must be there. An option that is
 * undefined counts as absent. Throws OptionError.
 */
export function checkShapes(who: string, options: object, needed: readonly string[]): void {
  if (!isObject(options)) throw new OptionError(`${who}: expected an object of options with ${needed.join(' and ')}; got ${show(options)}`);
  for (const name of new Set([...needed, ...Object.keys(options)])) {
    const shape = shapes[name];
    const value = options[name];
    if (shape === undefined || (value === undefined && !needed.includes(name))) continue;
    if (!shape.fits(value)) throw new OptionError(`${who}: ${name} must be ${shape.expected}; got ${show(value)}`);
  }
}
