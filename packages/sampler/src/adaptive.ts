import { concat, keep, reshape, slice, type Tensor, tidy } from '@unroll/tensor';
import { type Call, Course, lastColumn, open, readLogits, sequencesOf, type Thought, takeRows } from './call.js';
import { defaultReadEvery, type ExitRule } from './exit.js';
import { ExitWatch, readNumbers, type Sight } from './exit-watch.js';
import type { CacheJournal, ModelPass } from './language-model.js';
import { pause, pauseDue } from './pause.js';
import type { Engine } from './run.js';

/** What stops together: a row of the call, or a single position. */
interface Unit {
  readonly watch: ExitWatch;
  readonly sequence: number;
  /** (T) of the row, -1 for padding; or the one position. */
  readonly positions: Int32Array;
}

/** A check of all units that ran then. */
interface Asked {
  readonly units: readonly Unit[];
  readonly marks: ReadonlyMap<number, number>;
  readonly values: readonly Tensor[];
}

interface Flight {
  readonly asked: readonly Asked[];
  readonly numbers: Promise<number[]>;
}

/** The units that still run, one behind the other in a pass: as its rows, or as the columns of its only row. */
class LiveUnits {
  #course: Course;
  #logits: Tensor<'f32'> | undefined;

  constructor(
    private readonly engine: Engine,
    private readonly columns: boolean,
    public units: readonly Unit[],
    opened: { readonly pass: ModelPass; readonly e: Tensor; readonly state: Tensor },
    start: Tensor | undefined,
  ) {
    this.#course = new Course(engine, opened.pass, opened.e, opened.state, start);
  }

  /** (U, T, C) of U units. A view. */
  get states(): Tensor {
    return this.#byUnit(this.#course.state);
  }

  advance(loop: number): void {
    this.#course.advance(loop);
    this.#logits?.dispose();
    this.#logits = undefined;
  }

