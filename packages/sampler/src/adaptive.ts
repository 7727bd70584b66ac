import { concat, keep, reshape, slice, type Tensor, tidy } from '@unroll/tensor';
import { type Call, lastColumn, open, readLogits, recur, sequencesOf, type Thought, takeRows } from './call.js';
import type { ExitRecord, ExitRule, ExitTest } from './exit.js';
import type { ModelPass } from './language-model.js';
import { pause, pauseDue } from './pause.js';
import type { Engine } from './run.js';

/** One sequence of a call while its recurrences run, and what is left of it when they end. */
interface Row {
  /** Its place in the call. */
  readonly b: number;
  readonly test: ExitTest;
  readonly values: number[];
  depth: number;
  record: ExitRecord | undefined;
  /** (1, T, C) */
  state: Tensor | undefined;
  /** (1, V), where the rule read them at the end. */
  logits: Tensor<'f32'> | undefined;
}

/** A row's own (T', C) of the states (B, T, C), without its padding. */
function ownState(states: Tensor, at: number, positions: Int32Array): Tensor {
  const [, T, C] = states.shape as [number, number, number];
  const padding = positions.subarray(at * T, (at + 1) * T).findIndex((position) => position >= 0);
  return tidy(states.device, () => {
    const own = reshape(slice(states, 0, at, at + 1), [T, C]);
    return padding > 0 ? slice(own, 0, padding, T) : own;
  });
}

/** The rows that still run: one pass, their e and states (B', T, C), and the logits (B', V) if a rule asked for them. */
class LiveRows {
  logits: Tensor<'f32'> | undefined;
  #ownsState: boolean;

  constructor(
    private readonly engine: Engine,
    private readonly call: Call,
    public pass: ModelPass,
    public e: Tensor,
    public state: Tensor,
  ) {
    this.#ownsState = state !== call.start;
  }

  /** One recurrence of all. */
  advance(loop: number): void {
    const next = tidy(this.state.device, () => recur(this.engine, this.e, this.state, loop, this.pass));
    if (this.#ownsState) this.state.dispose();
    this.#ownsState = true;
    this.state = next;
    this.logits?.dispose();
    this.logits = undefined;
  }

  readLogits(): Tensor<'f32'> {
    this.logits ??= keep(tidy(this.state.device, () => readLogits(this.engine, this.state, this.pass, 'last')));
    return this.logits;
  }

  /** Goes on with the rows at these places alone. */
  narrow(places: readonly number[], rows: readonly Row[]): void {
    const [state, e] = [takeRows(this.state, places), takeRows(this.e, places)];
    this.dispose();
    this.#ownsState = true;
    this.logits = undefined;
    [this.state, this.e] = [state, e];
    const T = this.call.positions.length / this.call.lanes.length;
    const positions = Int32Array.from(rows.flatMap(({ b }) => [...this.call.positions.subarray(b * T, (b + 1) * T)]));
    this.pass = this.engine.cache.begin(
      positions,
      rows.map(({ b }) => this.call.lanes[b]!.sequence),
    );
  }

  dispose(): void {
    if (this.#ownsState) this.state.dispose();
    this.e.dispose();
    this.logits?.dispose();
    this.pass.dispose();
  }
}

/** Asks a row's rule. The record says what it answered; `value` stays open where it goes on. */
async function ask(live: LiveRows, row: Row, place: number, recurrence: number, rule: ExitRule): Promise<boolean> {
  const lent = [ownState(live.state, place, live.pass.positions)];
  try {
    const { value, exit } = await row.test.check({
      recurrence,
      state: lent[0]!,
      logits: () => {
        const own = slice(live.readLogits(), 0, place, place + 1);
        lent.push(own);
        return own;
      },
    });
    row.values.push(value);
    row.record = { rule: rule.name, value: exit ? value : undefined, values: row.values };
    if (exit) row.depth = recurrence;
    return exit;
  } finally {
    for (const tensor of lent) tensor.dispose();
  }
}

/** Sets aside what a row ends with. */
function finishRow(live: LiveRows, row: Row, place: number): void {
  row.state = takeRows(live.state, [place]);
  if (live.logits !== undefined) row.logits = takeRows(live.logits, [place]);
}

/** The rows meet again for the coda, which has no loops; where every rule has read its last logits, that is done already. */
function collect(engine: Engine, call: Call, rows: readonly Row[]): Thought {
  return tidy(engine.model.device, () => {
    const states = concat(
      rows.map((row) => row.state!),
      0,
    );
    const result = { state: lastColumn(states), depths: rows.map((row) => row.depth), exits: rows.map((row) => row.record) };
    if (call.readout === 'last' && rows.every((row) => row.logits !== undefined))
      return {
        ...result,
        logits: concat(
          rows.map((row) => row.logits!),
          0,
        ),
      };
    const pass = engine.cache.begin(call.positions, sequencesOf(call));
    try {
      return { ...result, logits: readLogits(engine, states, pass, call.readout) };
    } finally {
      pass.dispose();
    }
  });
}

/**
 * Runs each lane of a call until its own rule stops it. A row that exits leaves the pass: it costs nothing more, and no deeper keys are
 * written for it or seen by it.
 */
export async function thinkAdaptively(engine: Engine, call: Call, rule: ExitRule): Promise<Thought> {
  const opened = open(engine, call);
  const live = new LiveRows(engine, call, opened.pass, opened.e, opened.state);
  const rows: Row[] = [];
  try {
    for (let b = 0; b < call.lanes.length; b++) {
      const start = ownState(live.state, b, live.pass.positions);
      try {
        rows.push({
          b,
          test: rule.begin(start, engine.model),
          values: [],
          depth: call.depth,
          record: undefined,
          state: undefined,
          logits: undefined,
        });
      } finally {
        start.dispose();
      }
    }
    let running: Row[] = [...rows];
    for (let loop = 0; loop < call.depth && running.length > 0; loop++) {
      engine.signal?.throwIfAborted();
      if (pauseDue()) await pause(engine.signal);
      live.advance(loop);
      const since = loop + 1 - rule.minRecurrences;
      if (since < 0 || since % rule.every !== 0) continue;
      const staying: number[] = [];
      for (const [place, row] of running.entries()) {
        if (!(await ask(live, row, place, loop + 1, rule))) staying.push(place);
      }
      if (staying.length === running.length) continue;
      running.forEach((row, place) => {
        if (!staying.includes(place)) finishRow(live, row, place);
      });
      running = staying.map((place) => running[place]!);
      if (running.length > 0) live.narrow(staying, running);
    }
    running.forEach((row, place) => finishRow(live, row, place));
    return collect(engine, call, rows);
  } finally {
    live.dispose();
    for (const row of rows) {
      row.test.dispose();
      row.state?.dispose();
      row.logits?.dispose();
    }
  }
}
