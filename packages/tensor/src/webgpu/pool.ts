import { blockSize } from '../cpu/memory.js';
import { OutOfMemoryError } from '../errors.js';
import type { Failures } from './failures.js';
import { type GpuBuffer, type GpuDevice, usage } from './gpu.js';

/** A buffer and what is known of its use. */
export interface PooledBuffer {
  readonly buffer: GpuBuffer;
  /** Its capacity; at least what was asked for. */
  readonly size: number;
  /** Tells it apart in the keys of bind groups. */
  readonly id: number;
  /** Last batch that reads or writes it. */
  touched: number;
  /** Last batch whose commands write it; 0 before. What the host writes directly does not depend on a batch. */
  written: number;
  /** The driver had no memory for it. */
  invalid: OutOfMemoryError | undefined;
  /** A program uses it for as long as it lives: it does not return to the pool with its tensor. */
  owned: boolean;
}

export interface PoolOptions {
  /** Most bytes in use and waiting together. */
  readonly maxBytes: number;
  /** Most bytes that wait for reuse. */
  readonly poolBytes: number;
}

const lower = 'Dispose tensors, lower the context or the batch, or use a smaller model';

/**
 * Storage buffers by size class. Freed buffers wait for reuse up to a cap and are destroyed beyond it: the garbage collector does not see
 * the memory behind a GPU buffer, so nothing is left to it.
 */
export class BufferPool {
  readonly #free = new Map<number, PooledBuffer[]>();
  #reserved = 0;
  #waiting = 0;
  #lastId = 0;
  created = 0;

  constructor(
    readonly device: GpuDevice,
    readonly failures: Failures,
    readonly options: PoolOptions,
    /** Called before buffers are destroyed: commands that were not submitted yet must not name them. */
    readonly beforeDestroy: (touched: number) => void,
  ) {}

  get reserved(): number {
    return this.#reserved;
  }

  /** Throws OutOfMemoryError for what cannot be; what the driver refuses later arrives by `failures`. */
  acquire(bytes: number, label: string): PooledBuffer {
    const size = this.sizeClass(bytes);
    const waiting = this.#free.get(size);
    const batch = this.failures.batch();
    if (waiting !== undefined && waiting.length > 0) {
      // One that the open batch does not use can be written to without ending the batch.
      const idle = waiting.findIndex((pooled) => pooled.touched < batch);
      const pooled = idle < 0 ? waiting.pop()! : waiting.splice(idle, 1)[0]!;
      this.#waiting -= size;
      pooled.written = 0;
      return pooled;
    }
    if (this.#reserved + size > this.options.maxBytes) this.trim(0);
    if (this.#reserved + size > this.options.maxBytes) {
      throw new OutOfMemoryError(
        `webgpu device: no room for ${bytes} bytes (${label}); ${this.#reserved} of at most ${this.options.maxBytes} bytes are in use. ${lower}`,
      );
    }
    return this.#create(bytes, size, label);
  }

  release(pooled: PooledBuffer): void {
    if (pooled.owned) return;
    if (pooled.invalid !== undefined) {
      this.#reserved -= pooled.size;
      return;
    }
    const waiting = this.#free.get(pooled.size);
    if (waiting === undefined) this.#free.set(pooled.size, [pooled]);
    else waiting.push(pooled);
    this.#waiting += pooled.size;
    // Room for half of the cap at once, so that a program at its edge does not pay for this at every call.
    if (this.#waiting > this.options.poolBytes) this.trim(this.options.poolBytes / 2);
  }

  /** Destroys waiting buffers, the largest first, until at most `keep` bytes wait. */
  trim(keep: number): void {
    const sizes = [...this.#free.keys()].sort((a, b) => b - a);
    for (const size of sizes) {
      const waiting = this.#free.get(size)!;
      while (waiting.length > 0 && this.#waiting > keep) this.#destroy(waiting.pop()!);
      if (waiting.length === 0) this.#free.delete(size);
    }
  }

  /** Capacity of the buffer that so many bytes get. Throws OutOfMemoryError beyond the largest buffer. */
  sizeClass(bytes: number): number {
    const limit = this.device.limits.maxBufferSize;
    if (bytes > limit) {
      throw new OutOfMemoryError(
        `webgpu device: one tensor of ${bytes} bytes exceeds the largest buffer of this adapter, ${limit} bytes. ${lower}`,
      );
    }
    // Whole vectors of four, and never 0: kernels may read the vector that holds the last value.
    const size = Math.max(256, Math.ceil(blockSize(bytes) / 16) * 16);
    return size <= limit ? size : Math.ceil(bytes / 16) * 16;
  }

  #create(bytes: number, size: number, label: string): PooledBuffer {
    const id = ++this.#lastId;
    const refused = (message: string) => {
      pooled.invalid = new OutOfMemoryError(
        `webgpu device: the driver has no ${bytes} bytes for ${label} (${this.#reserved} bytes are in use by this device). ${lower}. The driver says: ${message}`,
      );
      return pooled.invalid;
    };
    const flags = usage.storage | usage.copySrc | usage.copyDst;
    const make = () => this.device.createBuffer({ label: `unroll ${id} ${label}`, size, usage: flags });
    const pooled: PooledBuffer = {
      buffer: this.failures.scoped('out-of-memory', make, refused),
      size,
      id,
      touched: 0,
      written: 0,
      invalid: undefined,
      owned: false,
    };
    this.#reserved += size;
    this.created++;
    return pooled;
  }

  #destroy(pooled: PooledBuffer): void {
    this.beforeDestroy(pooled.touched);
    pooled.buffer.destroy();
    this.#waiting -= pooled.size;
    this.#reserved -= pooled.size;
  }
}
