import { type Device, gatherRows, OptionError, scatterRows, type Tensor, tidy, UnrollError } from '@unroll/tensor';
import { Decoding } from './kv-decode.js';
import { KVJournal } from './kv-journal.js';
import {
  type CacheUse,
  checkPolicy,
  defaultPolicy,
  type KVPolicy,
  type LayerCall,
  type LayerCounts,
  policyRefusal,
  slotOf,
  slotsOf,
} from './kv-policy.js';
import { RowPool } from './kv-pool.js';
import { KeyTable } from './kv-table.js';
import { type KeyView, Pass } from './pass.js';

export interface KVCacheOptions {
  readonly device: Device;
  readonly layers: LayerCounts;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Most positions that a sequence may have. */
  readonly contextLength: number;
  readonly batch?: number;
  /** The use's default when absent. */
  readonly policy?: KVPolicy;
  /** `equal-depth` when absent. A policy that cannot serve it is refused. */
  readonly use?: CacheUse;
}

export interface KVCacheUsage {
  /** Slots in use, of all layers. */
  readonly slots: number;
  /** Tokens of the longest sequence. */
  readonly tokens: number;
  /** Bytes of the keys and values that tokens have. */
  readonly logicalBytes: number;
  /** Bytes that the pool takes: at most 1.25 times the logical ones and 16 tokens for each slot, whatever was forgotten since. */
  readonly allocatedBytes: number;
}

/** Bytes of keys and values that tokens would take, and that there are for them. */
export interface CacheRoom {
  /** What the device has left for this cache's pool beyond what it holds; Infinity where the device cannot tell. */
  readonly left: number;
  /** Of the prompt tokens asked for. */
  readonly prompt: number;
  /** Of each decoded token. */
  readonly token: number;
}

/** What `KVCache.save` gives, on the host. */
export interface SavedKVCache {
  readonly policy: KVPolicy;
  readonly layers: LayerCounts;
  /** Tokens of each sequence. */
  readonly lengths: readonly number[];
  /** (R, 4): sequence, slot, position, row of `keys` and `values`. */
  readonly entries: Int32Array;
  /** (R', Hk, D) */
  readonly keys: Float32Array;
  readonly values: Float32Array;
}

/** Allocated rows stay within so many times those in use, and so many more for each slot. */
const [mostSpare, mostPage] = [1.25, 16];

/**
 * Keys and values by (sequence, slot, position), in one pool of rows (R, Hk, D) that all slots share. What a slot is and which slot
 * a query reads is the policy's affair (`kv-policy.ts`). An owner: `dispose()` gives the memory back.
 */
export class KVCache {
  readonly device: Device;
  readonly batch: number;
  readonly policy: KVPolicy;
  readonly layers: LayerCounts;
  readonly contextLength: number;
  readonly #rowShape: readonly [number, number];
  readonly #tables: KeyTable[];
  readonly #freeRows: number[] = [];
  /** How many sequences share a row, beyond one. */
  readonly #shared = new Map<number, number>();
  readonly #every: readonly number[];
  #rows = 0;
  readonly #pool: RowPool;
  readonly #decoding: Decoding;
  #disposed = false;

