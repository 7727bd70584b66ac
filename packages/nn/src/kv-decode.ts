import {
  assign,
  copy,
  type Device,
  decodeAttention,
  type Program,
  reshape,
  scatterRows,
  slice,
  type Tensor,
  UnrollError,
} from '@unroll/tensor';
import { CallTable } from './kv-calls.js';
import { type KVPolicy, type LayerCall, type LayerCounts, slotOf } from './kv-policy.js';
import type { KeyTable } from './kv-table.js';
import { type KeyView, Pass, type RecordedOwner, type RecordedRuns } from './pass.js';

/** What a cache lends to its decoding. */
export interface CacheAccess {
  readonly device: Device;
  readonly policy: KVPolicy;
  readonly layers: LayerCounts;
  /** The pool's row that a position writes in a slot. */
  claim(table: KeyTable, slot: number, position: number): number;
  /** The pool (R, Hk, D), with room for all rows claimed; other tensors than before when it grew. */
  pool(): { readonly k: Tensor; readonly v: Tensor };
}

/** The least number of positions that tables have room for: their rows then begin where any adapter may bind. */
const leastPositions = 64;

/** What programs read besides the pool. Made when the first one is recorded. */
interface Tables {
  readonly capacity: number;
  /** Prelude, then coda. */
  readonly fixed: CallTable;
  readonly core: CallTable;
  /** What the core's program reads: the rows of one loop, (layers, B, S), and those that it writes, (layers, B, 1). */
  readonly loopRows: Tensor<'i32'>;
  readonly loopOwn: Tensor<'i32'> | undefined;
  /** (B, 1) */
  readonly positions: Tensor<'i32'>;
  readonly visible: Tensor<'i32'>;
}

/** A part of a model, recorded, with the tensors that it reads. */
interface Recording {
  readonly inputs: readonly Tensor[];
  readonly program: Program<Tensor>;
}

/**
 * Decoding of a cache: passes of one new token for each of some sequences. Where keys go and which are read lies in tables on the device,
 * so that a model's parts are recorded once, as programs, and replayed for every loop and token. An owner: `dispose()` gives the memory back.
 */
export class Decoding implements RecordedRuns {
  readonly #keys: readonly KeyTable[];
  #token: Int32Array;
  /** Whether the device knows the token's positions. */
  #told = false;
  #tables: Tables | undefined;
  #owner: RecordedOwner | undefined;
  #pool: { readonly k: Tensor; readonly v: Tensor } | undefined;
  readonly #recordings = new Map<string, Recording>();

  constructor(
    private readonly cache: CacheAccess,
    readonly sequences: readonly number[],
    keys: readonly KeyTable[],
  ) {
    this.#keys = keys;
    this.#token = new Int32Array(sequences.length).fill(-1);
  }

