import { gatherRows, OptionError, reshape, showShape, slice, type Tensor, tidy } from '@unroll/tensor';
import type { ExitRecord, ExitRule } from './exit.js';
import type { ModelPass } from './language-model.js';
import type { Engine, Lane } from './run.js';

/** One call of the model: (B, T) tokens of B lanes. */
export interface Call {
  readonly lanes: readonly Lane[];
  /** (B, T) row by row. */
  readonly tokens: Int32Array;
  /** (B, T), -1 for padding. */
  readonly positions: Int32Array;
  readonly depth: number;
  /** Stops each lane by itself, at most `depth` deep. */
  readonly exit?: ExitRule | undefined;
  /** (B, T, C) to start from; drawn by (seed, position, channel) when absent. Stays the caller's. */
  readonly start?: Tensor | undefined;
  /** Recurrences that `start` has behind it, whose keys the cache holds; 0 when absent. */
  readonly from?: number;
  /** Which columns' logits are wanted. The coda runs over all of them, whose keys later tokens read. */
  readonly readout: 'last' | 'all';
}

/** What a call gives; the caller disposes the tensors. */
export interface Thought {
  /** (B, V), or (B T, V). */
  readonly logits: Tensor<'f32'>;
  /** Final s (B, 1, C) of the last column. */
  readonly state: Tensor;
  /** Recurrences of each lane. */
  readonly depths: readonly number[];
  readonly exits: readonly (ExitRecord | undefined)[];
}

/** One recurrence, with the hook applied and counted. Inside a tidy. */
export function recur(engine: Engine, e: Tensor, state: Tensor, loop: number | readonly number[], pass: ModelPass): Tensor {
  const { model, hook, tally } = engine;
  tally.corePasses++;
  tally.corePositions += pass.positions.reduce((n, position) => n + (position < 0 ? 0 : 1), 0);
  const next = model.step(e, state, loop, pass);
  if (hook === undefined) return next;
  const recurrence = (typeof loop === 'number' ? loop : Math.max(...loop)) + 1;
  const replaced = hook({ recurrence, state: next, e, positions: pass.positions });
  if (replaced === undefined) return next;
  if (showShape(replaced.shape) !== showShape(next.shape)) {
    throw new OptionError(`generate: the hook must return ${showShape(next.shape)}; got ${showShape(replaced.shape)}`);
  }
  return replaced;
}

export const sequencesOf = (call: Call): number[] => call.lanes.map((lane) => lane.sequence);

/** Opens the pass of a call, with e and the states that it starts from (B, T, C). */
export function open(engine: Engine, call: Call): { pass: ModelPass; e: Tensor; state: Tensor } {
  const { model, cache, initScale } = engine;
  const pass = cache.begin(call.positions, sequencesOf(call));
  try {
    return tidy(model.device, () => {
      const e = model.prelude(model.device.tensor(call.tokens, [call.lanes.length, pass.length], { dtype: 'i32' }), pass);
      const state = call.start ?? model.initialState(pass, { seed: call.lanes.map((lane) => lane.stateSeed), scale: initScale });
      return { pass, e, state };
    });
  } catch (error) {
    pass.dispose();
    throw error;
  }
}

export function readLogits(engine: Engine, state: Tensor, pass: ModelPass, readout: 'last' | 'all'): Tensor<'f32'> {
  const logits = engine.model.readout(state, pass, { positions: readout });
  return reshape(logits, [logits.size / engine.model.vocabularySize, engine.model.vocabularySize]) as Tensor<'f32'>;
}

export const lastColumn = (state: Tensor): Tensor => slice(state, 1, state.shape[1]! - 1, state.shape[1]!);

/** Rows of x (B, ...) in the order given. */
export function takeRows<T extends Tensor>(x: T, rows: readonly number[]): T {
  return tidy(x.device, () => {
    const B = x.shape[0]!;
    const taken = gatherRows(reshape(x, [B, x.size / Math.max(1, B)]), x.device.tensor(rows, [rows.length], { dtype: 'i32' }));
    return reshape(taken, [rows.length, ...x.shape.slice(1)]) as T;
  });
}
