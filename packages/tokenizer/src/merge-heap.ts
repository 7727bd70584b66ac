/** A pair that may be merged: its count when it was queued, its key (which orders pairs by their ids), the words it stands in. */
export interface Candidate {
  count: number;
  readonly key: number;
  readonly at: ReadonlySet<number>;
}

function precedes(a: Candidate, b: Candidate): boolean {
  return a.count !== b.count ? a.count > b.count : a.key < b.key;
}

/** Binary heap: highest count first, of equals the smallest key. */
export class MergeHeap {
  readonly #items: Candidate[] = [];

  push(item: Candidate): void {
    const items = this.#items;
    let i = items.length;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = items[parent] as Candidate;
      if (!precedes(item, above)) break;
      items[i] = above;
      i = parent;
    }
    items[i] = item;
  }

  pop(): Candidate | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (last === undefined || items.length === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && precedes(items[child + 1] as Candidate, items[child] as Candidate)) child++;
      if (!precedes(items[child] as Candidate, last)) break;
      items[i] = items[child] as Candidate;
      i = child;
    }
    items[i] = last;
    return top;
  }
}
