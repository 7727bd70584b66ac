import { type Device, gatherRows, scatterRows, type Tensor, tidy } from '@unroll/tensor';
import type { KeyPool } from './kv-shape.js';

/** Bytes of rows that move to another pool at once. */
const moveBytes = 1 << 23;
/** Tokens for each slot that a growing pool takes ahead. Less than the page that a cache may spare, so that a few may be forgotten again. */
const pageTokens = 12;

/** Rows (R, Hk, D) of keys and of values, as many as were asked for and some ahead. An owner. */
export class RowPool {
  #keys: Tensor<'f32'> | null = null;
  #values: Tensor<'f32'> | null = null;
  #capacity = 0;
  #planned = 0;
  #most = 0;
  /** Rows that the tensors were given room for. */
  #roomy = 0;

  constructor(
    private readonly device: Device,
    private readonly rowShape: readonly [number, number],
  ) {}

  /** Rows that there are. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Rows that there will be when it is next needed. */
  get planned(): number {
    return this.#planned;
  }

  get tensors(): KeyPool | undefined {
    return this.#keys === null || this.#values === null ? undefined : { k: this.#keys, v: this.#values };
  }

  /** Bytes of a row, keys and values. */
  get rowBytes(): number {
    return 2 * this.rowShape[0] * this.rowShape[1] * 4;
  }

  /** Says how many rows there will be at most: it will take no more ahead, and grows where it is, where the device can. */
  expect(rows: number): void {
    this.#most = rows;
  }

  /** Most rows that the memory of the device has left for this pool, those that it has included; Infinity where it cannot tell. */
  room(): number {
    const { bytes, operandBytes, growsInPlace, taken } = this.device.capacity;
    const { weights, kv, scratch } = this.device.memory().bytes;
    const half = this.rowBytes / 2;
    // A part for what passes compute with. A pool that moves stands beside what it has been: here once, elsewhere with every step.
    const free = (31 / 32) * bytes - weights - kv - scratch + (growsInPlace ? 0 : this.#capacity * this.rowBytes);
    const most = Math.floor(operandBytes / half);
    if (free === Number.POSITIVE_INFINITY) return most;
    const fits = (rows: number) => taken(half * rows) * (growsInPlace ? 2 : 3) <= free;
    let [low, high] = [0, Math.min(most, Math.max(0, Math.floor(free / half))) + 1];
    while (low + 1 < high) {
      const middle = Math.floor((low + high) / 2);
      if (fits(middle)) low = middle;
      else high = middle;
    }
    return Math.max(low, Math.min(this.#held(), most));
  }

  /** Rows that it can have where it is. */
  #held(): number {
    if (this.#keys === null || this.#values === null) return 0;
    return Math.min(this.#roomy, this.device.mostRows(this.#keys), this.device.mostRows(this.#values));
  }

  /**
   * Decides how large it must be for so many rows of so many slots. Asked after every layer call, whether these run at once or later, so
   * that the sizes do not depend on how many calls are recorded together.
   */
  plan(rows: number, slots: () => number): void {
    if (rows <= this.#planned) return;
    // A fifth ahead, so that copies stay rare, and a page of tokens for each slot, so that a short text's recordings are not made anew for
    // every few of its tokens: what is recorded names the pool.
    const ahead = Math.max(Math.ceil(this.#planned * 1.2), rows + pageTokens * slots());
    const limits = [this.#most, this.#held()].filter((limit) => rows <= limit);
    this.#planned = Math.min(ahead, ...limits);
  }

  /** Takes what is planned. */
  reserve(): void {
    if (this.#planned <= this.#capacity) return;
    const rows = Int32Array.from({ length: this.#capacity }, (_, i) => i);
    const most = this.#roomFor(this.#planned);
    const grow = (old: Tensor<'f32'> | null) =>
      (old === null ? undefined : this.device.resize(old, this.#planned)) ?? this.#move(old, this.#planned, rows, most);
    this.#keys = grow(this.#keys);
    this.#values = grow(this.#values);
    this.#capacity = this.#planned;
  }

  /** Keeps these rows alone, ascending, as the first ones, and a page for so many slots. */
  shrink(rows: Int32Array, slots: number): void {
    const capacity = rows.length + pageTokens * slots;
    const most = this.#roomFor(capacity);
    const less = (old: Tensor<'f32'> | null) => {
      if (old === null || !this.device.capacity.growsInPlace || capacity === 0) return this.#move(old, capacity, rows, most);
      // Since no row goes to a higher place, none is overwritten before it is read.
      this.#copyRows(old, old, rows);
      return this.device.resize(old, capacity)!;
    };
    this.#keys = less(this.#keys);
    this.#values = less(this.#values);
    this.#capacity = capacity;
    this.#planned = capacity;
  }

  dispose(): void {
    this.#keys?.dispose();
    this.#values?.dispose();
  }

  #roomFor(capacity: number): number {
    return Math.max(capacity, Math.min(this.#most, this.room()));
  }

  /** Other memory for so many rows, and room for `most`, of which the first are these of the old one. */
  #move(old: Tensor<'f32'> | null, capacity: number, rows: Int32Array, most: number): Tensor<'f32'> | null {
    this.#roomy = most;
    const shape = [capacity, ...this.rowShape];
    const other = capacity === 0 ? null : this.device.growing(shape, most, { memory: 'kv' });
    if (old !== null && other !== null) {
      try {
        this.#copyRows(old, other, rows);
      } catch (error) {
        other.dispose();
        throw error;
      }
    }
    old?.dispose();
    return other;
  }

  /** In pieces: all rows at once would take the pool's memory a third time. */
  #copyRows(old: Tensor<'f32'>, other: Tensor<'f32'>, rows: Int32Array): void {
    const step = Math.max(1, Math.floor((2 * moveBytes) / this.rowBytes));
    for (let at = 0; at < rows.length; at += step) {
      tidy(this.device, () => {
        const from = rows.subarray(at, at + step);
        const to = this.device.tensor(from.map((_, i) => at + i));
        scatterRows(other, to, gatherRows(old, this.device.tensor(from)));
      });
    }
  }
}