  /** Whether these are the positions of the token that is being decoded. */
  at(positions: Int32Array): boolean {
    return positions.every((position, b) => position === this.#token[b]);
  }

  /** Goes on to the next token of each sequence. */
  begin(positions: Int32Array): void {
    if (this.at(positions)) return;
    this.#token = positions.slice();
    this.#told = false;
  }

  run(owner: RecordedOwner, part: 'prelude' | 'coda', inputs: readonly Tensor[], f: (pass: Pass, ...inputs: Tensor[]) => Tensor): Tensor {
    const { fixed } = this.#prepare(owner, 0);
    const { prelude, coda } = this.cache.layers;
    const first = part === 'prelude' ? 0 : prelude;
    for (let layer = 0; layer < (part === 'prelude' ? prelude : coda); layer++) this.#claim(first + layer, { part, loop: 0, layer });
    const recording = this.#recording(part, inputs, f);
    fixed.flush();
    recording.inputs.forEach((input, i) => {
      assign(input, inputs[i]!);
    });
    recording.program.replay();
    return copy(recording.program.outputs);
  }

  loop(
    owner: RecordedOwner,
    loops: { readonly from: number; readonly to: number },
    e: Tensor,
    state: Tensor,
    f: (pass: Pass, e: Tensor, state: Tensor) => Tensor,
  ): Tensor {
    const { core: layers } = this.cache.layers;
    const { core, loopRows, loopOwn } = this.#prepare(owner, loops.to * layers);
    for (let loop = loops.from; loop < loops.to; loop++) {
      for (let layer = 0; layer < layers; layer++) this.#claim(loop * layers + layer, { part: 'core', loop, layer });
    }
    const { inputs, program } = this.#recording('core', [e, state], (pass, e, state) => {
      assign(state!, f(pass, e!, state!));
      return state!;
    });
    core.flush();
    const [intoE, intoState] = inputs as [Tensor, Tensor];
    assign(intoE, e);
    assign(intoState, state);
    const values = [{ into: loopRows, rows: core.rows, first: loops.from }];
    if (loopOwn !== undefined) values.push({ into: loopOwn, rows: core.own!, first: loops.from });
    program.replay(loops.to - loops.from, values);
    return copy(intoState);
  }

  dispose(): void {
    this.#forgetPrograms();
    const tables = this.#tables;
    this.#tables = undefined;
    if (tables === undefined) return;
    for (const owner of [tables.fixed, tables.core, tables.loopRows, tables.loopOwn, tables.positions, tables.visible]) owner?.dispose();
  }

  /** Tables with room for the token and for so many layer calls of the core, and the token's positions in them. */
  #prepare(owner: RecordedOwner, calls: number): Tables {
    const { device, layers } = this.cache;
    const B = this.sequences.length;
    if (owner !== this.#owner) this.#forgetPrograms();
    this.#owner = owner;
    const old = this.#tables;
    const need = Math.max(...this.#token) + 1;
    let capacity = old?.capacity ?? leastPositions;
    while (capacity < need) capacity *= 2;
    const wider = capacity !== old?.capacity || (!owner.attends && old.loopOwn === undefined);
    if (old === undefined || wider || calls > old.core.calls) {
      const ints = (...shape: number[]) => device.zeros(shape, { dtype: 'i32', memory: 'kv' });
      const table = (count: number, from?: CallTable) =>
        new CallTable(device, { calls: count, batch: B, positions: capacity }, !owner.attends, from);
      if (wider) this.#forgetPrograms();
      this.#tables = {
        capacity,
        positions: old?.positions ?? ints(B, 1),
        visible: old?.visible ?? ints(B, 1),
        fixed: wider ? table(layers.prelude + layers.coda, old?.fixed) : old!.fixed,
        core: table(Math.max(calls, old?.core.calls ?? layers.core), old?.core),
        loopRows: wider ? ints(layers.core, B, capacity) : old!.loopRows,
        loopOwn: old?.loopOwn ?? (owner.attends ? undefined : ints(layers.core, B, 1)),
      };
      for (const stale of [old?.core, ...(wider ? [old?.fixed, old?.loopRows] : [])]) stale?.dispose();
    }
    const tables = this.#tables!;
    if (!this.#told) {
      device.write(tables.positions, this.#token);
      device.write(
        tables.visible,
        this.#token.map((position) => position + 1),
      );
      this.#told = true;
    }
    return tables;
  }

  /** Takes the pool's rows for a layer call of the newest tokens. */
  #claim(number: number, call: LayerCall & { readonly loop: number }): void {
    const { policy, layers } = this.cache;
    const { fixed, core } = this.#tables!;
    const slot = slotOf(policy, layers, call);
    const decodeSlot = slotOf(policy, layers, call, true);
    const inCore = call.part === 'core';
    this.#keys.forEach((table, b) => {
      const touched = table.takeTouched();
      fixed.forget(b, touched);
      core.forget(b, touched);
      const position = this.#token[b]!;
      const row = this.cache.claim(table, position < table.decodeFrom ? slot : decodeSlot, position);
      table.takeTouched();
      // Other calls may have read the row that it had.
      const moved = table.takeMoved();
      fixed.forget(b, moved);
      core.forget(b, moved);
      const read = (out: Int32Array, from: number) => table.read(slot, policy.lookup, inCore, out, from);
      // A token's deeper loops come after it was entered: `always-last` reads it again.
      (inCore ? core : fixed).set(number, b, position, row, inCore && policy.lookup === 'always-last', read);
    });
  }

  #recording(part: string, like: readonly Tensor[], f: (pass: Pass, ...inputs: Tensor[]) => Tensor): Recording {
    const { device } = this.cache;
    const pool = this.cache.pool();
    if (pool.k !== this.#pool?.k) this.#forgetPrograms();
    this.#pool = pool;
    const known = this.#recordings.get(part);
    if (known !== undefined) return known;
    const { positions, visible } = this.#tables!;
    const pass = new Pass(device, this.sequences.length, this.#token, (call, k, v) => this.#store(call, k, v), {
      positions,
      visible,
      attend: (call, qkv, options) => {
        const [{ rows }, number] = this.#place(call);
        return decodeAttention(qkv, { ...pool, keyRows: rows, visible }, { ...options, call: number });
      },
    });
    const inputs = like.map(({ shape, dtype }) => device.zeros(shape, { dtype, memory: 'kv' }));
    const recording = { inputs, program: device.record(() => f(pass, ...inputs)) };
    this.#recordings.set(part, recording);
    return recording;
  }

  /** `attend` in single operations, for blocks that ask for their keys. */
  #store(call: LayerCall, k: Tensor, v: Tensor): Omit<KeyView, 'visible'> {
    const [{ rows, own }, number] = this.#place(call);
    if (own === undefined) throw new UnrollError('Decoding: a block asks for keys although its model says that all use pass.attend');
    const [B, S] = [this.sequences.length, this.#tables!.capacity];
    const into = reshape(slice(own, 0, number, number + 1), [B, 1]);
    scatterRows(this.#pool!.k, into, k);
    scatterRows(this.#pool!.v, into, v);
    return { ...this.#pool!, keyRows: reshape(slice(rows, 0, number, number + 1), [B, S]) };
  }

  /** The tables of a layer call, and its place in them. */
  #place({ part, layer }: LayerCall): readonly [{ readonly rows: Tensor; readonly own: Tensor | undefined }, number] {
    const { fixed, loopRows, loopOwn } = this.#tables!;
    if (part === 'core') return [{ rows: loopRows, own: loopOwn }, layer];
    return [fixed, part === 'prelude' ? layer : this.cache.layers.prelude + layer];
  }

  #forgetPrograms(): void {
    for (const { inputs, program } of this.#recordings.values()) {
      program.dispose();
      for (const input of inputs) input.dispose();
    }
    this.#recordings.clear();
  }
}
