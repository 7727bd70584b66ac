import { OptionError } from '@unroll/tensor';
import type { ExitRule } from './exit.js';
import type { CacheUse, LanguageModel, ModelCache, TextCodec } from './language-model.js';
import type { LogitsProcessor } from './penalties.js';
import type { DepthByToken, RecurrenceHook, Run, WarmStart } from './run.js';
import type { SamplingOptions } from './sampling.js';
import { parseSpeculative, type SpeculativeOptions } from './speculative.js';
import { controllerFor, type TargetDepthOptions } from './target-depth.js';
import { parseWavefront, type WavefrontOptions } from './wavefront.js';

/** Options of every way of generating. */
export interface CommonOptions {
  readonly model: LanguageModel;
  /** Needed for a text prompt, for text in the results, and for stop strings. */
  readonly tokenizer?: TextCodec;
  /** Most tokens to generate; what fits in the context and in the memory of the device, up to 256, when absent. */
  readonly maxNewTokens?: number;
  /** Tokens that end the text; the tokenizer's when absent. */
  readonly stopTokens?: readonly number[];
  /** Texts that end the text and are not part of it, however tokens cut them. */
  readonly stopStrings?: readonly string[];

  /**
   * Depth r of every token, prompt included; or by the index of the new token (the prompt has the depth of token 0), asked once for each
   * when its turn comes, so that it may change while tokens stream; or a target, for which a controller (`targetDepth`) picks depths. The
   * model's mean when absent.
   */
  readonly recurrences?: number | DepthByToken | TargetDepthOptions;
  /** Stops each token's recurrence by itself, at most `recurrences` deep. */
  readonly exit?: ExitRule;
  /**
   * Starts each new token's recurrence from the last position's final state instead of a fresh one (continuous chain of thought):
   * `norm-state` carries ln_f(s_r), as the reference's plain path does, `state` carries s_r, as its adaptive path does. The prompt
   * starts fresh.
   */
  readonly warmStart?: WarmStart;
  /** Draft with few recurrences, verify several tokens in one pass. */
  readonly speculative?: SpeculativeOptions;
  /** Refine a window of tokens together (diffusion forcing, arXiv 2510.14961). */
  readonly wavefront?: WavefrontOptions;

  /** 0 (the default) takes the most likely token. */
  readonly temperature?: number;
  /** Keep the k most likely tokens. */
  readonly topK?: number;
  /** Keep the most likely tokens until their probabilities reach p; the token that crosses p is kept. */
  readonly topP?: number;
  /** Keep tokens of at least this share of the most likely token's probability. */
  readonly minP?: number;
  /** Divides positive and multiplies negative logits of tokens that prompt or text have; 1 (the default) does nothing. */
  readonly repetitionPenalty?: number;
  /** Subtracted from the logits of tokens that the generated text has. */
  readonly presencePenalty?: number;
  /** Subtracted from a token's logit once for each time that the generated text has it. */
  readonly frequencyPenalty?: number;
  /** Added to logits, by token id; -Infinity bans a token. */
  readonly logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number>;
  /** Functions that change the logits before temperature and filters. */
  readonly processors?: readonly LogitsProcessor[];
  /** How many of the most likely tokens to report beside each chosen one. */
  readonly alternatives?: number;
  /** `auto` chooses on the device where it can; `host` reads all logits back. The same tokens come out. */
  readonly sampleOn?: 'auto' | 'host';

