import { OutOfMemoryError } from '../errors.js';

const alignment = 64;
const pageBytes = 65536;
/** What lies below belongs to the threads' jobs (kernels/jobs.ts). Address 0 can thus mean "none" in kernel arguments. */
export const firstAddress = 16384;
const maxPages = 65536;

/** Rounds a size up so that freed blocks fit later requests: 64-byte steps, above 1 KiB eight steps an octave (at most 12.5 % unused). */
export function blockSize(bytes: number): number {
  if (bytes <= 1024) return Math.max(alignment, Math.ceil(bytes / alignment) * alignment);
  const step = 2 ** (Math.floor(Math.log2(bytes - 1)) - 3);
  return Math.ceil(bytes / step) * step;
}

interface Block {
  readonly at: number;
  readonly size: number;
}

/**
 * Allocator over one growing WebAssembly memory. Freed blocks wait in a list per size; when none fits, memory is taken from merged
 * free regions, then from the end. Before the memory grows, which cannot be undone, free blocks that touch are merged.
 * Live blocks never move: kernels and threads may hold addresses.
 */
export class LinearMemory {
  readonly memory: WebAssembly.Memory;
  readonly maxBytes: number;
  readonly #free = new Map<number, number[]>();
  #regions: Block[] = [];
  #end = firstAddress;

  /** maxBytes is rounded down to whole pages of 64 KiB. Throws OutOfMemoryError. */
  constructor(maxBytes: number = maxPages * pageBytes, shared = false) {
    const maximum = Math.floor(maxBytes / pageBytes);
    this.maxBytes = maximum * pageBytes;
    try {
      this.memory = new WebAssembly.Memory({ initial: 16, maximum, shared });
    } catch (error) {
      throw new OutOfMemoryError(
        `cpu device: the system reserved no memory of at most ${this.maxBytes} bytes; create the device with a smaller maxBytes`,
        {
          cause: error,
        },
      );
    }
  }

  get reserved(): number {
    return this.memory.buffer.byteLength;
  }

  /** `bytes` rounded up as `blockSize` says. Throws OutOfMemoryError. */
  allocate(bytes: number): number {
    const size = blockSize(bytes);
    const waiting = this.#free.get(size);
    if (waiting !== undefined && waiting.length > 0) return waiting.pop()!;
    return this.#fromRegions(size) ?? this.#fromEnd(size, this.reserved) ?? this.#afterMerge(bytes, size);
  }

  free(at: number, bytes: number): void {
    const size = blockSize(bytes);
    const waiting = this.#free.get(size);
    if (waiting === undefined) this.#free.set(size, [at]);
    else waiting.push(at);
  }

  #fromRegions(size: number): number | undefined {
    for (let i = 0; i < this.#regions.length; i++) {
      const region = this.#regions[i]!;
      if (region.size < size) continue;
      if (region.size === size) this.#regions.splice(i, 1);
      else this.#regions[i] = { at: region.at + size, size: region.size - size };
      return region.at;
    }
    return undefined;
  }

  #fromEnd(size: number, limit: number): number | undefined {
    const at = this.#end;
    const need = at + size;
    if (need > limit) return undefined;
    const have = this.reserved;
    if (need > have) {
      // An eighth ahead, so that growing costs little and little is reserved for nothing.
      const wanted = Math.min(limit, Math.max(need, have + Math.min(Math.floor(have / 8), 1 << 26)));
      if (!this.#grow(wanted - have) && !this.#grow(need - have)) return undefined;
    }
    this.#end = need;
    return at;
  }

  #grow(bytes: number): boolean {
    try {
      this.memory.grow(Math.ceil(bytes / pageBytes));
      return true;
    } catch {
      return false;
    }
  }

  #afterMerge(bytes: number, size: number): number {
    this.#merge();
    const at = this.#fromRegions(size) ?? this.#fromEnd(size, this.maxBytes);
    if (at !== undefined) return at;
    const used = this.#end - firstAddress - this.#regions.reduce((sum, region) => sum + region.size, 0);
    const refused = this.#end + size <= this.maxBytes ? `; the system gave ${this.reserved} and refused more` : '';
    throw new OutOfMemoryError(
      `cpu device: no room for ${bytes} bytes; ${used} of at most ${this.maxBytes} bytes are in use${refused}. Dispose tensors, lower the context or the batch, or use a smaller model`,
    );
  }

  /** Joins waiting blocks and regions that touch; a region at the end goes back to the unused end. */
  #merge(): void {
    const blocks = [...this.#regions];
    for (const [size, list] of this.#free) for (const at of list) blocks.push({ at, size });
    this.#free.clear();
    blocks.sort((a, b) => a.at - b.at);
    const merged: Block[] = [];
    for (const block of blocks) {
      const last = merged[merged.length - 1];
      if (last !== undefined && last.at + last.size === block.at) merged[merged.length - 1] = { at: last.at, size: last.size + block.size };
      else merged.push(block);
    }
    const last = merged[merged.length - 1];
    if (last !== undefined && last.at + last.size === this.#end) {
      this.#end = last.at;
      merged.pop();
    }
    this.#regions = merged;
  }
}
