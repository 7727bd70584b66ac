import type { Tensor } from '@unroll/tensor';
import type { ExitRule } from './exit.js';
import type { CacheUsage, LanguageModel, ModelCache, TextCodec } from './language-model.js';
import type { SamplingOptions } from './sampling.js';
import type { SpeculativeOptions } from './speculative.js';
import type { WavefrontOptions } from './wavefront.js';

/** What a hook sees after a recurrence. The tensors are the run's: copy what is to be kept. */
export interface RecurrenceEvent {
  /** The recurrence that has just run, from 1. */
  readonly recurrence: number;
  /** s_i (B, T, C), before ln_f. */
  readonly state: Tensor;
  /** (B, T, C) */
  readonly e: Tensor;
  /** (B, T) row by row, -1 for padding. */
  readonly positions: Int32Array;
}

/** Called after every recurrence; a tensor (B, T, C) that it returns takes the state's place and is the run's from then on. Not asynchronous. */
export type RecurrenceHook = ((event: RecurrenceEvent) => Tensor) | ((event: RecurrenceEvent) => void);

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
}

export const emptyTally = (): Tally => ({
  corePasses: 0,
  corePositions: 0,
  drafted: 0,
  accepted: 0,
  rounds: 0,
  recurrencesPerPosition: undefined,
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
): Lane => ({ index, sequence, promptLength: prompt.length, limit, tokens: [...prompt], seed, stateSeed, done: false });

/** The options of a run, checked, with defaults in place. */
export interface Run {
  readonly model: LanguageModel;
  readonly tokenizer: TextCodec | undefined;
  readonly maxNewTokens: readonly number[];
  readonly depth: DepthByToken;
  readonly exit: ExitRule | undefined;
  readonly warmStart: WarmStart | undefined;
  readonly speculative: SpeculativeOptions | undefined;
  readonly wavefront: WavefrontOptions | undefined;
  readonly sampling: SamplingOptions;
  readonly initScale: number;
  readonly stopTokens: ReadonlySet<number>;
  readonly stopStrings: readonly string[];
  readonly prefillChunk: number;
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
  /** Speculative decoding: drafts made, and those that verification accepted. */
  readonly speculation?: { readonly rounds: number; readonly drafted: number; readonly accepted: number };
  /** Wavefront: rounds after the prefill, and recurrences of each frozen position, prompt included. */
  readonly wavefront?: { readonly rounds: number; readonly recurrencesPerPosition: readonly number[] };
  readonly cache: CacheUsage;
}
