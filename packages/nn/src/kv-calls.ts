import { type Device, reshape, scatterRows, type Tensor, tidy } from '@unroll/tensor';

/**
 * Rows (calls, B, S) i32 of some layer calls: which pool row each position has for a query of that call. Kept on the host and on the
 * device, where a new token changes one column.
 */
export class CallTable {
  readonly rows: Tensor<'i32'>;
  /** (calls, B, 1): the rows that the newest tokens write, where they are asked for. */
  readonly own: Tensor<'i32'> | undefined;
  readonly calls: number;
  readonly #batch: number;
  readonly #positions: number;
  readonly #host: Int32Array;
  /** For each call and sequence: positions below it are as they should be. */
  readonly #until: Int32Array;
  #changed: number[] = [];
  readonly #ownRows: Int32Array;
  #whole = true;

  /** `from` is a table of fewer calls or positions that this one takes the place of. */
  constructor(
    private readonly device: Device,
    { calls, batch, positions }: { readonly calls: number; readonly batch: number; readonly positions: number },
    withOwn: boolean,
    from?: CallTable,
  ) {
    const n = calls * batch;
    this.calls = calls;
    this.#batch = batch;
    this.#positions = positions;
    this.#host = new Int32Array(n * positions).fill(-1);
    this.#until = new Int32Array(n);
    this.#ownRows = new Int32Array(n).fill(-1);
    for (let i = 0; from !== undefined && i < from.calls * batch; i++) {
      this.#host.set(from.#host.subarray(i * from.#positions, (i + 1) * from.#positions), i * positions);
      this.#until[i] = from.#until[i]!;
      this.#ownRows[i] = from.#ownRows[i]!;
    }
    this.rows = device.zeros([calls, batch, positions], { dtype: 'i32', memory: 'kv' });
    this.own = withOwn ? device.zeros([calls, batch, 1], { dtype: 'i32', memory: 'kv' }) : undefined;
  }

  /** Forgets what is known of sequence b from a position on. */
  forget(b: number, position: number): void {
    for (let i = b; i < this.#until.length; i += this.#batch) this.#until[i] = Math.min(this.#until[i]!, position);
  }

  /** Notes that sequence b's newest token, at `position`, writes `row` in a call; `read` fills a row of the table from a position on. */
  set(call: number, b: number, position: number, row: number, rereads: boolean, read: (out: Int32Array, from: number) => void): void {
    const i = call * this.#batch + b;
    const start = i * this.#positions;
    this.#ownRows[i] = row;
    const from = rereads ? Math.max(0, this.#until[i]! - 1) : this.#until[i]!;
    if (from < position || rereads) {
      const fresh = this.#host.slice(start, start + this.#positions);
      read(fresh, from);
      for (let p = from; p <= position; p++) this.#put(start + p, fresh[p]!);
    } else this.#put(start + position, row);
    this.#until[i] = position + 1;
  }

  /** Brings the device's copy up to date. */
  flush(): void {
    if (this.own !== undefined) this.device.write(this.own, this.#ownRows);
    if (this.#whole || this.#changed.length * 8 > this.#host.length) this.device.write(this.rows, this.#host);
    else if (this.#changed.length > 0) {
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
    this.own?.dispose();
  }

  #put(at: number, row: number): void {
    if (this.#host[at] === row) return;
    this.#host[at] = row;
    this.#changed.push(at);
  }
}
