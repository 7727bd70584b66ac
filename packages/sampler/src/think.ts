import { concat, gatherRows, keep, OptionError, reshape, showShape, slice, type Tensor, tidy } from '@unroll/tensor';
import type { ExitRecord, ExitRule, ExitTest } from './exit.js';
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

const sequencesOf = (call: Call): number[] => call.lanes.map((lane) => lane.sequence);

function open(engine: Engine, call: Call): { pass: ModelPass; e: Tensor; state: Tensor } {
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

function readLogits(engine: Engine, state: Tensor, pass: ModelPass, readout: 'last' | 'all'): Tensor<'f32'> {
  const logits = engine.model.readout(state, pass, { positions: readout });
  return reshape(logits, [logits.size / engine.model.vocabularySize, engine.model.vocabularySize]) as Tensor<'f32'>;
}

const lastColumn = (state: Tensor): Tensor => slice(state, 1, state.shape[1]! - 1, state.shape[1]!);

/** Runs a call to its depth, or until each lane's exit rule stops it. */
export function think(engine: Engine, call: Call): Thought | Promise<Thought> {
  if (call.exit !== undefined) return thinkAdaptively(engine, call, call.exit);
  const { device } = engine.model;
  return tidy(device, () => {
    const { pass, e, state: start } = open(engine, call);
    try {
      let state = start;
      for (let loop = 0; loop < call.depth; loop++) {
        const next = tidy(device, () => recur(engine, e, state, loop, pass));
        if (state !== call.start && state !== next) state.dispose();
        state = next;
      }
      const logits = readLogits(engine, state, pass, call.readout);
      return { logits, state: lastColumn(state), depths: call.lanes.map(() => call.depth), exits: call.lanes.map(() => undefined) };
    } finally {
      pass.dispose();
    }
  });
}

/** Rows b of x (B, ...) in the order given. */
function takeRows(x: Tensor, rows: readonly number[]): Tensor {
  return tidy(x.device, () => {
    const width = x.size / Math.max(1, x.shape[0]!);
    const taken = gatherRows(reshape(x, [x.shape[0]!, width]), x.device.tensor(rows, [rows.length], { dtype: 'i32' }));
    return reshape(taken, [rows.length, ...x.shape.slice(1)]);
  });
}

/** A lane's own (T', C) of the state (B, T, C), without its padding. */
function laneState(state: Tensor, row: number, positions: Int32Array): Tensor {
  const [, T, C] = state.shape as [number, number, number];
  const padding = positions.subarray(row * T, (row + 1) * T).findIndex((position) => position >= 0);
  return tidy(state.device, () => {
    const own = reshape(slice(state, 0, row, row + 1), [T, C]);
    return padding > 0 ? slice(own, 0, padding, T) : own;
  });
}

// Each lane has a test of its own and leaves the pass when it exits: what stays behind costs nothing more, and no deeper keys are
// written for it. The lanes meet again for the coda, which has no loops.
async function thinkAdaptively(engine: Engine, call: Call, rule: ExitRule): Promise<Thought> {
  const { model, cache, signal } = engine;
  const { device } = model;
  const B = call.lanes.length;
  const T = call.positions.length / B;
  const depths = new Array<number>(B).fill(call.depth);
  const exits = new Array<ExitRecord | undefined>(B).fill(undefined);
  const values = call.lanes.map((): number[] => []);
  const final = new Array<Tensor | undefined>(B).fill(undefined);
  const finalLogits = new Array<Tensor | undefined>(B).fill(undefined);
  let live = call.lanes.map((_, b) => b);
  const tests: ExitTest[] = [];
  let { pass, e, state } = open(engine, call);
  let owned = state !== call.start;
  let logits: Tensor<'f32'> | undefined;
  const rowsOf = (b: number) => call.positions.subarray(b * T, (b + 1) * T);
  try {
    for (const b of live) {
      const start = laneState(state, b, pass.positions);
      try {
        tests.push(rule.begin(start, model));
      } finally {
        start.dispose();
      }
    }
    for (let loop = 0; loop < call.depth && live.length > 0; loop++) {
      signal?.throwIfAborted();
      const next = tidy(device, () => recur(engine, e, state, loop, pass));
      if (owned) state.dispose();
      [state, owned] = [next, true];
      const recurrence = loop + 1;
      if (recurrence < rule.minRecurrences || (recurrence - rule.minRecurrences) % rule.every !== 0) continue;
      logits?.dispose();
      logits = undefined;
      const readAll = (): Tensor<'f32'> => (logits ??= keep(tidy(device, () => readLogits(engine, state, pass, 'last'))));
      const left: number[] = [];
      for (const [row, b] of live.entries()) {
        const own = laneState(state, row, pass.positions);
        const made: Tensor[] = [own];
        try {
          const reading = await tests[b]!.check({
            recurrence,
            state: own,
            logits: () => {
              const one = slice(readAll(), 0, row, row + 1);
              made.push(one);
              return one;
            },
          });
          values[b]!.push(reading.value);
          if (!reading.exit) left.push(row);
          else {
            depths[b] = recurrence;
            exits[b] = { rule: rule.name, value: reading.value, values: values[b]! };
          }
        } finally {
          for (const tensor of made) tensor.dispose();
        }
      }
      const read = logits as Tensor<'f32'> | undefined;
      if (left.length === live.length) continue;
      for (const [row, b] of live.entries()) {
        if (left.includes(row)) continue;
        final[b] = takeRows(state, [row]);
        if (read !== undefined && call.readout === 'last') finalLogits[b] = takeRows(read, [row]);
      }
      const staying = left.map((row) => live[row]!);
      if (staying.length > 0) {
        const [fewer, fewerE] = [takeRows(state, left), takeRows(e, left)];
        state.dispose();
        e.dispose();
        [state, e] = [fewer, fewerE];
        pass.dispose();
        const positions = Int32Array.from(staying.flatMap((b) => [...rowsOf(b)]));
        pass = cache.begin(positions, staying.map((b) => call.lanes[b]!.sequence));
      }
      live = staying;
    }
    for (const [row, b] of live.entries()) {
      final[b] = takeRows(state, [row]);
      exits[b] = values[b]!.length > 0 ? { rule: rule.name, value: undefined, values: values[b]! } : undefined;
    }
    return finish();
  } finally {
    if (owned) state.dispose();
    e.dispose();
    logits?.dispose();
    pass.dispose();
    for (const test of tests) test.dispose();
    for (const tensor of [...final, ...finalLogits]) tensor?.dispose();
  }

  function finish(): Thought {
    return tidy(device, () => {
      const whole = concat(final as Tensor[], 0);
      const result = { state: lastColumn(whole), depths, exits };
      if (finalLogits.every((one) => one !== undefined)) return { ...result, logits: concat(finalLogits as Tensor<'f32'>[], 0) };
      const all = cache.begin(call.positions, sequencesOf(call));
      try {
        return { ...result, logits: readLogits(engine, whole, all, call.readout) };
      } finally {
        all.dispose();
      }
    });
  }
}
