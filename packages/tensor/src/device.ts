import {
  allocateHost,
  checkDType,
  type DType,
  type HostData,
  isQuantized,
  isWeightFormat,
  type StorageDType,
  storageByteSize,
  type WeightFormat,
} from './dtype.js';
import { DisposedError, DTypeError, OptionError, RangeOpError, refuseUnknownOptions, ShapeError, UnrollError } from './errors.js';
import type { OpDef } from './op.js';
import { fillPieces, type ReadPiece } from './pieces.js';
import type { KernelTime } from './profile.js';
import type { Program, RecordOptions } from './program.js';
import { blockRows, checkParts, dequantizeRows, quantizeRows, rowRange, tensorBytes, weightParts, widen } from './quant.js';
import { ScopeStack } from './scope.js';
import { checkShape, type Shape, showShape, sizeOf } from './shape.js';
import type { Tape } from './tape.js';
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

/** The most that a device can hold. */
export interface DeviceCapacity {
  /** Most bytes of all tensors together; Infinity where the device cannot tell. */
  readonly bytes: number;
  /** Most bytes of one tensor. */
  readonly tensorBytes: number;
  /** Most bytes of a tensor that operations read as one: all but weights, which are split by rows. */
  readonly operandBytes: number;
  /** Whether tensors made by `device.growing` grow where they are, so that old and new never stand side by side. */
  readonly growsInPlace: boolean;
  /** What sets the limits. */
  readonly why: string;
  /** Bytes that a tensor of so many takes: blocks have sizes that can be used again. */
  taken(bytes: number): number;
}

export interface TensorOptions<T extends DType = DType> {
  /** f32 unless the data is an Int32Array; a weight format keeps the values in it, rounded. */
  readonly dtype?: T;
  /** Whose the memory is; scratch, which scopes free, unless said otherwise. */
  readonly memory?: MemoryKind;
}

export interface FromBytesOptions {
  /** Whose the memory is; scratch, which scopes free, unless said otherwise. */
  readonly memory?: MemoryKind;
  /** What the values become: f32 for stored f16 and bf16 unless a weight format is asked for. */
  readonly as?: 'f32' | WeightFormat;
}

// A matrix is quantised on the host in pieces of about this many values.
const pieceValues = 1 << 20;

const memoryKinds: readonly MemoryKind[] = ['weights', 'kv', 'scratch'];

/**
 * Where tensors live and operations run. A device is created by its user, handed to models and caches, and never destroyed by them.
 * Subclasses supply memory and execution; scopes and accounts are here, the same for all.
 */
export abstract class Device {
  abstract readonly kind: 'cpu' | 'webgpu';
  /** What was chosen and why, in one line. */
  abstract readonly description: string;
  /** The most that it can hold, before anything is tried. */
  abstract readonly capacity: DeviceCapacity;
  /** @internal */
  readonly scopes = new ScopeStack();
  /** @internal Where operations are noted down while a gradient is taken. */
  tape: Tape | null = null;
  readonly #live: Record<MemoryKind, number> = { weights: 0, kv: 0, scratch: 0 };
  #buffers = 0;
  #peak = 0;
  #disposed = false;