  constructor(options: KVCacheOptions) {
    const {
      device,
      layers,
      kvHeads,
      headDim,
      contextLength,
      batch = 1,
      use = 'equal-depth',
      policy = defaultPolicy(use, layers),
    } = options;
    checkPolicy(policy, layers);
    const reason = policyRefusal(policy, layers, use);
    if (reason !== undefined) throw new OptionError(`KVCache: the policy cannot serve ${use}: ${reason}`);
    if (!Number.isInteger(batch) || batch < 1) throw new OptionError(`KVCache: batch must be a whole number from 1; got ${batch}`);
    this.device = device;
    this.batch = batch;
    this.policy = policy;
    this.layers = layers;
    this.contextLength = contextLength;
    this.#rowShape = [kvHeads, headDim];
    this.#pool = new RowPool(device, this.#rowShape);
    this.#every = Array.from({ length: batch }, (_, b) => b);
    this.#tables = this.#every.map(() => new KeyTable(layers));
    this.#decoding = new Decoding({
      device,
      policy,
      layers,
      keys: this.#tables,
      claim: (table, slot, position) => this.#claim(table, slot, position),
      plan: () => this.#plan(),
      pool: () => {
        this.#reserve();
        return this.#pool.tensors;
      },
    });
  }

  /** Tokens of sequence b. */
  length(b = 0): number {
    return this.#table(b).length;
  }

  /** Why this cache cannot serve a use; undefined when it can. */
  refusal(use: CacheUse): string | undefined {
    return policyRefusal(this.policy, this.layers, use);
  }

  /**
   * Opens a pass over new tokens of some sequences, or of all: positions (B, T) row by row, -1 for padding. Each sequence's positions
   * must follow on its length without gaps, or overwrite positions that it has. Dispose the pass when done. Throws OptionError.
   */
  begin(positions: Int32Array, sequences: readonly number[] = this.#every): Pass {
    this.#alive();
    const batch = sequences.length;
    if (batch === 0 || positions.length % batch !== 0) {
      throw new OptionError(`KVCache: positions must be (${batch}, T), T for each of the sequences; got ${positions.length} values`);
    }
    if (new Set(sequences).size !== batch) throw new OptionError(`KVCache: a pass takes each sequence once; got ${sequences.join(', ')}`);
    const T = positions.length / batch;
    const tables = sequences.map((b) => this.#table(b));
    const lengths = tables.map((table, i) => table.lengthWith(positions.subarray(i * T, (i + 1) * T), this.contextLength));
    const runs = this.#decoding.lend(
      positions,
      sequences,
      tables.map((table) => table.length),
    );
    tables.forEach((table, i) => {
      table.length = lengths[i]!;
    });
    const store = (call: LayerCall, k: Tensor, v: Tensor, pass: Pass) => this.#store(call, k, v, pass, tables);
    return new Pass(this.device, batch, positions, store, runs && { runs });
  }

  /** What prompt tokens of this depth would take, and a decoded one, beside what the device has left. Nothing is taken. */
  room(prompt: number, recurrences: number): CacheRoom {
    this.#alive();
    const { rowBytes } = this.#pool;
    const bytes = (decode: boolean) => slotsOf(this.policy, this.layers, recurrences, decode) * rowBytes;
    return { left: (this.#pool.room() - this.#used) * rowBytes, prompt: prompt * bytes(false), token: bytes(true) };
  }

  /**
   * Says how many prompt tokens and decoded ones all sequences together will get at most, of this depth at most: where the device can, the
   * pool then grows where it is and leaves nothing behind, and it takes no more ahead. Nothing is taken for it.
   */
  expect(prompt: number, decoded: number, recurrences: number): void {
    this.#alive();
    const rows = (decode: boolean) => slotsOf(this.policy, this.layers, recurrences, decode);
    this.#pool.expect(this.#used + prompt * rows(false) + decoded * rows(true));
  }

  /** Says that tokens of sequence b from a position on are decoded, not part of a prompt: the policy `last-only` keeps less of them. */
  markDecoded(from: number, b = 0): void {
    this.#table(b).decodeFrom = from;
  }

  /** Begins to remember what passes write to sequence b, so that it can be taken back. Throws UnrollError while another is open. */
  openJournal(b = 0): KVJournal {
    this.#alive();
    const table = this.#table(b);
    if (table.journal !== null) throw new UnrollError(`KVCache.openJournal: sequence ${b} has an open journal; close it first`);
    table.journal = new KVJournal(
      table,
      (row) => this.#release(row),
      () => {
        table.journal = null;
      },
    );
    return table.journal;
  }

  /** Forgets the positions from `length` on, in sequence b or in all. */
  truncate(length: number, b?: number): void {
    this.#alive();
    if (!Number.isInteger(length) || length < 0)
      throw new OptionError(`KVCache.truncate: length must be a whole number from 0; got ${length}`);
    for (const table of b === undefined ? this.#tables : [this.#table(b)]) for (const row of table.truncate(length)) this.#release(row);
    this.#shrink();
  }

  /** Makes sequence `to` equal to `from`, up to `length` tokens. They share memory until one of them overwrites. */
  copySequence(from: number, to: number, length = this.length(from)): void {
    this.#alive();
    const [source, target] = [this.#table(from), this.#table(to)];
    if (source === target) return;
    source.journal?.close();
    this.truncate(0, to);
    target.length = Math.min(length, source.length);
    target.decodeFrom = source.decodeFrom;
    for (const { slot, position, row } of source.entries()) {
      if (position >= target.length) continue;
      target.claim(slot, position, () => row);
      this.#shared.set(row, (this.#shared.get(row) ?? 0) + 1);
    }
  }

  /** A cache of its own with the same content. The caller disposes it. */
  fork(): KVCache {
    this.#alive();
    const fork = this.#empty();
    const rows = new Map<number, number>();
    for (const [b, table] of this.#tables.entries()) fork.#table(b).decodeFrom = table.decodeFrom;
    try {
      fork.#fill(
        this.#entries(),
        this.#tables.map((table) => table.length),
        rows,
      );
      if (rows.size === 0) return fork;
      const [mine, theirs] = [this.#pool.tensors!, fork.#pool.tensors!];
      tidy(this.device, () => {
        const from = this.device.tensor(Int32Array.from(rows.keys()));
        const to = this.device.tensor(Int32Array.from(rows.values()));
        for (const part of ['k', 'v'] as const) tidy(this.device, () => scatterRows(theirs[part], to, gatherRows(mine[part], from)));
      });
      return fork;
    } catch (error) {
      fork.dispose();
      throw error;
    }
  }

  /** The content on the host, for `load`. */
  async save(): Promise<SavedKVCache> {
    this.#alive();
    const rows = new Map<number, number>();
    const entries = [...this.#entries()].flatMap(({ b, slot, position, row }) => {
      if (!rows.has(row)) rows.set(row, rows.size);
      return [b, slot, position, rows.get(row)!];
    });
    const saved = {
      policy: this.policy,
      layers: this.layers,
      lengths: this.#tables.map((table) => table.length),
      entries: Int32Array.from(entries),
    };
    if (rows.size === 0) return { ...saved, keys: new Float32Array(0), values: new Float32Array(0) };
    const own = this.#pool.tensors!;
    const [keys, values] = tidy(this.device, () => {
      const index = this.device.tensor(Int32Array.from(rows.keys()));
      return [gatherRows(own.k, index), gatherRows(own.v, index)] as const;
    });
    try {
      const [k, v] = await Promise.all([keys.data(), values.data()]);
      return { ...saved, keys: k, values: v };
    } finally {
      for (const tensor of [keys, values]) tensor.dispose();
    }
  }

  /** Takes over what `save` gave; what the cache held is forgotten. Throws OptionError when policy, layers, batch or sizes differ. */
  load(saved: SavedKVCache): void {
    this.#alive();
    const describe = (policy: KVPolicy, layers: LayerCounts, batch: number) =>
      JSON.stringify([policy?.lookup, policy?.compression, layers, batch, this.#rowShape]);
    const [mine, theirs] = [describe(this.policy, this.layers, this.batch), describe(saved.policy, saved.layers, saved.lengths.length)];
    if (mine !== theirs)
      throw new OptionError(
        `KVCache.load: saved from another kind of cache: ${theirs}; this one is ${mine} (lookup, compression, layers, batch, row)`,
      );
    const width = this.#rowShape[0] * this.#rowShape[1];
    const R = saved.keys.length / width;
    const entries = Array.from({ length: saved.entries.length / 4 }, (_, i) => {
      const [b, slot, position, row] = saved.entries.subarray(4 * i, 4 * i + 4) as unknown as [number, number, number, number];
      return { b, slot, position, row };
    });
    const sound = ({ b, position, row }: { b: number; position: number; row: number }) =>
      b >= 0 && position >= 0 && position < (saved.lengths[b] ?? 0) && row >= 0 && row < R;
    const lengthsFit = saved.lengths.every((length) => Number.isInteger(length) && length >= 0 && length <= this.contextLength);
    if (
      !Number.isInteger(R) ||
      saved.values.length !== saved.keys.length ||
      saved.entries.length % 4 !== 0 ||
      !lengthsFit ||
      !entries.every(sound)
    ) {
      throw new OptionError('KVCache.load: the saved sizes contradict each other; the file is damaged or belongs to another model');
    }
    this.truncate(0);
    try {
      const rows = new Map<number, number>();
      this.#fill(entries, saved.lengths, rows);
      if (rows.size === 0) return;
      const { k, v } = this.#pool.tensors!;
      tidy(this.device, () => {
        const to = this.device.tensor(Int32Array.from({ length: R }, (_, row) => rows.get(row) ?? -1));
        for (const [target, data] of [
          [k, saved.keys],
          [v, saved.values],
        ] as const)
          tidy(this.device, () => scatterRows(target, to, this.device.tensor(data, [R, ...this.#rowShape])));
      });
    } catch (error) {
      // Never tokens without their keys.
      this.truncate(0);
      throw error;
    }
  }

  usage(): KVCacheUsage {
    const { rowBytes, capacity } = this.#pool;
    return {
      slots: this.#slots(),
      tokens: Math.max(...this.#tables.map((table) => table.length)),
      logicalBytes: this.#used * rowBytes,
      allocatedBytes: capacity * rowBytes,
    };
  }

  /**
   * Bytes beside the pool, of what recorded passes are told: the rows of each layer call, positions, inputs. Not part of `usage()`, since
   * what is recorded depends on how long passes take.
   */
  get tableBytes(): number {
    return this.#decoding.bytes;
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#decoding.dispose();
    this.#pool.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #empty(): KVCache {
    const [kvHeads, headDim] = this.#rowShape;
    const { device, layers, contextLength, batch, policy } = this;
    return new KVCache({ device, layers, kvHeads, headDim, contextLength, batch, policy });
  }

  *#entries(): Generator<{ b: number; slot: number; position: number; row: number }> {
    for (const [b, table] of this.#tables.entries()) {
      for (const entry of table.entries()) yield { b, ...entry };
    }
  }

  /** Gives an empty cache rows for the entries of another; `rows` tells which of theirs became which of ours. */
  #fill(
    entries: Iterable<{ b: number; slot: number; position: number; row: number }>,
    lengths: readonly number[],
    rows: Map<number, number>,
  ): void {
    for (const { b, slot, position, row } of entries) {
      const known = rows.get(row);
      if (known !== undefined) this.#shared.set(known, (this.#shared.get(known) ?? 0) + 1);
      const mine = known ?? this.#newRow();
      rows.set(row, mine);
      this.#table(b).claim(slot, position, () => mine);
    }
    this.#tables.forEach((table, b) => {
      table.length = lengths[b]!;
    });
    this.#reserve();
  }

  /** Rows that tokens have. */
  get #used(): number {
    return this.#rows - this.#freeRows.length;
  }

  #newRow(): number {
    return this.#freeRows.pop() ?? this.#rows++;
  }

  #release(row: number): void {
    const others = this.#shared.get(row) ?? 0;
    if (others === 0) this.#freeRows.push(row);
    else if (others === 1) this.#shared.delete(row);
    else this.#shared.set(row, others - 1);
  }

  /** The row that a token may write: its own, or a new one when it has none or shares it. */
  readonly #own = (row: number): number => {
    if (row >= 0 && !this.#shared.has(row)) return row;
    if (row >= 0) this.#release(row);
    return this.#newRow();
  };

  /** The row that a token writes in a slot; while a journal is open always another one than it had. */
  #claim(table: KeyTable, slot: number, position: number): number {
    const { journal } = table;
    return table.claim(slot, position, journal === null ? this.#own : (old) => journal.note(slot, position, old, this.#newRow()));
  }

  #store(call: LayerCall, k: Tensor, v: Tensor, pass: Pass, tables: readonly KeyTable[]): Omit<KeyView, 'visible'> {
    this.#alive();
    const loops = typeof call.loop === 'number' ? undefined : call.loop;
    const calls = tables.map((_, i) => ({ ...call, loop: loops === undefined ? (call.loop as number) : loops[i]! }));
    const slots = calls.map((own) => slotOf(this.policy, this.layers, own));
    const T = pass.length;
    const writes = pass.positions.map((position, i) => {
      const row = Math.floor(i / T);
      if (position < 0) return -1;
      const table = tables[row]!;
      const slot = position < table.decodeFrom ? slots[row]! : slotOf(this.policy, this.layers, calls[row]!, true);
      return this.#claim(table, slot, position);
    });
    this.#reserve();
    const pool = this.#pool.tensors!;
    const rows = this.device.tensor(writes, [tables.length, T], { memory: 'kv' });
    try {
      scatterRows(pool.k, rows, k);
      scatterRows(pool.v, rows, v);
    } finally {
      rows.dispose();
    }
    const width = Math.max(1, ...tables.map((table) => table.length));
    const keyRows = new Int32Array(tables.length * width).fill(-1);
    tables.forEach((table, b) => {
      table.read(slots[b]!, this.policy.lookup, call.part === 'core', keyRows.subarray(b * width, (b + 1) * width));
    });
    return { ...pool, keyRows: this.device.tensor(keyRows, [tables.length, width], { dtype: 'i32' }) };
  }

  #plan(): void {
    this.#pool.plan(this.#rows, () => this.#slots());
  }

  #reserve(): void {
    this.#plan();
    this.#pool.reserve();
  }

  /** Gives memory back when much was forgotten: what is left moves together. */
  #shrink(): void {
    const used = this.#used;
    const { planned } = this.#pool;
    if (planned <= mostSpare * used) return;
    const slots = this.#slots();
    // Journals know rows by their numbers.
    if (planned <= mostSpare * used + mostPage * slots || this.#tables.some(({ journal }) => journal !== null)) return;
    if (used === 0) this.#decoding.reset();
    const rows = new Set(this.#tables.flatMap((table) => [...table.entries()].map(({ row }) => row)));
    const kept = Int32Array.from(rows).sort();
    const moved = this.#pool.shrink(kept, slots);
    const places = new Map(Array.from(kept, (row, i) => [row, i < moved ? i : row]));
    for (const table of this.#tables) table.renumber((row) => places.get(row)!);
    const shared = [...this.#shared].map(([row, others]) => [places.get(row)!, others] as const);
    this.#shared.clear();
    for (const [row, others] of shared) this.#shared.set(row, others);
    this.#freeRows.length = 0;
    if (moved === kept.length) this.#rows = moved;
    else {
      const taken = new Set(places.values());
      for (let row = 0; row < this.#rows; row++) if (!taken.has(row)) this.#freeRows.push(row);
    }
  }

  #slots(): number {
    return new Set(this.#tables.flatMap((table) => table.slots())).size;
  }

  #table(b: number): KeyTable {
    const table = this.#tables[b];
    if (table === undefined) throw new OptionError(`KVCache: sequence ${b} does not exist in a batch of ${this.batch}`);
    return table;
  }

  #alive(): void {
    if (this.#disposed) throw new UnrollError('KVCache: used after its dispose()');
  }
}
