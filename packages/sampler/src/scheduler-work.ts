import { reshape, type Tensor } from '@unroll/tensor';
import type { Emitter, GeneratedToken } from './emit.js';
import type { ExitWatch } from './exit-watch.js';
import type { CacheJournal } from './language-model.js';
import type { Lane, Run, Tally } from './run.js';

/** Some positions of one request on their way through the core. */
export interface Work {
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly depth: number;
  /** (1, T, C) */
  readonly e: Tensor;
  state: Tensor;
  loop: number;
  readonly watch: ExitWatch | undefined;
  /** Open where numbers of the watch come back later. */
  readonly journal: CacheJournal | undefined;
}

/** A check whose number is on its way. */
export interface Asked {
  readonly job: Job;
  readonly work: Work;
  readonly number: Tensor;
  readonly mark: number;
}

export interface Flight {
  readonly asked: readonly Asked[];
  readonly numbers: Promise<number[]>;
}

/** Readings of numbers that may be on their way at a time. */
export const mostFlights = 4;

export interface Job {
  readonly lane: Lane;
  readonly run: Run;
  readonly tally: Tally;
  readonly emitter: Emitter;
  readonly queue: GeneratedToken[];
  /** Tokens of the lane that have run. */
  done: number;
  work: Work | undefined;
  /** Final state (1, 1, C) of the last token, for warm starts. */
  last: Tensor | undefined;
  failure: { readonly error: unknown } | undefined;
}

export interface Waiting {
  readonly prompt: readonly number[];
  readonly run: Run;
  readonly seeds: { readonly seed: number; readonly stateSeed: number };
  job: Job | undefined;
}

export const isDeep = ({ loop, depth }: Work): boolean => loop >= depth;

/** (1, T, C) where it has ended, or is. */
export const finalState = ({ watch, state }: Work): Tensor =>
  watch?.ended === undefined ? state : reshape(watch.ended.state, [1, ...watch.ended.state.shape]);

/** (1, T, C) -> (T, C) */
export const flat = (state: Tensor): Tensor => reshape(state, state.shape.slice(1));