  /** false leaves each token's `logprob` NaN, and its number is then all that comes back from the device. */
  readonly logprobs?: boolean;
  /** Keys the sampling noise and the initial state: same seed, same text. */
  readonly seed?: number;
  /** Keys the initial state alone; `seed` when absent. */
  readonly stateSeed?: number;
  /** Multiplies the initial state; 0 starts from zeros. */
  readonly initScale?: number;
  /**
   * Prompt tokens per forward pass. The text does not depend on it, but where the KV policy reads beyond a loop's own keys
   * (`always-last`, `last-only`, compression), or where the prompt exits early: each pass decides for itself, and the default is one.
   */
  readonly prefillChunk?: number;
  /** Which keys are kept and read; whatever the model's caches understand, such as the name of a policy. Not with `cache`, which has its own. */
  readonly policy?: unknown;
  /**
   * Which tokens carry a `report`: the `last` alone (the default), or `every` one, whose counts are those so far. Where a step is begun
   * before its token is read (fixed depth on WebGPU), they include that step.
   */
  readonly reports?: 'last' | 'every';
  /** Sees, and may replace, the state after every recurrence. */
  readonly hook?: RecurrenceHook;
  readonly signal?: AbortSignal;
}

export const commonNames = [
  'model',
  'tokenizer',
  'maxNewTokens',
  'stopTokens',
  'stopStrings',
  'recurrences',
  'exit',
  'warmStart',
  'speculative',
  'wavefront',
  'temperature',
  'topK',
  'topP',
  'minP',
  'repetitionPenalty',
  'presencePenalty',
  'frequencyPenalty',
  'logitBias',
  'processors',
  'alternatives',
  'logprobs',
  'sampleOn',
  'seed',
  'stateSeed',
  'initScale',
  'prefillChunk',
  'policy',
  'reports',
  'hook',
  'signal',
] as const;

export function whole(who: string, name: string, value: number, least: number, most: number): number {
  if (!Number.isInteger(value) || value < least || value > most) {
    throw new OptionError(`${who}: ${name} must be a whole number from ${least} to ${most}; got ${value}`);
  }
  return value;
}

export function between(who: string, name: string, value: number, least: number, most: number): number {
  if (!(value >= least && value <= most)) throw new OptionError(`${who}: ${name} must be from ${least} to ${most}; got ${value}`);
  return value;
}

const deepest = 65536;

/** A prompt as tokens that fit the model. Throws OptionError. */
export function promptTokens(
  who: string,
  model: LanguageModel,
  tokenizer: TextCodec | undefined,
  prompt: string | readonly number[],
): readonly number[] {
  if (typeof prompt === 'string' && tokenizer === undefined)
    throw new OptionError(`${who}: a text prompt needs a tokenizer; give one, or give token ids`);
  const tokens = typeof prompt === 'string' ? tokenizer!.encode(prompt) : prompt;
  if (tokens.length === 0) throw new OptionError(`${who}: the prompt has no tokens; give at least one`);
  checkTokens(who, model, tokens);
  if (tokens.length >= model.contextLength) {
    throw new OptionError(
      `${who}: the prompt has ${tokens.length} tokens, which leaves no room in the context of ${model.contextLength}; shorten it`,
    );
  }
  return tokens;
}

export function checkTokens(who: string, model: LanguageModel, tokens: readonly number[]): void {
  const bad = tokens.find((token) => !Number.isInteger(token) || token < 0 || token >= model.vocabularySize);
  if (bad !== undefined)
    throw new OptionError(`${who}: token ${bad} is outside the vocabulary of ${model.vocabularySize}; is the tokenizer this model's?`);
}

/** Below the least, logits divided by it are beyond f32: a draw among infinities. */
function temperatureOf(who: string, given: number): number {
  const temperature = between(who, 'temperature', given, 0, 1e6);
  if (temperature > 0 && temperature < 1e-20)
    throw new OptionError(`${who}: temperature must be 0, for the most likely token, or from 1e-20 on; got ${temperature}`);
  return temperature;
}

