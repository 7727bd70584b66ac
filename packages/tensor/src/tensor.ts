import type { Device } from './device.js';
import type { DType, TypedArrayOf } from './dtype.js';
import { DisposedError } from './errors.js';
import { type Shape, showShape, sizeOf } from './shape.js';

/** Who a buffer belongs to. Scratch is what scopes free; weights and kv have an owner (a model, a cache) that disposes them. */
export type MemoryKind = 'weights' | 'kv' | 'scratch';

/** A piece of device memory, shared by the tensors that are views of it. `handle` is the device's own: a WebAssembly address or a GPU buffer. */
export interface Storage<H = unknown> {
  readonly handle: H;
  /** Grows with `device.resize`. */
  bytes: number;
  readonly memory: MemoryKind;
  refs: number;
}

/**
 * A contiguous, row-major array of numbers on a device. Made by a device or an operation; given back by `dispose()` or by the scope
 * (`tidy`) that it was made in. Only `data()` waits for the device.
 */
export class Tensor<T extends DType = DType> {
  readonly size: number;
  #storage: Storage | null;

  /** For devices: tensors are made by `device.tensor`, `device.zeros`, `device.fromBytes` and by operations. */
  constructor(
    readonly device: Device,
    readonly shape: Shape,
    readonly dtype: T,
    storage: Storage,
  ) {
    this.size = sizeOf(shape);
    this.#storage = storage;
    storage.refs++;
  }

  /** Throws DisposedError after `dispose()`. */
  get storage(): Storage {
    if (this.#storage === null) {
      throw new DisposedError(
        `tensor ${this.dtype}${showShape(this.shape)} was used after its dispose(); keep it out of the scope that freed it, or return it from tidy()`,
      );
    }
    return this.#storage;
  }

  get disposed(): boolean {
    return this.#storage === null;
  }

  /** A copy of the values, once the device has them. Rejects with DisposedError after `dispose()`. */
  data(): Promise<TypedArrayOf<T>> {
    return this.device.read(this) as Promise<TypedArrayOf<T>>;
  }

  /** The memory is given back when its last view is disposed. A second call does nothing. */
  dispose(): void {
    const storage = this.#storage;
    if (storage === null) return;
    this.#storage = null;
    if (--storage.refs === 0) this.device.release(storage);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    return `Tensor(${this.dtype}${showShape(this.shape)} on ${this.device.kind}${this.disposed ? ', disposed' : ''})`;
  }

  /** What `console.log` shows in Node: one line, in place of the device with all that it holds. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }
}
