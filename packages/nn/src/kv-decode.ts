import { assign, copy, type Device, gatherRows, reshape, type Tensor, tidy } from '@unroll/tensor';
import { CallTable } from './kv-calls.js';
import { type KVPolicy, type LayerCall, type LayerCounts, slotOf } from './kv-policy.js';
import { forgetRecordings, type KeyPool, type Recording, Shape } from './kv-shape.js';
import type { KeyTable } from './kv-table.js';
import type { Loops, Pass, RecordedOwner, RecordedPart, RecordedRuns } from './pass.js';

/** What a cache lends to its decoding. */
export interface CacheAccess {
  readonly device: Device;
  readonly policy: KVPolicy;
  readonly layers: LayerCounts;
  /** The tables of all sequences. */
  readonly keys: readonly KeyTable[];
  /** The pool's row that a position writes in a slot. */
  claim(table: KeyTable, slot: number, position: number): number;
  /** To be called behind the claims of every layer call. */
  plan(): void;
  /** The pool, with room for all rows claimed; other tensors than before when it grew, none while no row was ever claimed. */
  pool(): KeyPool | undefined;
}

/** The least number of positions that tables have room for: their rows then begin where any adapter may bind. */
const leastPositions = 64;
/** Passes of more rows compute for so long that recording them would save little, and hold much memory. */
const mostRows = 64;
/** Shapes of passes whose programs are kept. */
const mostShapes = 8;
/** Where several tokens run at once, a shape may never come again: recording pays from so many repetitions on. */
const fewRepetitions = 3;

/** What programs read besides the pool, of all sequences up to some place. */
interface Tables {
  /** Prelude, then coda. */
  readonly fixed: CallTable;
  readonly core: CallTable;
}

/** A layer call of one sequence, with its number in the table. */
interface NumberedCall extends LayerCall {
  readonly loop: number;
  readonly number: number;
}

/** Positions of a pass in one of its sequences. */
interface Span {
  readonly sequence: number;
  readonly positions: readonly number[];
  /** Their places among the pass's T. */
  readonly places: readonly number[];
}

/**
 * Passes of a cache over a few new tokens of some of its sequences. Where keys go and which are read lies in tables on the device, so that
 * a model's parts are recorded once for a number of sequences and tokens, as programs, and replayed for every loop and every pass. An
 * owner: `dispose()` gives the memory back.
 */
export class Decoding {
  #tables: Tables | undefined;
  #owner: RecordedOwner | undefined;
  #pool: KeyPool | undefined;
  /** The oldest use first. */
  readonly #shapes = new Map<string, Shape>();
  /** How often shapes of several tokens were asked for a part that is not recorded. */
  readonly #asked = new Map<string, number>();
  /** Of each sequence, the positions of its last pass and its length behind it. */
  readonly #last = new Map<number, { readonly first: number; readonly last: number; readonly length: number }>();

  constructor(private readonly cache: CacheAccess) {}