function parseSampling(who: string, options: CommonOptions): SamplingOptions {
  const { logitBias, sampleOn = 'auto' } = options;
  const V = options.model.vocabularySize;
  if (sampleOn !== 'auto' && sampleOn !== 'host')
    throw new OptionError(`${who}: sampleOn must be "auto" or "host"; got ${JSON.stringify(sampleOn)}`);
  const bias =
    logitBias === undefined
      ? undefined
      : new Map(logitBias instanceof Map ? logitBias : Object.entries(logitBias).map(([id, value]) => [Number(id), value as number]));
  for (const [id, value] of bias ?? []) {
    whole(who, 'a token id of logitBias', id, 0, V - 1);
    if (Number.isNaN(value) || value === Number.POSITIVE_INFINITY)
      throw new OptionError(`${who}: the logitBias of token ${id} must be a number below Infinity; got ${value}`);
  }
  return {
    temperature: temperatureOf(who, options.temperature ?? 0),
    topK: options.topK === undefined ? undefined : Math.min(V, whole(who, 'topK', options.topK, 1, 2 ** 31)),
    topP: between(who, 'topP', options.topP ?? 1, Number.MIN_VALUE, 1),
    minP: between(who, 'minP', options.minP ?? 0, 0, 1),
    repetitionPenalty: between(who, 'repetitionPenalty', options.repetitionPenalty ?? 1, 0.01, 100),
    presencePenalty: between(who, 'presencePenalty', options.presencePenalty ?? 0, -100, 100),
    frequencyPenalty: between(who, 'frequencyPenalty', options.frequencyPenalty ?? 0, -100, 100),
    logitBias: bias === undefined || bias.size === 0 ? undefined : bias,
    processors: options.processors ?? [],
    alternatives: Math.min(V, whole(who, 'alternatives', options.alternatives ?? 0, 0, 1000)),
    logprobs: options.logprobs ?? true,
    where: sampleOn,
  };
}

/** Whether tokens may have different depths without an exit rule. */
const byToken = (recurrences: CommonOptions['recurrences']): recurrences is DepthByToken | TargetDepthOptions =>
  recurrences !== undefined && typeof recurrences !== 'number';

/** The depth that every token has at most; undefined where it is decided token by token. */
export const knownDepth = ({ recurrences, model }: CommonOptions): number | undefined =>
  byToken(recurrences) ? undefined : (recurrences ?? model.meanRecurrence);

/** One depth for all tokens, or a checked function of the token's index that asks once for each. `longest` is the most new tokens of a text. */
function parseDepth(who: string, { recurrences, model }: CommonOptions, longest: number): DepthByToken {
  if (!byToken(recurrences)) {
    const depth = whole(who, 'recurrences (depth)', recurrences ?? model.meanRecurrence, 1, deepest);
    return () => depth;
  }
  const ask = typeof recurrences === 'function' ? recurrences : controllerFor(recurrences, longest);
  const known = new Map<number, number>();
  return (index) => {
    const depth = known.get(index) ?? whole(who, `recurrences (depth) of token ${index}`, ask(index), 1, deepest);
    known.set(index, depth);
    return depth;
  };
}

function refuseImpossible(who: string, { exit, warmStart, speculative, wavefront, recurrences }: CommonOptions): void {
  const refuse = (condition: boolean, what: string, why: string) => {
    if (condition) throw new OptionError(`${who}: ${what} cannot be combined: ${why}`);
  };
  if (warmStart !== undefined && warmStart !== 'norm-state' && warmStart !== 'state') {
    throw new OptionError(`${who}: warmStart must be "norm-state" or "state"; got ${JSON.stringify(warmStart)}`);
  }
  const several = 'one pass runs several tokens';
  refuse(
    speculative !== undefined && wavefront !== undefined,
    'speculative and wavefront',
    'each decides by itself how tokens share a pass',
  );
  for (const [name, on] of [
    ['speculative', speculative !== undefined],
    ['wavefront', wavefront !== undefined],
  ] as const) {
    refuse(on && exit !== undefined, `exit and ${name}`, `${several}, and a rule would stop them all at once`);
    refuse(on && byToken(recurrences), `a depth by token and ${name}`, `${several}, which have one depth`);
    const instead = name === 'wavefront' ? '; wavefront.continuous copies states instead' : '';
    refuse(on && warmStart !== undefined, `warmStart and ${name}`, `${several}, so none can start where the one before it ends${instead}`);
  }
}