  /** `room` are the bytes that `stretch` may be asked for later. */
  protected abstract allocate(bytes: number, room?: number): unknown;
  /** Gives a block other bytes where it is, new ones zero; false, with nothing changed, where it cannot. */
  protected stretch(_storage: Storage, _bytes: number): boolean {
    return false;
  }
  /** The most bytes that `stretch` would give a block now. */
  protected stretchable(storage: Storage): number {
    return storage.bytes;
  }
  protected abstract free(handle: unknown, bytes: number): void;
  protected abstract reservedBytes(): number;
  protected abstract upload(storage: Storage, data: HostData, offset: number): void;
  protected zero(storage: Storage, dtype: DType, size: number): void {
    this.upload(storage, allocateHost(dtype, size), 0);
  }
  protected abstract uploadStored(storage: Storage, bytes: Uint8Array, dtype: StorageDType, size: number): void;
  /** Bytes of a weight format, as they lie in memory. */
  protected abstract uploadBytes(storage: Storage, bytes: Uint8Array, offset: number): void;
  /** Memory that others may write to while the device works, which neither moves nor goes away; undefined where there is none. */
  protected openMemory(_storage: Storage, _offset: number, _bytes: number): Uint8Array | undefined {
    return undefined;
  }
  protected abstract download(tensor: Tensor): Promise<HostData>;
  protected abstract downloadBytes(tensor: Tensor): Promise<Uint8Array>;
  protected abstract destroy(): void;
  /**
   * Records the operations that `f` runs, without running them. `f` may make tensors, from host values too, and use tensors from outside;
   * it may neither read values nor write to tensors from outside but by operations. Throws what `f` throws, OptionError.
   *
   * @example
   * const step = device.record(() => assign(state, rmsNorm(add(state, input), weight)));
   * step.replay(32);
   * console.log(await state.data());
   */
  abstract record<R>(f: () => R, options?: RecordOptions): Program<R>;
  /** Time by kernel of what `f` runs or enqueues, replays included. Throws what `f` throws, UnrollError when a profile is being taken already. */
  abstract profile(f: () => unknown): Promise<KernelTime[]>;
  /** @internal Runs an operation whose arguments `infer` has checked. */
  abstract execute<A>(op: OpDef<A>, inputs: readonly Tensor[], attrs: A, outputs: readonly Tensor[]): void;

  get disposed(): boolean {
    return this.#disposed;
  }

  /**
   * A tensor from host values. Numbers become f32 unless `dtype` says i32. Throws ShapeError when the count of values is not the
   * shape's size, RangeOpError for a value that i32 cannot hold, OutOfMemoryError, OptionError, DTypeError.
   */
  tensor<T extends DType = 'f32'>(
    data: HostData | readonly number[],
    shape: Shape = [countOf(data)],
    options?: TensorOptions<T>,
  ): Tensor<T> {
    checkOptions('device.tensor', options);
    checkShape('device.tensor', shape);
    if (countOf(data) !== sizeOf(shape)) {
      throw new ShapeError(`device.tensor: ${showShape(shape)} needs ${sizeOf(shape)} values; got ${data.length}`);
    }
    const dtype = (options?.dtype ?? (data instanceof Int32Array ? 'i32' : 'f32')) as T;
    const typed = data instanceof Int32Array || data instanceof Float32Array ? data : undefined;
    const matching = typed !== undefined && (dtype === 'i32') === typed instanceof Int32Array;
    const host = matching ? typed : hostCopy(dtype, data);
    const tensor = this.empty([...shape], dtype, options?.memory);
    if (isWeightFormat(dtype)) return this.#filled(tensor, () => this.#writeValues(tensor, dtype, host as Float32Array, 0));
    this.upload(tensor.storage, host, 0);
    return tensor;
  }

  /** A tensor of zeros. Throws ShapeError, OutOfMemoryError, OptionError, DTypeError. */
  zeros<T extends DType = 'f32'>(shape: Shape, options?: TensorOptions<T>): Tensor<T> {
    checkOptions('device.zeros', options);
    checkShape('device.zeros', shape);
    const dtype = (options?.dtype ?? 'f32') as T;
    const tensor = this.empty([...shape], dtype, options?.memory);
    if (isWeightFormat(dtype)) this.zero(tensor.storage, 'f32', tensor.storage.bytes / 4);
    else this.zero(tensor.storage, dtype, sizeOf(shape));
    return tensor;
  }

