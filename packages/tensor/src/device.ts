import { allocateHost, bytesPerValue, type DType, type HostData, type StorageDType, storageByteSize } from './dtype.js';
import { DisposedError, refuseUnknownOptions, ShapeError } from './errors.js';
import type { OpDef } from './op.js';
import { ScopeStack } from './scope.js';
import { checkShape, type Shape, showShape, sizeOf } from './shape.js';
import { type MemoryKind, type Storage, Tensor } from './tensor.js';

export interface MemoryReport {
  /** Live bytes by owner. */
  readonly bytes: Readonly<Record<MemoryKind, number>>;
  /** Number of live buffers. */
  readonly buffers: number;
  /** Bytes that the device holds from the system, free blocks of its pool included. */
  readonly reserved: number;
  /** Largest total of live bytes since the device was created or `resetPeak()` was called. */
  readonly peak: number;
}

export interface TensorOptions<T extends DType = DType> {
  readonly dtype?: T;
  readonly memory?: MemoryKind;
}

/**
 * Where tensors live and operations run. A device is created by its user, handed to models and caches, and never destroyed by them.
 * Subclasses supply memory and execution; scopes and accounts are here, the same for all.
 */
export abstract class Device {
  abstract readonly kind: 'cpu' | 'webgpu';
  /** What was chosen and why, in one line. */
  abstract readonly description: string;
  /** @internal */
  readonly scopes = new ScopeStack();
  readonly #live: Record<MemoryKind, number> = { weights: 0, kv: 0, scratch: 0 };
  #buffers = 0;
  #peak = 0;
  #disposed = false;

  protected abstract allocate(bytes: number): unknown;
  protected abstract free(handle: unknown, bytes: number): void;
  protected abstract reservedBytes(): number;
  protected abstract upload(storage: Storage, data: HostData, offset: number): void;
  protected abstract uploadStored(storage: Storage, bytes: Uint8Array, dtype: StorageDType, size: number): void;
  protected abstract download(tensor: Tensor): Promise<HostData>;
  protected abstract destroy(): void;
  /** @internal Runs an operation whose arguments `infer` has checked. */
  abstract execute<A>(op: OpDef<A>, inputs: readonly Tensor[], attrs: A, outputs: readonly Tensor[]): void;

  /** A tensor from host values. Numbers become f32 unless `dtype` says i32. Throws ShapeError when the count of values is not the shape's size. */
  tensor<T extends DType = 'f32'>(data: HostData | readonly number[], shape: Shape = [data.length], options?: TensorOptions<T>): Tensor<T> {
    refuseUnknownOptions('device.tensor', options, ['dtype', 'memory']);
    checkShape('device.tensor', shape);
    if (data.length !== sizeOf(shape)) {
      throw new ShapeError(`device.tensor: ${showShape(shape)} needs ${sizeOf(shape)} values; got ${data.length}`);
    }
    const dtype = (options?.dtype ?? (data instanceof Int32Array ? 'i32' : 'f32')) as T;
    const tensor = this.empty(shape, dtype, options?.memory);
    const typed = data instanceof Int32Array || data instanceof Float32Array ? data : undefined;
    const matching = typed !== undefined && (dtype === 'i32') === typed instanceof Int32Array;
    this.upload(tensor.storage, matching ? typed : hostCopy(dtype, data), 0);
    return tensor;
  }

  zeros<T extends DType = 'f32'>(shape: Shape, options?: TensorOptions<T>): Tensor<T> {
    refuseUnknownOptions('device.zeros', options, ['dtype', 'memory']);
    checkShape('device.zeros', shape);
    const dtype = (options?.dtype ?? 'f32') as T;
    const tensor = this.empty(shape, dtype, options?.memory);
    this.upload(tensor.storage, allocateHost(dtype, sizeOf(shape)), 0);
    return tensor;
  }

  /** A tensor from little-endian stored bytes; f16 and bf16 become f32 on the way, exactly. Throws ShapeError when the length does not fit. */
  fromBytes(bytes: Uint8Array, dtype: StorageDType, shape: Shape, options?: { readonly memory?: MemoryKind }): Tensor {
    refuseUnknownOptions('device.fromBytes', options, ['memory']);
    checkShape('device.fromBytes', shape);
    const size = sizeOf(shape);
    const expected = size * storageByteSize(dtype);
    if (bytes.byteLength !== expected) {
      throw new ShapeError(`device.fromBytes: ${dtype}${showShape(shape)} needs ${expected} bytes; got ${bytes.byteLength}`);
    }
    const tensor = this.empty(shape, dtype === 'i32' ? 'i32' : 'f32', options?.memory);
    this.uploadStored(tensor.storage, bytes, dtype, size);
    return tensor;
  }

  /** Overwrites values of a tensor from host data, beginning at value `offset`. */
  write(tensor: Tensor, data: HostData, offset = 0): void {
    if (offset < 0 || offset + data.length > tensor.size) {
      throw new ShapeError(`device.write: ${data.length} values at ${offset} do not fit in ${showShape(tensor.shape)}`);
    }
    if ((tensor.dtype === 'i32') !== data instanceof Int32Array) {
      throw new ShapeError(`device.write: a ${tensor.dtype} tensor takes ${tensor.dtype === 'i32' ? 'Int32Array' : 'Float32Array'}`);
    }
    this.upload(tensor.storage, data, offset);
  }

  /** @internal A tensor whose values are not set yet. */
  empty<T extends DType>(shape: Shape, dtype: T, memory: MemoryKind = 'scratch'): Tensor<T> {
    if (this.#disposed) throw new DisposedError(`the ${this.kind} device was used after its dispose()`);
    const bytes = sizeOf(shape) * bytesPerValue;
    const storage: Storage = { handle: this.allocate(bytes), bytes, memory, refs: 0 };
    this.#buffers++;
    this.#live[memory] += bytes;
    this.#peak = Math.max(this.#peak, this.#total());
    const tensor = new Tensor(this, shape, dtype, storage);
    if (memory === 'scratch') this.scopes.add(tensor);
    return tensor;
  }

  /** @internal A second tensor over the same memory. */
  view<T extends DType>(of: Tensor<T>, shape: Shape): Tensor<T> {
    const tensor = new Tensor(this, shape, of.dtype, of.storage);
    this.scopes.add(tensor);
    return tensor;
  }

  /** @internal Called by the last view of a storage. */
  release(storage: Storage): void {
    this.#buffers--;
    this.#live[storage.memory] -= storage.bytes;
    if (!this.#disposed) this.free(storage.handle, storage.bytes);
  }

  read(tensor: Tensor): Promise<HostData> {
    return this.download(tensor);
  }

  memory(): MemoryReport {
    return { bytes: { ...this.#live }, buffers: this.#buffers, reserved: this.reservedBytes(), peak: this.#peak };
  }

  resetPeak(): void {
    this.#peak = this.#total();
  }

  /** Gives all memory back to the system; every tensor of the device is gone with it. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #total(): number {
    return this.#live.weights + this.#live.kv + this.#live.scratch;
  }
}

function hostCopy(dtype: DType, data: ArrayLike<number>): HostData {
  const copy = allocateHost(dtype, data.length);
  copy.set(data);
  return copy;
}
