import { OptionError, UnrollError } from '@unroll/tensor';
import type { KVJournal } from './kv-journal.js';
import type { LayerCounts, Lookup } from './kv-policy.js';

/** The pool rows of one sequence: for each slot, the row of each position, -1 where the token never wrote that slot. */
export class KeyTable {
  length = 0;
  /** Tokens from this position on are decoded, those before it are the prompt. */
  decodeFrom = Number.POSITIVE_INFINITY;
  /** While somebody may want to take writes back. */
  journal: KVJournal | null = null;
  readonly #rows = new Map<number, Int32Array>();
  #touched = 0;
  #moved = Number.MAX_SAFE_INTEGER;

  constructor(readonly layers: LayerCounts) {}

  /** The least position whose rows changed since the last call. */
  takeTouched(): number {
    const touched = this.#touched;
    this.#touched = Number.MAX_SAFE_INTEGER;
    return touched;
  }

  /** The least position that went to another row since the last call. */
  takeMoved(): number {
    const moved = this.#moved;
    this.#moved = Number.MAX_SAFE_INTEGER;
    return moved;
  }

  slots(): number[] {
    return [...this.#rows].filter(([, rows]) => rows.some((row) => row >= 0)).map(([slot]) => slot);
  }

  /** The length after a pass over these positions. Throws OptionError for gaps or beyond the context. */
  lengthWith(positions: Int32Array, contextLength: number): number {
    let next = this.length;
    let previous = -1;
    for (const position of positions) {
      if (position < 0) continue;
      // Positions that it has may be run again in part.
      if (position > next || position <= previous || (previous >= 0 && position > previous + 1 && position >= this.length)) {
        throw new OptionError(
          `KVCache: positions must follow each other without gaps; got ${position} after ${previous < 0 ? next - 1 : previous}`,
        );
      }
      if (position >= contextLength) {
        throw new OptionError(
          `KVCache: position ${position} is beyond the context of ${contextLength} tokens; shorten the prompt or ask for fewer tokens`,
        );
      }
      next = Math.max(next, position + 1);
      previous = position;
    }
    return next;
  }

  /** Every row that positions have. */
  *entries(): Generator<{ readonly slot: number; readonly position: number; readonly row: number }> {
    for (const [slot, rows] of this.#rows) {
      for (let position = 0; position < Math.min(this.length, rows.length); position++) {
        if (rows[position]! >= 0) yield { slot, position, row: rows[position]! };
      }
    }
  }

  /** The row that a position writes in a slot: what `own` makes of the one that it has (-1 for none). */
  claim(slot: number, position: number, own: (row: number) => number): number {
    this.#touched = Math.min(this.#touched, position);
    let rows = this.#rows.get(slot);
    if (rows === undefined || rows.length <= position) {
      const longer = new Int32Array(Math.max(16, 2 * position)).fill(-1);
      if (rows !== undefined) longer.set(rows);
      rows = longer;
      this.#rows.set(slot, rows);
    }
    const old = rows[position]!;
    const row = own(old);
    if (old >= 0 && old !== row) this.#moved = Math.min(this.#moved, position);
    rows[position] = row;
    return row;
  }

  /** Puts a row back where it was, or -1. */
  restore(slot: number, position: number, row: number): void {
    this.#touched = Math.min(this.#touched, position);
    this.#rows.get(slot)![position] = row;
  }

  /** Gives every row that positions have another number. */
  renumber(place: (row: number) => number): void {
    this.#touched = 0;
    for (const rows of this.#rows.values()) for (let p = 0; p < rows.length; p++) if (rows[p]! >= 0) rows[p] = place(rows[p]!);
  }

  /** Fills `out` with the rows that a query in `slot` reads of each position from `from` on. Throws UnrollError when `own` misses one. */
  read(slot: number, lookup: Lookup, core: boolean, out: Int32Array, from = 0): void {
    const own = this.#rows.get(slot);
    if (core && (lookup === 'latest' || lookup === 'always-last')) {
      const slots = this.#sameLayer(slot, lookup === 'latest' ? slot : Number.POSITIVE_INFINITY);
      for (let p = from; p < this.length; p++) {
        for (const rows of slots) {
          const row = rows[p] ?? -1;
          if (row >= 0) {
            out[p] = row;
            break;
          }
        }
      }
      return;
    }
    const deepest = core && lookup === 'last-only' ? this.#sameLayer(slot, Number.POSITIVE_INFINITY) : [];
    for (let p = from; p < this.length; p++) {
      let row = own?.[p] ?? -1;
      for (let i = 0; row < 0 && i < deepest.length; i++) row = deepest[i]![p] ?? -1;
      if (row < 0 && !(core && lookup === 'skip')) {
        throw new UnrollError(
          `KVCache: the token at position ${p} has no keys in slot ${slot}: its depth was smaller; the policy "full" needs one depth for all tokens, use latest, always-last or skip`,
        );
      }
      out[p] = row;
    }
  }

  /** Gives back the rows of the positions from `length` on. */
  truncate(length: number): number[] {
    if (length >= this.length) return [];
    this.#touched = Math.min(this.#touched, length);
    this.journal?.close();
    const freed: number[] = [];
    for (const rows of this.#rows.values()) {
      for (let p = length; p < Math.min(this.length, rows.length); p++) {
        if (rows[p]! >= 0) freed.push(rows[p]!);
        rows[p] = -1;
      }
    }
    this.length = length;
    return freed;
  }

  /** Rows of the core's slots of one layer up to `most`, the deepest first. */
  #sameLayer(slot: number, most: number): Int32Array[] {
    const { prelude, core } = this.layers;
    const layer = (slot - prelude) % core;
    return [...this.#rows]
      .filter(([other]) => other >= prelude && other <= most && (other - prelude) % core === layer)
      .sort(([a], [b]) => b - a)
      .map(([, rows]) => rows);
  }
}