  /**
   * Zeros, as `zeros`, of which `resize` may make up to `mostRows` rows (the first axis) later without moving them. Memory that no row has yet is neither
   * counted nor touched, and is no promise: others get it when there is none besides. Throws ShapeError, OutOfMemoryError, OptionError.
   */
  growing(shape: Shape, mostRows: number, options?: { readonly memory?: MemoryKind }): Tensor<'f32'> {
    refuseUnknownOptions('device.growing', options, ['memory']);
    checkOptions('device.growing', options);
    checkShape('device.growing', shape);
    if (shape.length === 0 || !Number.isInteger(mostRows) || mostRows < 0)
      throw new ShapeError(
        `device.growing: needs an axis of rows, and their most as a whole number from 0; got ${showShape(shape)} and ${mostRows}`,
      );
    const tensor = this.empty([...shape], 'f32', options?.memory, sizeOf([mostRows, ...shape.slice(1)]) * 4);
    this.zero(tensor.storage, 'f32', sizeOf(shape));
    return tensor;
  }

  /** Rows that `resize` would give a tensor now. */
  mostRows(tensor: Tensor<'f32'>): number {
    this.#own('device.mostRows', tensor);
    const { shape, storage } = tensor;
    return Math.max(shape[0] ?? 0, Math.floor(this.stretchable(storage) / (4 * Math.max(1, sizeOf(shape.slice(1))))));
  }

  /**
   * The same memory with `rows` rows, more or fewer, new ones zero; it takes the place of `tensor`, which is disposed of. undefined, with nothing
   * changed, where it would have to move. Throws ShapeError, DTypeError for weight formats.
   */
  resize(tensor: Tensor<'f32'>, rows: number): Tensor<'f32'> | undefined {
    this.#own('device.resize', tensor);
    const { shape, storage } = tensor;
    if (isWeightFormat(tensor.dtype)) throw new DTypeError(`device.resize: ${tensor.dtype} weights keep the rows that they have`);
    if (shape.length === 0 || !Number.isInteger(rows) || rows < 0)
      throw new ShapeError(
        `device.resize: rows must be a whole number from 0, of a tensor that has rows; got ${rows} for ${showShape(shape)}`,
      );
    const resized = [rows, ...shape.slice(1)];
    const bytes = sizeOf(resized) * 4;
    if (!this.stretch(storage, bytes)) return undefined;
    this.#live[storage.memory] += bytes - storage.bytes;
    this.#peak = Math.max(this.#peak, this.#total());
    storage.bytes = bytes;
    const other = new Tensor(this, resized, tensor.dtype, storage);
    if (storage.memory === 'scratch') this.scopes.add(other);
    tensor.dispose();
    return other;
  }

  /**
   * A tensor from little-endian stored bytes. Stored f16 and bf16 become f32, exactly; `as` keeps or rounds them in a weight format
   * instead. q8 and q4 come as their two parts (`weightParts`) and stay what they are. Throws ShapeError when the length does not fit,
   * DTypeError, RangeOpError for values that the format cannot hold, OutOfMemoryError, OptionError.
   */
  fromBytes(bytes: Uint8Array | readonly Uint8Array[], dtype: StorageDType, shape: Shape, options?: FromBytesOptions): Tensor {
    refuseUnknownOptions('device.fromBytes', options, ['memory', 'as']);
    checkOptions('device.fromBytes', { dtype, ...(options?.memory === undefined ? {} : { memory: options.memory }) });
    checkShape('device.fromBytes', shape);
    const kept = options?.as ?? (isQuantized(dtype) ? dtype : dtype === 'i32' ? 'i32' : 'f32');
    checkDType('device.fromBytes', kept);
    const parts = bytes instanceof Uint8Array ? [bytes] : bytes;
    if (isQuantized(dtype) || dtype === 'i32' ? kept !== dtype : false) {
      throw new DTypeError(`device.fromBytes: stored ${dtype} stays ${dtype}; it cannot become ${kept}`);
    }
    if (isQuantized(dtype)) {
      checkParts(dtype, shape, parts);
      const tensor = this.empty([...shape], dtype, options?.memory);
      for (const [i, { offset }] of weightParts(dtype, shape).entries()) this.uploadBytes(tensor.storage, parts[i]!, offset);
      return tensor;
    }
    const size = sizeOf(shape);
    const expected = size * storageByteSize(dtype);
    const [only] = parts;
    if (parts.length !== 1 || only!.byteLength !== expected) {
      const got = parts.map(({ byteLength }) => byteLength).join(' and ');
      throw new ShapeError(`device.fromBytes: ${dtype}${showShape(shape)} needs ${expected} bytes; got ${got}`);
    }
    const tensor = this.empty([...shape], kept, options?.memory);
    if (!isWeightFormat(kept)) this.uploadStored(tensor.storage, only!, dtype, size);
    else this.#filled(tensor, () => this.writeRows(tensor, only!, dtype as 'f32' | 'f16' | 'bf16', 0));
    return tensor;
  }