  /** Bytes of the tables, and of what programs are handed. */
  get bytes(): number {
    const tables = this.#tables === undefined ? [] : [this.#tables.fixed.rows, this.#tables.core.rows];
    const shapes = [...this.#shapes.values()].reduce((sum, shape) => sum + shape.bytes, 0);
    return shapes + tables.reduce((sum, { size }) => sum + 4 * size, 0);
  }

  /**
   * What runs a pass over these positions recorded; undefined for passes of many rows. To be told of every pass of the cache, with the
   * lengths that its sequences had before.
   */
  lend(positions: Int32Array, sequences: readonly number[], lengths: readonly number[]): RecordedRuns | undefined {
    const T = positions.length / sequences.length;
    const spans = sequences.map((sequence, b): Span => {
      const span = { sequence, positions: [] as number[], places: [] as number[] };
      for (let t = 0; t < T; t++) {
        const position = positions[b * T + t]!;
        if (position < 0) continue;
        span.positions.push(position);
        span.places.push(t);
      }
      return span;
    });
    for (let b = 0; b < spans.length; b++) {
      const { sequence, positions } = spans[b]!;
      if (positions.length === 0) continue;
      const [first, last] = [positions[0]!, positions[positions.length - 1]!];
      const before = this.#last.get(sequence);
      const goesOn = before !== undefined && before.length === lengths[b] && first >= before.first && last <= before.last;
      if (goesOn) continue;
      // Run again after others have read them, they may get deeper loops than those have seen.
      if (first < lengths[b]!) this.#forget(sequence, first);
      this.#last.set(sequence, { first, last, length: Math.max(lengths[b]!, last + 1) });
    }
    if (T === 0 || (T > 1 && positions.length > mostRows)) return undefined;
    return {
      run: (owner, part, inputs, f) => this.#run(owner, positions, spans, part, inputs, f),
      loop: (owner, loops, e, state, f) => this.#loop(owner, positions, spans, loops, e, state, f),
    };
  }

  /** Gives back all memory until a pass is recorded again. */
  reset(): void {
    this.dispose();
    this.#last.clear();
    this.#asked.clear();
  }

  dispose(): void {
    this.#forgetPrograms();
    this.#tables?.fixed.dispose();
    this.#tables?.core.dispose();
    this.#tables = undefined;
  }

  #run(
    owner: RecordedOwner,
    positions: Int32Array,
    spans: readonly Span[],
    name: RecordedPart,
    inputs: readonly Tensor[],
    f: (pass: Pass, ...inputs: Tensor[]) => Tensor,
  ): Tensor | undefined {
    const part: LayerCall['part'] = name === 'prelude' ? 'prelude' : 'coda';
    if (!this.#pays(positions, spans, name, 1)) return undefined;
    const tables = this.#prepare(owner, spans, 0);
    const shape = this.#shape(positions, spans);
    const { prelude, coda } = this.cache.layers;
    const first = part === 'prelude' ? 0 : prelude;
    const callOf = (layer: number): NumberedCall => ({ part, loop: 0, layer, number: first + layer });
    const count = part === 'prelude' ? prelude : coda;
    const attended = this.#claim(shape, spans, tables.fixed, count, callOf, (call, places) => shape.own('fixed', first + call, places));
    const { inputs: into, program } = this.#recording(shape, `${name}${attended}`, inputs, attended === 'attends', f);
    tables.fixed.flush();
    if (!shape.direct) this.#gather(tables.fixed, shape.fixedRows, spans, () => 0);
    shape.flush('fixed');
    into.forEach((input, i) => {
      assign(input, inputs[i]!);
    });
    program.replay();
    return copy(program.outputs);
  }

  #loop(
    owner: RecordedOwner,
    positions: Int32Array,
    spans: readonly Span[],
    loops: Loops,
    e: Tensor,
    state: Tensor,
    f: (pass: Pass, e: Tensor, state: Tensor) => Tensor,
  ): Tensor | undefined {
    const mixed = 'from' in loops ? undefined : loops;
    const times = 'from' in loops ? loops.to - loops.from : 1;
    const from = spans.map((_, b) => ('from' in loops ? loops.from : loops[b]!));
    if (!this.#pays(positions, spans, 'core', times)) return undefined;
    const { core: layers } = this.cache.layers;
    const tables = this.#prepare(owner, spans, (Math.max(...from) + times) * layers);
    const shape = this.#shape(positions, spans);
    const callOf = (i: number, b: number): NumberedCall => {
      const layer = i % layers;
      const loop = from[b]! + (i - layer) / layers;
      return { part: 'core', loop, layer, number: loop * layers + layer };
    };
    const attended = this.#claim(shape, spans, tables.core, times * layers, callOf, (call, places) => shape.own('loops', call, places));
    const { inputs, program } = this.#recording(shape, `core${attended}`, [e, state], attended === 'attends', (pass, e, state) => {
      assign(state!, f(pass, e!, state!));
      return state!;
    });
    tables.core.flush();
    shape.flush('loops');
    const [intoE, intoState] = inputs as [Tensor, Tensor];
    assign(intoE, e);
    assign(intoState, state);
    const own = attended === 'attends' ? [] : [{ into: shape.loopOwn, rows: shape.loopsOwn }];
    if (shape.direct && mixed === undefined) {
      program.replay(times, [{ into: shape.loopRows, rows: tables.core.rows, first: from[0]! }, ...own]);
    } else {
      for (let turn = 0; turn < times; turn++) {
        this.#gather(tables.core, shape.loopRows, spans, (b) => (from[b]! + turn) * layers);
        program.replay(
          1,
          own.map((one) => ({ ...one, first: turn })),
        );
      }
    }
    return copy(intoState);
  }

  /** Whether a part is recorded, or worth it. */
  #pays(positions: Int32Array, spans: readonly Span[], part: string, times: number): boolean {
    const T = positions.length / spans.length;
    if (T === 1 || times >= fewRepetitions) return true;
    const key = `${spans.length} ${T} ${part}`;
    const asked = this.#asked.get(key) ?? 0;
    if (this.#asked.size > 1024) this.#asked.clear();
    this.#asked.set(key, asked + 1);
    return asked > 0;
  }

  /** Tables with room for the tokens and for so many layer calls of the core. */
  #prepare(owner: RecordedOwner, spans: readonly Span[], calls: number): Tables {
    const { device, layers } = this.cache;
    if (owner !== this.#owner) this.#forgetPrograms();
    this.#owner = owner;
    const old = this.#tables;
    let positions = old?.core.positions ?? leastPositions;
    const need = Math.max(0, ...spans.flatMap(({ positions }) => positions)) + 1;
    while (positions < need) positions *= 2;
    const last = Math.max(...spans.map(({ sequence }) => sequence)) + 1;
    let batch = old?.core.batch ?? 1;
    while (batch < last) batch *= 2;
    batch = Math.min(batch, this.cache.keys.length);
    const wider = positions !== old?.core.positions || batch !== old.core.batch;
    if (wider) this.#forgetPrograms();
    if (wider || calls > old.core.calls) {
      const table = (count: number, from: CallTable | undefined) => new CallTable(device, { calls: count, batch, positions }, from);
      const core = table(Math.max(calls, old?.core.calls ?? layers.core), old?.core);
      try {
        this.#tables = { fixed: wider ? table(layers.prelude + layers.coda, old?.fixed) : old.fixed, core };
      } catch (error) {
        core.dispose();
        throw error;
      }
      old?.core.dispose();
      if (wider) old?.fixed.dispose();
    }
    return this.#tables!;
  }

  /** What passes over as many tokens of as many sequences have in common, told of this pass. */
  #shape(positions: Int32Array, spans: readonly Span[]): Shape {
    const { fixed, core } = this.#tables!;
    const [B, T] = [spans.length, positions.length / spans.length];
    const direct = B === core.batch && spans.every(({ sequence }, b) => sequence === b);
    const key = `${B} ${T} ${direct}`;
    const known = this.#shapes.get(key);
    this.#shapes.delete(key);
    const shape =
      known ?? new Shape(this.cache.device, { B, T, positions: core.positions, layers: this.cache.layers }, direct ? fixed : undefined);
    this.#shapes.set(key, shape);
    shape.tell(positions);
    if (this.#shapes.size > mostShapes) {
      const [oldest] = this.#shapes.keys();
      this.#shapes.get(oldest!)!.dispose();
      this.#shapes.delete(oldest!);
    }
    return shape;
  }

  /** Rows of the table's calls from `first(b)` on, for the spans' sequences, into (calls, B, S). */
  #gather(
    { rows, calls, batch, positions: S }: CallTable,
    into: Tensor<'i32'>,
    spans: readonly Span[],
    first: (b: number) => number,
  ): void {
    const { device } = this.cache;
    tidy(device, () => {
      const index = Array.from({ length: into.shape[0]! }, (_, layer) =>
        spans.map(({ sequence }, b) => (first(b) + layer) * batch + sequence),
      ).flat();
      if (index.length === 0) return;
      const taken = gatherRows(reshape(rows, [calls * batch, S]), device.tensor(index, undefined, { dtype: 'i32' }));
      assign(into, reshape(taken, into.shape));
    });
  }

  /**
   * Takes the pool's rows for `count` layer calls of the pass's tokens, one call after the other, and notes them in the table. Says
   * whether `decodeAttention` may serve: one token each, that reads the row that it writes.
   */
  #claim(
    shape: Shape,
    spans: readonly Span[],
    table: CallTable,
    count: number,
    callOf: (c: number, b: number) => NumberedCall,
    own: (call: number, places: Int32Array) => void,
  ): 'attends' | 'stores' {
    const { policy, layers, keys } = this.cache;
    let attends = shape.T === 1 && this.#owner!.attends;
    for (const { sequence } of spans) this.#forget(sequence, keys[sequence]!.takeTouched());
    const writes = new Int32Array(shape.B * shape.T);
    for (let c = 0; c < count; c++) {
      writes.fill(-1);
      for (let b = 0; b < spans.length; b++) {
        const { sequence, positions, places } = spans[b]!;
        if (positions.length === 0) continue;
        const call = callOf(c, b);
        const slot = slotOf(policy, layers, call);
        const decodeSlot = slotOf(policy, layers, call, true);
        const inCore = call.part === 'core';
        const keyTable = keys[sequence]!;
        const rows: number[] = [];
        for (const position of positions)
          rows.push(this.cache.claim(keyTable, position < keyTable.decodeFrom ? slot : decodeSlot, position));
        // Other calls may have read the rows that they had.
        this.#forget(sequence, keyTable.takeMoved());
        const rereads = inCore && policy.lookup === 'always-last';
        const same = table.set({ call: call.number, sequence, positions, rows, rereads }, (out, from) =>
          keyTable.read(slot, policy.lookup, inCore, out, from),
        );
        attends &&= same;
        for (let i = 0; i < rows.length; i++) writes[b * shape.T + places[i]!] = rows[i]!;
      }
      this.cache.plan();
      own(c, writes);
    }
    for (const { sequence } of spans) keys[sequence]!.takeTouched();
    return attends ? 'attends' : 'stores';
  }

  #forget(sequence: number, position: number): void {
    const tables = this.#tables;
    if (tables === undefined || sequence >= tables.core.batch) return;
    tables.fixed.forget(sequence, position);
    tables.core.forget(sequence, position);
  }

  #recording(
    shape: Shape,
    name: string,
    like: readonly Tensor[],
    attends: boolean,
    f: (pass: Pass, ...inputs: Tensor[]) => Tensor,
  ): Recording {
    const pool = this.cache.pool();
    if (pool?.k !== this.#pool?.k) {
      for (const { recordings } of this.#shapes.values()) {
        const goesOn = (one: Recording) => this.#pool !== undefined && pool !== undefined && one.program.rebind([pool.k, pool.v]);
        if (![...recordings.values()].every(goesOn)) forgetRecordings(recordings);
      }
    }
    this.#pool = pool;
    return shape.recordings.get(name) ?? shape.record(name, like, pool, attends, f);
  }

  #forgetPrograms(): void {
    for (const shape of this.#shapes.values()) shape.dispose();
    this.#shapes.clear();
  }
}
