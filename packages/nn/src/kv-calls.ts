import { type Device, reshape, scatterRows, type Tensor, tidy } from '@unroll/tensor';

/** What a layer call wrote for a sequence: the rows of some positions, both ascending by position. */
export interface Written {
  readonly call: number;
  readonly sequence: number;
  readonly positions: readonly number[];
  readonly rows: readonly number[];
  /** Deeper loops of these positions, which come later, change what the next positions read. */
  readonly rereads: boolean;
}

/**
 * Rows (calls, B, S) i32 of some layer calls: which pool row each position has for a query of that call. Kept on the host and on the
 * device, where new tokens change some columns.
 */
export class CallTable {
  readonly rows: Tensor<'i32'>;
  readonly calls: number;
  readonly batch: number;
  readonly positions: number;
  readonly #host: Int32Array;
  /** For each call and sequence: positions below it are as they should be. */
  readonly #until: Int32Array;
  #changed: number[] = [];
  #whole = true;

  /** `from` is a table of fewer calls, sequences or positions that this one takes the place of. */
  constructor(
    private readonly device: Device,
    { calls, batch, positions }: { readonly calls: number; readonly batch: number; readonly positions: number },
    from?: CallTable,
  ) {
    const n = calls * batch;
    this.calls = calls;
    this.batch = batch;
    this.positions = positions;
    this.#host = new Int32Array(n * positions).fill(-1);
    this.#until = new Int32Array(n);
    for (let call = 0; from !== undefined && call < from.calls; call++) {
      for (let b = 0; b < from.batch; b++) {
        const [i, old] = [call * batch + b, call * from.batch + b];
        this.#host.set(from.#host.subarray(old * from.positions, (old + 1) * from.positions), i * positions);
        this.#until[i] = from.#until[old]!;
      }
    }
    this.rows = device.zeros([calls, batch, positions], { dtype: 'i32', memory: 'kv' });
  }

  /** Forgets what is known of sequence b from a position on. */
  forget(b: number, position: number): void {
    if (position === Number.MAX_SAFE_INTEGER) return;
    // Nothing moved, as in most calls: they would otherwise take time by the square of their number.
    if (position >= this.positions) return;
    for (let i = b; i < this.#until.length; i += this.batch) this.#until[i] = Math.min(this.#until[i]!, position);
  }

  /**
   * Notes what a call wrote; `read` fills a row of the table from a position on. Gives whether the call's queries read at their own
   * positions the rows that they wrote.
   */
  set({ call, sequence, positions, rows, rereads }: Written, read: (out: Int32Array, from: number) => void): boolean {
    const i = call * this.batch + sequence;
    const start = i * this.positions;
    const [first, last] = [positions[0]!, positions[positions.length - 1]!];
    const until = this.#until[i]!;
    const gapless = last - first === positions.length - 1 || last < until;
    if (!rereads && until >= first && gapless) {
      for (let j = 0; j < rows.length; j++) this.#put(start + positions[j]!, rows[j]!);
    } else {
      const fresh = this.#host.slice(start, start + this.positions);
      const from = Math.min(until, first);
      read(fresh, from);
      for (let p = from; p <= last; p++) this.#put(start + p, fresh[p]!);
    }
    this.#until[i] = rereads ? first : Math.max(until, last + 1);
    for (let j = 0; j < rows.length; j++) if (this.#host[start + positions[j]!] !== rows[j]) return false;
    return true;
  }

  /** Brings the device's copy up to date. */
  flush(): void {
    if (this.#whole || this.#changed.length * 8 > this.#host.length) this.device.write(this.rows, this.#host);
    else if (this.device.kind === 'cpu') {
      // There a write is a store; elsewhere it is a command of its own, and one operation brings all of them.
      for (const at of this.#changed) this.device.write(this.rows, this.#host.subarray(at, at + 1), at);
    } else if (this.#changed.length > 0) {
      tidy(this.device, () => {
        const index = this.device.tensor(this.#changed, undefined, { dtype: 'i32' });
        const values = this.#changed.map((at) => this.#host[at]!);
        scatterRows(reshape(this.rows, [this.#host.length, 1]), index, this.device.tensor(values, [values.length, 1], { dtype: 'i32' }));
      });
    }
    this.#whole = false;
    this.#changed = [];
  }

  dispose(): void {
    this.rows.dispose();
  }

  #put(at: number, row: number): void {
    if (this.#host[at] === row) return;
    this.#host[at] = row;
    this.#changed.push(at);
  }
}