  /**
   * A tensor from little-endian stored bytes that come in pieces, several at once, so that they are never held twice. Where other threads may
   * write to the device's memory (the CPU device with more than one thread), `read` writes right into it; elsewhere it writes to a buffer of at
   * most 8 MiB. f32, f16 and bf16 are part 0, q8 and q4 the two parts of `weightParts`; all stay what they are. No scope owns the tensor.
   *
   * Rejects with what `read` rejects with, once no piece is under way and with the memory given back. Throws RangeOpError for halves that are not
   * finite, ShapeError, DTypeError, OutOfMemoryError, OptionError, DisposedError when the device goes meanwhile.
   */
  async fromPieces<T extends 'f32' | WeightFormat>(
    read: ReadPiece,
    dtype: T,
    shape: Shape,
    options?: { readonly memory?: MemoryKind },
  ): Promise<Tensor<T>> {
    refuseUnknownOptions('device.fromPieces', options, ['memory']);
    checkOptions('device.fromPieces', { dtype, ...(options?.memory === undefined ? {} : { memory: options.memory }) });
    checkShape('device.fromPieces', shape);
    if ((dtype as DType) === 'i32') throw new DTypeError('device.fromPieces: takes f32 and weight formats; got i32; use device.fromBytes');
    // A scope or a recording that is open now has ended by then.
    await undefined;
    const tensor = this.empty([...shape], dtype, options?.memory);
    // Memory is another's only when no piece is under way, even where all tensors have been given back.
    const held = new Tensor(this, shape, dtype, tensor.storage);
    try {
      await fillPieces(read, dtype, shape, {
        ready: () => {
          if (this.#disposed) throw new DisposedError('device.fromPieces: the device was disposed of while bytes were on their way');
        },
        memory: (offset, bytes) => this.openMemory(held.storage, offset, bytes),
        upload: (bytes, offset) => this.uploadBytes(held.storage, bytes, offset),
      });
      return tensor;
    } catch (error) {
      tensor.dispose();
      throw error;
    } finally {
      held.dispose();
    }
  }

  /**
   * Overwrites the rows of a weight from row `first` on by little-endian stored values, rounded to its format: a large matrix is loaded
   * in pieces, without a second copy of it. For q8 and q4, pieces are whole blocks of 8 rows, but for the last. Throws ShapeError where
   * they do not fit, DTypeError unless the tensor is in a weight format, RangeOpError for values that the format cannot hold.
   */
  writeRows(tensor: Tensor, bytes: Uint8Array, dtype: 'f32' | 'f16' | 'bf16', first: number): void {
    this.#own('device.writeRows', tensor);
    const format = tensor.dtype;
    if (!isWeightFormat(format))
      throw new DTypeError(`device.writeRows: takes a weight in f16, bf16, q8 or q4; got ${format}; use device.write`);
    const [N, K] = matrix(tensor.shape);
    const rows = K === 0 ? 0 : bytes.byteLength / storageByteSize(dtype) / K;
    const whole = !isQuantized(format) || (first % blockRows === 0 && (rows % blockRows === 0 || first + rows === N));
    if (!Number.isInteger(rows) || !Number.isInteger(first) || first < 0 || first + rows > N || !whole) {
      throw new ShapeError(
        `device.writeRows: ${bytes.byteLength} bytes of ${dtype} from row ${first} on are not ${isQuantized(format) ? 'whole blocks of 8 ' : ''}rows of ${format}${showShape(tensor.shape)}`,
      );
    }
    const rowBytes = K * storageByteSize(dtype);
    const step = Math.max(1, Math.floor(pieceValues / Math.max(1, K) / blockRows)) * blockRows;
    for (let row = 0; row < rows; row += step) {
      const piece = bytes.subarray(row * rowBytes, Math.min(rows, row + step) * rowBytes);
      if (dtype === format) {
        checkParts(format, [piece.byteLength / rowBytes, K], [piece]);
        this.uploadBytes(tensor.storage, piece, rowRange(format, tensor.shape, first + row, 0)[0]!.offset);
      } else this.#writeValues(tensor, format, widen(piece, dtype), first + row);
    }
  }

  /** A copy of the bytes that a weight in a weight format takes; `weightParts` says which part lies where. */
  async readBytes(tensor: Tensor): Promise<Uint8Array> {
    this.#own('device.readBytes', tensor);
    if (!isWeightFormat(tensor.dtype))
      throw new DTypeError(`device.readBytes: reads weight formats; got ${tensor.dtype}; use tensor.data()`);
    return this.downloadBytes(tensor);
  }

  /**
   * Overwrites values of a tensor from host data of its dtype, beginning at value `offset`. Throws ShapeError when they do not fit,
   * DTypeError for data of another dtype.
   */
  write(tensor: Tensor, data: HostData, offset = 0): void {
    this.#own('device.write', tensor);
    if (isWeightFormat(tensor.dtype))
      throw new DTypeError(`device.write: ${tensor.dtype} weights are written by rows; use device.writeRows`);
    this.tape?.guard('device.write', tensor, [tensor]);
    if (!Number.isInteger(offset) || offset < 0 || offset + data.length > tensor.size) {
      throw new ShapeError(`device.write: ${data.length} values at ${offset} do not fit in ${showShape(tensor.shape)}`);
    }
    if ((tensor.dtype === 'i32') !== data instanceof Int32Array) {
      throw new DTypeError(
        `device.write: a ${tensor.dtype} tensor takes ${tensor.dtype === 'i32' ? 'Int32Array' : 'Float32Array'}; got ${data.constructor.name}`,
      );
    }
    this.upload(tensor.storage, data, offset);
  }

  /** @internal A tensor whose values are not set yet. */
  empty<T extends DType>(shape: Shape, dtype: T, memory: MemoryKind = 'scratch', room = 0): Tensor<T> {
    if (this.#disposed) throw new DisposedError(`the ${this.kind} device was used after its dispose(); create another`);
    const bytes = tensorBytes(dtype, shape);
    const storage: Storage = { handle: this.allocate(bytes, room), bytes, memory, refs: 0 };
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
    if (this.#disposed) return;
    this.#buffers--;
    this.#live[storage.memory] -= storage.bytes;
    this.free(storage.handle, storage.bytes);
  }

  /** What `tensor.data()` calls: a copy of the values, once they are there. */
  async read(tensor: Tensor): Promise<HostData> {
    this.#own('device.read', tensor);
    const { dtype, shape } = tensor;
    if (!isWeightFormat(dtype)) return this.download(tensor);
    const bytes = await this.downloadBytes(tensor);
    const parts = weightParts(dtype, shape).map((part) => bytes.subarray(part.offset, part.offset + part.bytes));
    return dequantizeRows(dtype, parts, ...matrix(shape));
  }

  /** What lives on the device now; all zero after `dispose()`, but for the peak. */
  memory(): MemoryReport {
    return { bytes: { ...this.#live }, buffers: this.#buffers, reserved: this.reservedBytes(), peak: this.#peak };
  }

  /** Lets `memory().peak` begin anew from what is live now. */
  resetPeak(): void {
    this.#peak = this.#total();
  }

  /** Begins what is enqueued, where the device works in batches. Reads do so by themselves; this lets it begin before. */
  flush(): void {}

  /** Gives all memory back to the system; every tensor of the device is gone with it. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#buffers = 0;
    for (const kind of memoryKinds) this.#live[kind] = 0;
    this.destroy();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #writeValues(tensor: Tensor, format: WeightFormat, values: Float32Array, first: number): void {
    const [, K] = matrix(tensor.shape);
    const step = Math.max(1, Math.floor(pieceValues / Math.max(1, K) / blockRows)) * blockRows;
    for (let row = 0; row * K < values.length; row += step) {
      const piece = values.subarray(row * K, (row + step) * K);
      const parts = quantizeRows(format, piece, K, first + row);
      const ranges = rowRange(format, tensor.shape, first + row, piece.length / K);
      for (const [i, { offset }] of ranges.entries()) this.uploadBytes(tensor.storage, parts[i]!, offset);
    }
  }

  /** Runs `fill`; a tensor that could not be filled does not stay. */
  #filled<T extends Tensor>(tensor: T, fill: () => void): T {
    try {
      fill();
      return tensor;
    } catch (error) {
      tensor.dispose();
      throw error;
    }
  }

  #own(who: string, tensor: Tensor): void {
    if (tensor.device !== this) throw new UnrollError(`${who}: the tensor lives on another device; use the one in tensor.device`);
  }

  #total(): number {
    return this.#live.weights + this.#live.kv + this.#live.scratch;
  }
}

/** Rows and columns of a weight: the first axis, and all others. */
function matrix(shape: Shape): [number, number] {
  return [shape[0] ?? 1, sizeOf(shape.slice(1))];
}

function checkOptions(who: string, options: TensorOptions | undefined): void {
  refuseUnknownOptions(who, options, ['dtype', 'memory']);
  const { dtype = 'f32', memory = 'scratch' } = options ?? {};
  checkDType(who, dtype);
  if (!memoryKinds.includes(memory)) throw new OptionError(`${who}: memory must be one of ${memoryKinds.join(', ')}; got ${memory}`);
}

/** How many host values there are. Throws DTypeError for what is no list of them, nested lists included. */
function countOf(data: ArrayLike<number>): number {
  const count = (data as ArrayLike<number> | null | undefined)?.length;
  if (typeof count !== 'number')
    throw new DTypeError(`device.tensor: takes a flat list of numbers; got ${data === null ? 'null' : typeof data}`);
  if (Array.isArray(data[0]))
    throw new DTypeError('device.tensor: takes a flat list of numbers; value 0 is an array; flatten it, and give the shape');
  return count;
}

function hostCopy(dtype: DType, data: ArrayLike<number>): HostData {
  for (let i = 0; i < data.length; i++) {
    // Nested arrays and strings would become NaN without a word.
    if (typeof data[i] !== 'number') {
      throw new DTypeError(
        `device.tensor: takes a flat list of numbers; value ${i} is ${Array.isArray(data[i]) ? 'an array' : `a ${typeof data[i]}`}`,
      );
    }
  }
  const copy = allocateHost(dtype, data.length);
  copy.set(data);
  if (dtype === 'i32') {
    for (let i = 0; i < copy.length; i++) {
      if (copy[i] !== data[i])
        throw new RangeOpError(`device.tensor: an i32 tensor takes whole numbers from -2^31 to 2^31 - 1; value ${i} is ${data[i]}`);
    }
  }
  return copy;
}
