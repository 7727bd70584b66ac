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
 * Live blocks never move: kernels and threads may hold addresses. Some are held room to grow in.
 */
export class LinearMemory {
  readonly memory: WebAssembly.Memory;
  readonly maxBytes: number;
  readonly #free = new Map<number, number[]>();
  #regions: Block[] = [];
  #end = firstAddress;
  /** Blocks that may grow where they are: what they have taken, and the whole that is held for them. */
  readonly #rooms = new Map<number, { taken: number; whole: number }>();

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

  /**
   * `bytes` rounded up as `blockSize` says. Where `room` bytes are to be had, `resize` may give the block so many later: they are held for it
   * untouched, which costs addresses, not memory, and go to others when there is nothing else. Throws OutOfMemoryError.
   */
  allocate(bytes: number, room = 0): number {
    const size = blockSize(bytes);
    const whole = blockSize(room);
    if (whole > size) {
      const at = this.#find(whole);
      if (at !== undefined) {
        this.#rooms.set(at, { taken: size, whole });
        return at;
      }
    }
    return this.#find(size) ?? this.#fromRooms(size) ?? this.#refuse(bytes, size);
  }

  /** Whether the block at `at` has `bytes` bytes from now on, more or fewer: to be freed with them. What it no longer has is held for it. */
  resize(at: number, before: number, bytes: number): boolean {
    const taken = blockSize(bytes);
    const whole = this.most(at, before);
    if (taken > whole) return false;
    if (taken === whole) this.#rooms.delete(at);
    else this.#rooms.set(at, { taken, whole });
    return true;
  }

  /** The most that `resize` would give the block of `bytes` bytes at `at`. */
  most(at: number, bytes: number): number {
    return this.#rooms.get(at)?.whole ?? blockSize(bytes);
  }

  free(at: number, bytes: number): void {
    const room = this.#rooms.get(at);
    const size = room?.whole ?? blockSize(bytes);
    if (room !== undefined) this.#rooms.delete(at);
    const waiting = this.#free.get(size);
    if (waiting === undefined) this.#free.set(size, [at]);
    else waiting.push(at);
  }

  #find(size: number): number | undefined {
    const waiting = this.#free.get(size);
    if (waiting !== undefined && waiting.length > 0) return waiting.pop()!;
    return this.#fromRegions(size) ?? this.#fromEnd(size, this.reserved) ?? this.#afterMerge(size);
  }

  /** Takes the end of what is held for the block that has the most ahead, or else gives up all that is held. */
  #fromRooms(size: number): number | undefined {
    const ahead = ({ taken, whole }: { taken: number; whole: number }) => whole - taken;
    let largest: number | undefined;
    for (const [at, room] of this.#rooms) if (largest === undefined || ahead(room) > ahead(this.#rooms.get(largest)!)) largest = at;
    if (largest === undefined) return undefined;
    const room = this.#rooms.get(largest)!;
    if (ahead(room) >= size) {
      room.whole -= size;
      return largest + room.whole;
    }
    for (const [at, { taken, whole }] of this.#rooms) if (whole > taken) this.#regions.push({ at: at + taken, size: whole - taken });
    this.#rooms.clear();
    return this.#afterMerge(size);
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

  #afterMerge(size: number): number | undefined {
    this.#merge();
    return this.#fromRegions(size) ?? this.#fromEnd(size, this.maxBytes);
  }

  #refuse(bytes: number, size: number): never {
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
