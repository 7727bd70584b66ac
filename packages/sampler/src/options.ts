import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import type { LanguageModel, ModelCache, TextCodec } from './language-model.js';

export interface GenerateOptions {
  readonly model: LanguageModel;
  /** Needed for a text prompt and for text in the results. */
  readonly tokenizer?: TextCodec;
  readonly prompt: string | readonly number[];
  /** Depth r of every token, prompt included; the model's mean when absent. */
  readonly recurrences?: number;
  /** Most tokens to generate; what fits, up to 256, when absent. */
  readonly maxNewTokens?: number;
  /** 0 (the default) takes the most likely token. */
  readonly temperature?: number;
  /** Keep the k most likely tokens. */
  readonly topK?: number;
  /** Keep the most likely tokens until their probabilities reach p; the token that crosses p is kept. */
  readonly topP?: number;
  /** Keys the initial state and the sampling noise: same seed, same text. */
  readonly seed?: number;
  /** Multiplies the initial state; 0 starts from zeros. */
  readonly initScale?: number;
  /** Tokens that end the text; the tokenizer's when absent. */
  readonly stopTokens?: readonly number[];
  /** Prompt tokens per forward pass. The text does not depend on it. */
  readonly prefillChunk?: number;
  /**
   * Starts each new token's recurrence from the last position's final state instead of a fresh one (continuous chain of thought):
   * `norm-state` carries ln_f(s_r), as the reference's plain path does, `state` carries s_r, as its adaptive path does. The prompt
   * starts fresh.
   */
  readonly warmStart?: WarmStart;
  /** Which keys are kept and read; whatever the model's caches understand. Not with `cache`, which has its own. */
  readonly policy?: unknown;
  /** An empty cache of the model for one sequence. It stays the caller's: read its `usage()` afterwards, and dispose it. */
  readonly cache?: ModelCache;
  readonly signal?: AbortSignal;
}

export type WarmStart = 'norm-state' | 'state';

const known = [
  'model',
  'tokenizer',
  'prompt',
  'recurrences',
  'maxNewTokens',
  'temperature',
  'topK',
  'topP',
  'seed',
  'initScale',
  'stopTokens',
  'prefillChunk',
  'warmStart',
  'policy',
  'cache',
  'signal',
];

/** The options of a run, checked, with defaults in place. */
export interface Run {
  readonly model: LanguageModel;
  readonly tokenizer: TextCodec | undefined;
  readonly prompt: readonly number[];
  readonly recurrences: number;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly seed: number;
  readonly initScale: number;
  readonly stopTokens: ReadonlySet<number>;
  readonly prefillChunk: number;
  readonly warmStart: WarmStart | undefined;
  readonly policy: unknown;
  readonly cache: ModelCache | undefined;
  readonly signal: AbortSignal | undefined;
}

function whole(name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new OptionError(`generate: ${name} must be a whole number from ${least} to ${most}; got ${value}`);
  }
  return value;
}

function between(name: string, value: number, least: number, most: number): number {
  if (!(value >= least && value <= most)) throw new OptionError(`generate: ${name} must be from ${least} to ${most}; got ${value}`);
  return value;
}

function promptTokens({ model, tokenizer, prompt }: GenerateOptions): readonly number[] {
  let tokens: readonly number[];
  if (typeof prompt !== 'string') tokens = prompt;
  else if (tokenizer === undefined) throw new OptionError('generate: a text prompt needs a tokenizer; give one, or give token ids');
  else tokens = tokenizer.encode(prompt);
  if (tokens.length === 0) throw new OptionError('generate: the prompt has no tokens; give at least one');
  const bad = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= model.vocabularySize);
  if (bad !== undefined) throw new OptionError(`generate: token ${bad} is outside the vocabulary of ${model.vocabularySize}; is the tokenizer this model's?`);
  if (tokens.length >= model.contextLength) {
    throw new OptionError(`generate: the prompt has ${tokens.length} tokens, which leaves no room in the context of ${model.contextLength}; shorten it`);
  }
  return tokens;
}

function checkCache({ cache, policy, warmStart }: GenerateOptions): void {
  if (warmStart !== undefined && warmStart !== 'norm-state' && warmStart !== 'state') {
    throw new OptionError(`generate: warmStart must be "norm-state" or "state"; got ${JSON.stringify(warmStart)}`);
  }
  if (cache === undefined) return;
  if (policy !== undefined) throw new OptionError('generate: a cache has a policy of its own; give policy to createCache, or leave cache out');
  if (cache.batch !== 1 || cache.length() !== 0) {
    throw new OptionError(`generate: cache must be empty and for one sequence; got ${cache.batch} sequences, ${cache.length()} tokens. Call truncate(0), or give another`);
  }
}

/** Checks everything before any work is done. Throws OptionError. */
export function parseOptions(options: GenerateOptions): Run {
  refuseUnknownOptions('generate', options, known);
  const { model, tokenizer } = options;
  const prompt = promptTokens(options);
  checkCache(options);
  const room = model.contextLength - prompt.length;
  const maxNewTokens = whole('maxNewTokens', options.maxNewTokens ?? Math.min(256, room), 0, Number.MAX_SAFE_INTEGER);
  if (maxNewTokens > room) {
    throw new OptionError(
      `generate: ${prompt.length} prompt tokens and ${maxNewTokens} new ones exceed the context of ${model.contextLength}; ask for at most ${room} new tokens`,
    );
  }
  return {
    model,
    tokenizer,
    prompt,
    recurrences: whole('recurrences (depth)', options.recurrences ?? model.meanRecurrence, 1, 65536),
    maxNewTokens,
    temperature: between('temperature', options.temperature ?? 0, 0, 1e6),
    topK: options.topK === undefined ? model.vocabularySize : Math.min(model.vocabularySize, whole('topK', options.topK, 1, 2 ** 31)),
    topP: between('topP', options.topP ?? 1, Number.MIN_VALUE, 1),
    seed: whole('seed', options.seed ?? 0, 0, Number.MAX_SAFE_INTEGER),
    initScale: between('initScale', options.initScale ?? 1, 0, 1e6),
    stopTokens: new Set(options.stopTokens ?? tokenizer?.stopTokens ?? []),
    prefillChunk: whole('prefillChunk', options.prefillChunk ?? 512, 1, 2 ** 31),
    warmStart: options.warmStart,
    policy: options.policy,
    cache: options.cache,
    signal: options.signal,
  };
}
