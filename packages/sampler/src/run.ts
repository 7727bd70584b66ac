import type { Tensor } from '@unroll/tensor';
import type { ExitRule } from './exit.js';
import type { CacheUsage, LanguageModel, ModelCache, TextCodec } from './language-model.js';
import type { SamplingOptions } from './sampling.js';
import type { SpeculativeOptions } from './speculative.js';
import type { WavefrontOptions } from './wavefront.js';

/** What a hook sees around a recurrence. The tensors are the run's: copy what is to be kept. */
export interface RecurrenceEvent {
  /** The recurrence that has just run, or is about to, from 1. */
  readonly recurrence: number;
  /** s_i (B, T, C), before ln_f: what the recurrence gave, or what it will start from. */
  readonly state: Tensor;
  /** (B, T, C) */
  readonly e: Tensor;
  /** (B, T) row by row, -1 for padding. */
  readonly positions: Int32Array;
}

/** What takes the place of a state and of e (B, T, C); e stays replaced for the rest of the call. The tensors are the run's from then on. */
export interface Intervention {
  readonly state?: Tensor;
  readonly e?: Tensor;
}

/** Looks, or intervenes: a tensor alone is a state. Not asynchronous. */
export type RecurrenceListener = ((event: RecurrenceEvent) => Tensor | Intervention) | ((event: RecurrenceEvent) => void);

/** Called after every recurrence; or `before` every recurrence, the first included, and `after` it. */
export type RecurrenceHook = RecurrenceListener | { readonly before?: RecurrenceListener; readonly after?: RecurrenceListener };

export type WarmStart = 'norm-state' | 'state';

/** Depth by the index of the token that is generated; 0 is the first, whose depth the prompt has too. */
export type DepthByToken = (index: number) => number;

/** How recurrences run: what every strategy shares. */
export interface Engine {
  readonly model: LanguageModel;
  readonly cache: ModelCache;
  readonly initScale: number;
  readonly hook: RecurrenceHook | undefined;
  readonly signal: AbortSignal | undefined;
  readonly tally: Tally;
}

/** Counts of a run. */
export interface Tally {
  /** Core passes: calls of `step`, whatever the number of positions in them. */
  corePasses: number;
  /** Positions that went through the core, summed over passes. */
  corePositions: number;
  drafted: number;
  accepted: number;
  rounds: number;
  recurrencesPerPosition: number[] | undefined;
  frozenInRound: number[];
}

export const emptyTally = (): Tally => ({
  corePasses: 0,
  corePositions: 0,
  drafted: 0,
  accepted: 0,
  rounds: 0,
  recurrencesPerPosition: undefined,
  frozenInRound: [],
});

/** One sequence that is being continued. */
export interface Lane {
  /** Row in the caller's list of prompts. */
  readonly index: number;
  /** Sequence of the cache. */
  readonly sequence: number;
  readonly promptLength: number;
  /** Most new tokens. */
  readonly limit: number;
  /** Prompt and what was generated so far; whoever consumes a strategy appends. */
  readonly tokens: number[];
  /** Depth of each prompt token that has run; those that the cache had are not among them. */
  readonly promptRecurrences: number[];
  /** Keys the sampling noise. */
  readonly seed: number;
  /** Keys the initial state. */
  readonly stateSeed: number;
  done: boolean;
}

/** A lane that has a prompt and nothing else yet; the first of its cache, and with the seed's states, unless said otherwise. */
export const newLane = (
  prompt: readonly number[],
  {
    seed,
    stateSeed = seed,
    index = 0,
    sequence = index,
    limit = 0,
  }: { readonly seed: number } & Partial<Pick<Lane, 'stateSeed' | 'index' | 'sequence' | 'limit'>>,
): Lane => ({
  index,
  sequence,
  promptLength: prompt.length,
  limit,
  tokens: [...prompt],
  promptRecurrences: [],
  seed,
  stateSeed,
  done: false,
});

/** The options of a run, checked, with defaults in place. */
export interface Run {
  readonly model: LanguageModel;
  readonly tokenizer: TextCodec | undefined;
  readonly maxNewTokens: readonly number[];
  readonly depth: DepthByToken;
  /** All tokens have the same depth, which is known beforehand. */
  readonly oneDepth: boolean;
  readonly exit: ExitRule | undefined;
  readonly warmStart: WarmStart | undefined;
  readonly speculative: SpeculativeOptions | undefined;
  readonly wavefront: WavefrontOptions | undefined;
  readonly sampling: SamplingOptions;
  readonly initScale: number;
  readonly stopTokens: ReadonlySet<number>;
  readonly stopStrings: readonly string[];
  readonly prefillChunk: number;
  /** Every token has a report, not the last alone. */
  readonly reportsEvery: boolean;
  readonly hook: RecurrenceHook | undefined;
  readonly signal: AbortSignal | undefined;
}

export interface RunReport {
  readonly promptTokens: number;
  /** Prompt tokens whose keys a session had from earlier turns. */
  readonly cachedTokens: number;
  /** Tokens that a session's sliding window dropped from the prompt's beginning. */
  readonly droppedTokens: number;
  readonly newTokens: number;
  /** Calls of the core, prefill included; in a batch, of all its sequences together. */
  readonly corePasses: number;
  /** Positions that went through the core, summed over its calls. */
  readonly corePositions: number;
  /** Mean over the new tokens. */
  readonly meanRecurrences: number;
  /** With a rule that acts in the prompt: the depth of each prompt token that ran. */
  readonly promptRecurrences?: readonly number[];
  /** Speculative decoding: drafts made, and those that verification accepted. */
  readonly speculation?: { readonly rounds: number; readonly drafted: number; readonly accepted: number };
  /** Wavefront: rounds after the prefill, and the core passes of each frozen position, prompt included. */
  readonly wavefront?: {
    readonly rounds: number;
    readonly recurrencesPerPosition: readonly number[];
    /** The round, from 1, in which each new token became final; 0 for the first, which the prefill gives. */
    readonly frozenInRound: readonly number[];
  };
  readonly cache: CacheUsage;
}
