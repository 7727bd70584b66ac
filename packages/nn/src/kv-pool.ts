import { type Device, gatherRows, OutOfMemoryError, scatterRows, type Tensor, tidy } from '@unroll/tensor';
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

  /**
   * Keeps these rows alone, ascending, as the first ones, and a page for so many slots. Gives how many of them have their place: where the
   * device has no memory to move with not all, those behind lie where they were, and it stays as large as it is.
   */
  shrink(rows: Int32Array, slots: number): number {
    const capacity = rows.length + pageTokens * slots;
    const most = this.#roomFor(capacity);
    const old = this.tensors;
    if (old === undefined || capacity === 0) {
      this.dispose();
      [this.#keys, this.#values] = [null, null];
    } else if (this.device.capacity.growsInPlace) {
      // Since no row goes to a higher place, none is overwritten before it is read.
      const moved = this.#copyRows([old, old], rows);
      if (moved < rows.length) return moved;
      [this.#keys, this.#values] = [this.device.resize(old.k, capacity)!, this.device.resize(old.v, capacity)!];
    } else {
      const other = this.#beside(old, capacity, rows, most);
      if (other === undefined) return 0;
      for (const tensor of [old.k, old.v]) tensor.dispose();
      [this.#keys, this.#values] = [other.k, other.v];
    }
    this.#capacity = capacity;
    this.#planned = capacity;
    return rows.length;
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
        for (const piece of this.#pieces(rows)) tidy(this.device, () => this.#take([old], piece)([other]));
      } catch (error) {
        other.dispose();
        throw error;
      }
    }
    old?.dispose();
    return other;
  }

  /** Keys and values of these rows in memory of their own; undefined where there is none. */
  #beside(old: KeyPool, capacity: number, rows: Int32Array, most: number): KeyPool | undefined {
    const made: Tensor<'f32'>[] = [];
    try {
      for (let i = 0; i < 2; i++) made.push(this.device.growing([capacity, ...this.rowShape], most, { memory: 'kv' }));
      const other = { k: made[0]!, v: made[1]! };
      if (this.#copyRows([old, other], rows) === rows.length) {
        this.#roomy = most;
        return other;
      }
    } catch (error) {
      for (const tensor of made) tensor.dispose();
      if (!(error instanceof OutOfMemoryError)) throw error;
      return undefined;
    }
    for (const tensor of made) tensor.dispose();
    return undefined;
  }

  /** Copies keys and values of these rows to the first places of another pool, or of the same. Gives how many it had the memory for. */
  #copyRows([from, to]: readonly [KeyPool, KeyPool], rows: Int32Array): number {
    for (const piece of this.#pieces(rows)) {
      let put: ((targets: readonly Tensor[]) => void) | undefined;
      try {
        tidy(this.device, () => {
          // Once both are out of their places, nothing that follows takes memory.
          put = this.#take([from.k, from.v], piece);
          put([to.k, to.v]);
        });
      } catch (error) {
        if (put === undefined && error instanceof OutOfMemoryError) return piece.at;
        throw error;
      }
    }
    return rows.length;
  }

  /** Rows in pieces: all at once would take the pool's memory a third time. */
  *#pieces(rows: Int32Array): Generator<{ readonly at: number; readonly rows: Int32Array }> {
    const step = Math.max(1, Math.floor((2 * moveBytes) / this.rowBytes));
    for (let at = 0; at < rows.length; at += step) yield { at, rows: rows.subarray(at, at + step) };
  }

  /** Takes rows out of tensors; what it gives puts them into others, from place `at` on. */
  #take(
    tensors: readonly Tensor<'f32'>[],
    { at, rows }: { readonly at: number; readonly rows: Int32Array },
  ): (targets: readonly Tensor[]) => void {
    const [from, to] = [this.device.tensor(rows), this.device.tensor(rows.map((_, i) => at + i))];
    const taken = tensors.map((tensor) => gatherRows(tensor, from));
    return (targets) => {
      targets.forEach((target, i) => {
        scatterRows(target, to, taken[i]!);
      });
    };
  }
}
