import { gatherRows, OptionError, refuseUnknownOptions, reshape, showShape, slice, type Tensor, tidy } from '@unroll/tensor';
import type { ExitRecord, ExitRule } from './exit.js';
import type { ModelPass } from './language-model.js';
import type { Engine, Intervention, Lane, RecurrenceEvent, RecurrenceHook, RecurrenceListener } from './run.js';

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
  /** Every position stops by itself, instead of all of a lane together. */
  readonly byPosition?: boolean;
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
  /** Recurrences of each of a lane's positions, where they stopped by themselves. */
  readonly positionDepths?: readonly (readonly number[])[];
}

/** Asks a listener, and gives what runs on. Throws OptionError for tensors of another shape. */
function intervene(listener: RecurrenceListener | undefined, event: RecurrenceEvent): { readonly e: Tensor; readonly state: Tensor } {
  const { e, state } = event;
  const answer = listener?.(event);
  if (answer === undefined) return { e, state };
  const given: Intervention = 'storage' in answer ? { state: answer } : answer;
  refuseUnknownOptions('generate: what the hook returned', given, ['state', 'e']);
  for (const tensor of [given.state, given.e]) {
    if (tensor !== undefined && showShape(tensor.shape) !== showShape(state.shape))
      throw new OptionError(`generate: the hook must return ${showShape(state.shape)}; got ${showShape(tensor.shape)}`);
  }
  return { e: given.e ?? e, state: given.state ?? state };
}

/** How many recurrences a run does at once. */
const loopsAtOnce = new WeakMap<Engine, number>();
const fewMilliseconds = 4;

/** The positions of a pass on their way through the core: e and state (B, T, C), which it owns, but for a state that is `lent`. */
export class Course {
  constructor(
    readonly engine: Engine,
    readonly pass: ModelPass,
    public e: Tensor,
    public state: Tensor,
    private readonly lent?: Tensor,
  ) {}

  /** One recurrence, with the hook applied and counted; `loop` counts from 0. */
  advance(loop: number): void {
    const { model, hook, tally } = this.engine;
    const { pass } = this;
    const { before, after }: Exclude<RecurrenceHook, RecurrenceListener> = typeof hook === 'function' ? { after: hook } : (hook ?? {});
    const next = tidy(model.device, () => {
      const given = intervene(before, { recurrence: loop + 1, state: this.state, e: this.e, positions: pass.positions });
      const state = model.step(given.e, given.state, loop, pass);
      const result = intervene(after, { recurrence: loop + 1, state, e: given.e, positions: pass.positions });
      // What a hook gives may come from outside of this scope, which then does not free it.
      if (given.state !== this.state && given.state !== result.state) given.state.dispose();
      if (given.e !== this.e && given.e !== result.e) given.e.dispose();
      return result;
    });
    tally.corePasses++;
    tally.corePositions += pass.positions.reduce((n, position) => n + (position < 0 ? 0 : 1), 0);
    this.become(next.e, next.state);
  }

  /**
   * Recurrences from `loop` on, at most up to `end`; gives the one to go on with. Without a hook, as many at once as took a few milliseconds
   * the last time, so that aborts and timers keep waiting no longer than that.
   */
  advanceSome(loop: number, end: number): number {
    const { engine, pass } = this;
    const { model, hook, tally } = engine;
    if (hook !== undefined || model.steps === undefined) {
      this.advance(loop);
      return loop + 1;
    }
    const atOnce = loopsAtOnce.get(engine) ?? 1;
    const to = Math.min(end, loop + atOnce);
    const started = performance.now();
    const state = model.steps(this.e, this.state, { from: loop, to }, pass);
    if (to - loop === atOnce && performance.now() - started < fewMilliseconds) loopsAtOnce.set(engine, 2 * atOnce);
    tally.corePasses += to - loop;
    tally.corePositions += (to - loop) * pass.positions.reduce((n, position) => n + (position < 0 ? 0 : 1), 0);
    this.become(this.e, state);
    return to;
  }

  /** Goes on with these. */
  become(e: Tensor, state: Tensor): void {
    if (e !== this.e) this.e.dispose();
    if (state !== this.state && this.state !== this.lent) this.state.dispose();
    [this.e, this.state] = [e, state];
  }

  dispose(): void {
    this.e.dispose();
    if (this.state !== this.lent) this.state.dispose();
  }
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