/** What the run asks of its cache. */
export function cacheUse({ exit, recurrences, speculative, wavefront }: CommonOptions): CacheUse {
  if (wavefront !== undefined) return 'wavefront';
  if (exit !== undefined || byToken(recurrences)) return 'mixed-depth';
  return speculative !== undefined && speculative.threshold === undefined ? 'parallel' : 'equal-depth';
}

/** Checks everything that can be checked before any work is done. Throws OptionError. */
export function parseRun(who: string, options: CommonOptions, prompts: readonly (readonly number[])[]): Run {
  const { model, tokenizer, stopStrings = [], exit } = options;
  refuseImpossible(who, options);
  if (stopStrings.length > 0 && tokenizer === undefined) throw new OptionError(`${who}: stopStrings need a tokenizer`);
  if (stopStrings.some((stop) => typeof stop !== 'string' || stop === '')) throw new OptionError(`${who}: stopStrings must not be empty`);
  checkTokens(who, model, options.stopTokens ?? []);
  const seed = whole(who, 'seed', options.seed ?? 0, 0, Number.MAX_SAFE_INTEGER);
  whole(who, 'stateSeed', options.stateSeed ?? seed, 0, Number.MAX_SAFE_INTEGER);
  const maxNewTokens = prompts.map((prompt) => {
    const room = model.contextLength - prompt.length;
    const most = whole(who, 'maxNewTokens', options.maxNewTokens ?? Math.min(256, room), 0, Number.MAX_SAFE_INTEGER);
    if (most > room) {
      throw new OptionError(
        `${who}: ${prompt.length} prompt tokens and ${most} new ones exceed the context of ${model.contextLength}; ask for at most ${room} new tokens`,
      );
    }
    return most;
  });
  const { reports = 'last' } = options;
  if (reports !== 'last' && reports !== 'every')
    throw new OptionError(`${who}: reports must be "last" or "every"; got ${JSON.stringify(reports)}`);
  const depth = parseDepth(who, options, Math.max(0, ...maxNewTokens));
  const onePass = exit?.inPrefill === true;
  return {
    model,
    tokenizer,
    maxNewTokens,
    depth,
    oneDepth: cacheUse(options) !== 'mixed-depth',
    exit,
    warmStart: options.warmStart,
    speculative: parseSpeculative(who, options.speculative, byToken(options.recurrences) ? deepest : depth(0)),
    wavefront: parseWavefront(who, options.wavefront),
    sampling: parseSampling(who, options),
    initScale: between(who, 'initScale', options.initScale ?? 1, 0, 1e6),
    stopTokens: new Set(options.stopTokens ?? tokenizer?.stopTokens ?? []),
    stopStrings,
    prefillChunk: whole(who, 'prefillChunk', options.prefillChunk ?? (onePass ? model.contextLength : 512), 1, 2 ** 31),
    reportsEvery: reports === 'every',
    hook: options.hook,
    signal: options.signal,
  };
}

/** The caller's cache after a check, or a new one. Throws OptionError. */
export function cacheFor(
  who: string,
  options: CommonOptions,
  batch: number,
  given?: ModelCache,
): { readonly cache: ModelCache; readonly owned: boolean } {
  const { model, policy } = options;
  const use = cacheUse(options);
  if (given === undefined) return { cache: model.createCache({ batch, use, ...(policy === undefined ? {} : { policy }) }), owned: true };
  if (policy !== undefined)
    throw new OptionError(`${who}: a cache has a policy of its own; give policy to createCache, or leave cache out`);
  const tokens = given.usage().tokens;
  if (given.batch !== batch || tokens !== 0) {
    throw new OptionError(
      `${who}: cache must be empty and for ${batch} sequence(s); got one for ${given.batch} with ${tokens} tokens. Call truncate(0), or give another`,
    );
  }
  const reason = given.refusal(use);
  if (reason !== undefined) throw new OptionError(`${who}: the cache's policy cannot serve ${use}: ${reason}`);
  return { cache: given, owned: false };
}
