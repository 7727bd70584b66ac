import { type Device, OptionError, scatterRows, type Tensor, UnrollError } from '@unroll/tensor';
import { checkPolicy, fullPolicy, type KVPolicy, type LayerCall, type LayerCounts, slotOf } from './kv-policy.js';
import { KeyTable } from './kv-table.js';
import { Pass } from './pass.js';

export interface KVCacheOptions {
  readonly device: Device;
  readonly layers: LayerCounts;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Most positions that a sequence may have. */
  readonly contextLength: number;
  readonly batch?: number;
  readonly policy?: KVPolicy;
}

export interface KVCacheUsage {
  /** Slots in use, of all layers. */
  readonly slots: number;
  /** Tokens of the longest sequence. */
  readonly tokens: number;
  /** Bytes of the keys and values that tokens have. */
  readonly logicalBytes: number;
  /** Bytes that the pool takes. */
  readonly allocatedBytes: number;
}

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
  #rows = 0;
  #capacity = 0;
  #keys: Tensor | null = null;
  #values: Tensor | null = null;
  #disposed = false;

  constructor(options: KVCacheOptions) {
    const { device, layers, kvHeads, headDim, contextLength, batch = 1, policy = fullPolicy } = options;
    checkPolicy(policy, layers);
    if (!Number.isInteger(batch) || batch < 1) throw new OptionError(`KVCache: batch must be a whole number from 1; got ${batch}`);
    this.device = device;
    this.batch = batch;
    this.policy = policy;
    this.layers = layers;
    this.contextLength = contextLength;
    this.#rowShape = [kvHeads, headDim];
    this.#tables = Array.from({ length: batch }, () => new KeyTable(layers));
  }

  /** Tokens of sequence b. */
  length(b = 0): number {
    return this.#table(b).length;
  }

  /**
   * Opens a pass over new tokens: positions (B, T) row by row, -1 for padding. Each sequence's positions must follow on its length
   * without gaps, or overwrite positions that it has. Dispose the pass when done. Throws OptionError.
   */
  begin(positions: Int32Array, batch = this.batch): Pass {
    this.#alive();
    if (batch !== this.batch || positions.length % batch !== 0) {
      throw new OptionError(`KVCache: positions must be (${this.batch}, T); got ${positions.length} values for a batch of ${batch}`);
    }
    const T = positions.length / batch;
    const lengths = this.#tables.map((table, b) => table.lengthWith(positions.subarray(b * T, (b + 1) * T), this.contextLength));
    this.#tables.forEach((table, b) => {
      table.length = lengths[b]!;
    });
    return new Pass(this.device, batch, positions, (call, k, v, pass) => this.#store(call, k, v, pass));
  }

  /** Forgets the positions from `length` on, in sequence b or in all. */
  truncate(length: number, b?: number): void {
    this.#alive();
    if (!Number.isInteger(length) || length < 0) throw new OptionError(`KVCache.truncate: length must be a whole number from 0; got ${length}`);
    for (const table of b === undefined ? this.#tables : [this.#table(b)]) this.#freeRows.push(...table.truncate(length));
  }

  usage(): KVCacheUsage {
    const rowBytes = 2 * this.#rowShape[0] * this.#rowShape[1] * 4;
    const slots = new Set(this.#tables.flatMap((table) => table.slots()));
    return {
      slots: slots.size,
      tokens: Math.max(...this.#tables.map((table) => table.length)),
      logicalBytes: (this.#rows - this.#freeRows.length) * rowBytes,
      allocatedBytes: this.#capacity * rowBytes,
    };
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#keys?.dispose();
    this.#values?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #store(call: LayerCall, k: Tensor, v: Tensor, pass: Pass): { k: Tensor; v: Tensor; keyRows: Int32Array; width: number } {
    this.#alive();
    const slot = slotOf(this.policy, this.layers, call);
    const T = pass.length;
    const writes = pass.positions.map((position, i) => {
      return position < 0 ? -1 : this.#tables[Math.floor(i / T)]!.claim(slot, position, () => this.#freeRows.pop() ?? this.#rows++);
    });
    this.#reserve(this.#rows);
    const rows = this.device.tensor(writes, [this.batch, T], { memory: 'kv' });
    try {
      scatterRows(this.#keys!, rows, k);
      scatterRows(this.#values!, rows, v);
    } finally {
      rows.dispose();
    }
    const width = Math.max(1, ...this.#tables.map((table) => table.length));
    const keyRows = new Int32Array(this.batch * width).fill(-1);
    this.#tables.forEach((table, b) => {
      table.read(slot, this.policy.lookup, call.part === 'core', keyRows.subarray(b * width, (b + 1) * width));
    });
    return { k: this.#keys!, v: this.#values!, keyRows, width };
  }

  #reserve(rows: number): void {
    if (rows <= this.#capacity) return;
    // A fifth ahead: copies stay rare, and allocated bytes within 1.25 times those in use.
    const capacity = Math.max(rows, Math.ceil(this.#capacity * 1.2));
    const grow = (old: Tensor | null): Tensor => {
      const bigger = this.device.zeros([capacity, ...this.#rowShape], { memory: 'kv' });
      if (old === null) return bigger;
      const all = this.device.tensor(Int32Array.from({ length: old.shape[0]! }, (_, i) => i), undefined, { memory: 'kv' });
      scatterRows(bigger, all, old);
      all.dispose();
      old.dispose();
      return bigger;
    };
    this.#keys = grow(this.#keys);
    this.#values = grow(this.#values);
    this.#capacity = capacity;
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
