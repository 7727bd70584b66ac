/** One row that a pass has put in the place of another. */
interface Entry {
  readonly at: number;
  readonly slot: number;
  readonly position: number;
  /** -1 where the token had none. */
  readonly old: number;
  readonly row: number;
}

/** What a journal needs of the table that it is about. */
export interface JournalTable {
  /** Puts a row back, or -1. */
  restore(slot: number, position: number, row: number): void;
}

/**
 * What one sequence's passes write while it is open, so that loops that ran too far can be taken back: nothing is overwritten meanwhile, old
 * rows wait until it is certain that nobody needs them.
 */
export class KVJournal {
  readonly #entries: Entry[] = [];
  #now = 0;
  #open = true;

  /** @internal Use `KVCache.openJournal`. */
  constructor(
    private readonly table: JournalTable,
    private readonly release: (row: number) => void,
    private readonly closed: () => void,
  ) {}

  /** @internal */
  note(slot: number, position: number, old: number, row: number): number {
    this.#entries.push({ at: this.#now++, slot, position, old, row });
    return row;
  }

  /** The moment now, for `rollback` and `commit`. */
  mark(): number {
    return this.#now;
  }

  /** Takes back what was written after a mark. Marks before it stay good. */
  rollback(mark: number): void {
    while (this.#entries.length > 0 && this.#entries[this.#entries.length - 1]!.at >= mark) {
      const { slot, position, old, row } = this.#entries.pop()!;
      this.table.restore(slot, position, old);
      this.release(row);
    }
  }

  /** Lets go of what was overwritten before a mark. */
  commit(mark: number): void {
    const count = this.#entries.findIndex(({ at }) => at >= mark);
    for (const { old } of this.#entries.splice(0, count < 0 ? this.#entries.length : count)) if (old >= 0) this.release(old);
  }

  /** Everything stays as it is. A second call does nothing. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.commit(this.#now);
    this.closed();
  }
}