  /** What the watch of the unit at a place sees. Inside a tidy. */
  see(place: number, mark: () => number): Sight {
    const { positions } = this.units[place]!;
    const { device } = this.engine.model;
    const state = unitAt(this.states, place);
    const padding = positions.findIndex((position) => position >= 0);
    const logits = () => {
      this.#logits ??= keep(
        tidy(device, () => readLogits(this.engine, this.#course.state, this.#course.pass, this.columns ? 'all' : 'last')),
      );
      return this.units.length === 1 ? this.#logits : slice(this.#logits, 0, place, place + 1);
    };
    return { state, own: padding > 0 ? slice(state, 0, padding, positions.length) : state, logits, mark };
  }

  /** Goes on with the units at these places alone. */
  narrow(places: readonly number[]): void {
    const { e, state } = this.#course;
    const units = places.map((place) => this.units[place]!);
    const shape = [this.columns ? 1 : units.length, this.columns ? units.length : state.shape[1]!, state.shape[2]!];
    const part = tidy(this.engine.model.device, () => ({
      e: reshape(takeRows(this.#byUnit(e), places), shape),
      state: reshape(takeRows(this.#byUnit(state), places), shape),
    }));
    this.dispose();
    const positions = Int32Array.from(units.flatMap((unit) => [...unit.positions]));
    const sequences = this.columns ? [units[0]!.sequence] : units.map(({ sequence }) => sequence);
    try {
      this.#course = new Course(this.engine, this.engine.cache.begin(positions, sequences), part.e, part.state);
    } catch (error) {
      part.e.dispose();
      part.state.dispose();
      throw error;
    }
    this.units = units;
  }

  dispose(): void {
    this.#course.pass.dispose();
    this.#course.dispose();
    this.#logits?.dispose();
    this.#logits = undefined;
  }

  #byUnit(x: Tensor): Tensor {
    return this.columns ? reshape(x, [x.shape[1]!, 1, x.shape[2]!]) : x;
  }
}

/** Unit u's (T, C) of (U, T, C). */
const unitAt = (states: Tensor, u: number): Tensor =>
  reshape(states.shape[0] === 1 ? states : slice(states, 0, u, u + 1), states.shape.slice(1));

/** The units meet again for the coda, which has no loops; where every rule has read its last logits, that is done already. */
function collect(engine: Engine, call: Call, units: readonly Unit[], columns: boolean): Thought {
  const ends = units.map(({ watch }) => watch.ended!);
  return tidy(engine.model.device, () => {
    const states = concat(
      ends.map(({ state }) => reshape(state, [1, ...state.shape])),
      columns ? 1 : 0,
    );
    const last = columns ? units.slice(-1) : units;
    const result = {
      state: lastColumn(states),
      depths: last.map(({ watch }) => watch.ended!.recurrence),
      exits: last.map(({ watch }) => watch.record),
      ...(columns ? { positionDepths: [ends.map(({ recurrence }) => recurrence)] } : {}),
    };
    // A position's own logits were read beside others that were not at their end yet.
    if (call.readout === 'last' && !(columns && units.length > 1) && ends.every(({ logits }) => logits !== undefined)) {
      return {
        ...result,
        logits: concat(
          ends.map(({ logits }) => logits!),
          0,
        ),
      };
    }
    const pass = engine.cache.begin(call.positions, sequencesOf(call));
    try {
      return { ...result, logits: readLogits(engine, states, pass, call.readout) };
    } finally {
      pass.dispose();
    }
  });
}

/**
 * Checks for one reading, of which two may be on their way; 0 reads at once. A pass over a prompt is worth the wait: recurrences that were
 * taken back would cost as much as it, and memory.
 */
function checksAhead({ model, cache, hook }: Engine, rule: ExitRule, units: readonly Unit[]): number {
  const prompt = units.some((unit) => unit.positions.length > 1);
  if (hook !== undefined || cache.openJournal === undefined || prompt) return 0;
  return rule.readEvery ?? (model.device.kind === 'cpu' ? 0 : defaultReadEvery);
}

/**
 * Runs each lane of a call until its own rule stops it. A row that exits leaves the pass: it costs nothing more, and no deeper keys are
 * written for it or seen by it. Numbers are read while the next recurrences run; what ran too far is taken back.
 */
export async function thinkAdaptively(engine: Engine, call: Call, rule: ExitRule): Promise<Thought> {
  if (call.byPosition === true && call.lanes.length > 1) return laneByLane(engine, call, rule);
  const columns = call.byPosition === true && call.positions.length > 1;
  const opened = open(engine, call);
  const B = call.lanes.length;
  const T = columns ? 1 : call.positions.length / B;
  const live = new LiveUnits(engine, columns, [], opened, call.start);
  const journals = new Map<number, CacheJournal>();
  const flights: Flight[] = [];
  let asked: Asked[] = [];
  const all: Unit[] = [];
  try {
    for (let u = 0; u < (columns ? call.positions.length : B); u++) {
      const positions = call.positions.subarray(u * T, (u + 1) * T);
      const watch = tidy(engine.model.device, () => {
        const state = unitAt(live.states, u);
        const padding = positions.findIndex((position) => position >= 0);
        return new ExitWatch(rule, call.depth, padding > 0 ? slice(state, 0, padding, T) : state, engine.model);
      });
      all.push({ watch, sequence: call.lanes[columns ? 0 : u]!.sequence, positions });
    }
    live.units = all;
    const patient = all.every(({ watch }) => watch.patient);
    // Positions see each other: none may run on beside one that should have stopped.
    const ahead = patient && !columns ? checksAhead(engine, rule, all) : 0;
    if (ahead > 0) for (const sequence of sequencesOf(call)) journals.set(sequence, engine.cache.openJournal!(sequence));
    const narrow = () => {
      const places = live.units.flatMap(({ watch }, place) => (watch.ended === undefined ? [place] : []));
      if (places.length === live.units.length) return;
      if (places.length > 0) live.narrow(places);
      else live.units = [];
    };
    const land = async () => {
      const flight = flights.shift()!;
      settle(flight.asked, await flight.numbers, journals);
      for (const [sequence, journal] of journals) {
        journal.commit((flights[0]?.asked[0] ?? asked[0])?.marks.get(sequence) ?? journal.mark());
      }
      narrow();
    };
    const depart = () => {
      if (asked.length === 0) return;
      flights.push({ asked, numbers: readNumbers(asked.flatMap(({ values }) => values)) });
      asked = [];
    };
    for (let loop = 0; loop < call.depth && live.units.length > 0; loop++) {
      engine.signal?.throwIfAborted();
      if (pauseDue()) await pause(engine.signal);
      live.advance(loop);
      if (!live.units[0]!.watch.asks(loop + 1)) continue;
      if (!patient) {
        for (const [place, { watch }] of live.units.entries()) await watch.check(loop + 1, () => live.see(place, () => 0));
        narrow();
        continue;
      }
      asked.push(ask(live, loop + 1, journals));
      if (asked.length >= Math.max(1, ahead)) depart();
      if (flights.length > (ahead > 0 ? 1 : 0)) await land();
    }
    depart();
    while (flights.length > 0) await land();
    tidy(engine.model.device, () => {
      live.units.forEach(({ watch }, place) => {
        watch.end(unitAt(live.states, place));
      });
    });
    return collect(engine, call, all, columns);
  } finally {
    for (const journal of journals.values()) journal.close();
    for (const { values } of asked) for (const value of values) value.dispose();
    live.dispose();
    for (const { watch } of all) watch.dispose();
  }
}

/** Positions of several lanes stop each by itself, and have no rows to share. */
async function laneByLane(engine: Engine, call: Call, rule: ExitRule): Promise<Thought> {
  const T = call.positions.length / call.lanes.length;
  const thoughts: Thought[] = [];
  try {
    for (const [b, lane] of call.lanes.entries()) {
      const row = { tokens: call.tokens.subarray(b * T, (b + 1) * T), positions: call.positions.subarray(b * T, (b + 1) * T) };
      const padding = row.positions.findIndex((position) => position >= 0);
      const own = { lanes: [lane], tokens: row.tokens.subarray(padding), positions: row.positions.subarray(padding) };
      thoughts.push(await thinkAdaptively(engine, { ...call, ...own }, rule));
    }
    return tidy(engine.model.device, () => ({
      logits: concat(
        thoughts.map(({ logits }) => logits),
        0,
      ),
      state: concat(
        thoughts.map(({ state }) => state),
        0,
      ),
      depths: thoughts.flatMap(({ depths }) => depths),
      exits: thoughts.flatMap(({ exits }) => exits),
      positionDepths: thoughts.map(({ depths, positionDepths }) => positionDepths?.[0] ?? depths),
    }));
  } finally {
    for (const { logits, state } of thoughts) {
      logits.dispose();
      state.dispose();
    }
  }
}

/** Puts the numbers of a check on the device. */
function ask(live: LiveUnits, recurrence: number, journals: ReadonlyMap<number, CacheJournal>): Asked {
  const { units } = live;
  const marks = new Map<number, number>();
  const values: Tensor[] = [];
  try {
    for (const [place, { watch, sequence }] of units.entries())
      values.push(watch.measure(recurrence, () => live.see(place, () => journals.get(sequence)?.mark() ?? 0)));
  } catch (error) {
    for (const value of values) value.dispose();
    throw error;
  }
  for (const [sequence, journal] of journals) marks.set(sequence, journal.mark());
  return { units, marks, values };
}

/** Hands the numbers to the watches; where one ends, what its unit wrote behind that check is taken back. */
function settle(checks: readonly Asked[], numbers: readonly number[], journals: ReadonlyMap<number, CacheJournal>): void {
  let at = 0;
  for (const { units } of checks) {
    for (const { watch, sequence } of units) {
      const number = numbers[at++]!;
      if (watch.ended === undefined && watch.settle(number)) journals.get(sequence)?.rollback(watch.ended!.mark);
    }
  }
}
