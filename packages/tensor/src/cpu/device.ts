import { Device } from '../device.js';
import { bytesPerValue, type DType, type HostData, type StorageDType, type TypedArrayOf } from '../dtype.js';
import { DisposedError, OptionError, refuseUnknownOptions, UnrollError } from '../errors.js';
import type { OpDef } from '../op.js';
import type { Program } from '../program.js';
import { keep, tidy } from '../scope.js';
import type { Storage, Tensor } from '../tensor.js';
import { forEachTensor } from '../tree.js';
import type { CpuContext } from './context.js';
import { instantiateKernels, type Kernels, requireSimd } from './kernels.js';
import { LinearMemory } from './memory.js';
import { CpuProgram, Recorder } from './program.js';

export interface CpuDeviceOptions {
  /** Most bytes that the device may take; 4 GiB, the most that WebAssembly addresses, unless lowered. */
  readonly maxBytes?: number;
}

/** Tensors in WebAssembly memory, SIMD kernels on the calling thread. */
export class CpuDevice extends Device implements CpuContext {
  readonly kind = 'cpu';
  readonly description = 'cpu: WebAssembly SIMD, 1 thread';
  #kernels: Kernels | null;
  #memory: LinearMemory | null;
  readonly #scratch: { at: number; bytes: number }[] = [];
  /** Blocks of programs, which tensors do not give back. */
  readonly #held = new Set<number>();
  #recorder: Recorder | null = null;

  /** @internal Use `createCpuDevice`. */
  constructor(options: CpuDeviceOptions = {}) {
    super();
    refuseUnknownOptions('createCpuDevice', options, ['maxBytes']);
    const { maxBytes = 2 ** 32 } = options;
    if (!(Number.isInteger(maxBytes) && maxBytes >= 1 << 20 && maxBytes <= 2 ** 32)) {
      throw new OptionError(`createCpuDevice: maxBytes must be a whole number from 1048576 to 4294967296; got ${maxBytes}`);
    }
    requireSimd();
    this.#memory = new LinearMemory(maxBytes);
    this.#kernels = instantiateKernels(this.#memory.memory);
  }

  get kernels(): Kernels {
    return this.#recorder?.kernels ?? this.#running;
  }

  record<R>(f: () => R): Program<R> {
    const { kernels } = this;
    this.tape?.refuseRecording();
    if (this.#recorder !== null) throw new UnrollError('record: a recording is open already; recordings do not nest');
    const recorder = new Recorder(this.#linear, kernels);
    this.#recorder = recorder;
    try {
      const outputs = tidy(this, f);
      forEachTensor(outputs, keep);
      for (const at of recorder.owned.keys()) this.#held.add(at);
      return new CpuProgram(this, recorder, outputs);
    } catch (error) {
      for (const [at, bytes] of recorder.owned) this.#linear.free(at, bytes);
      throw error;
    } finally {
      this.#recorder = null;
    }
  }

  /** @internal */
  giveBack(blocks: ReadonlyMap<number, number>): void {
    if (this.#memory === null) return;
    for (const [at, bytes] of blocks) {
      this.#held.delete(at);
      this.#memory.free(at, bytes);
    }
  }

  execute<A>(op: OpDef<A>, inputs: readonly Tensor[], attrs: A, outputs: readonly Tensor[]): void {
    try {
      op.cpu(this, inputs, attrs, outputs);
    } finally {
      for (const { at, bytes } of this.#scratch) this.free(at, bytes);
      this.#scratch.length = 0;
    }
  }

  at(tensor: Tensor): number {
    const { storage } = tensor;
    const at = storage.handle as number;
    if (this.#recorder !== null && !this.#recorder.owned.has(at)) this.#recorder.outside.add(storage);
    return at;
  }

  check(place: number, error: (place: number) => Error): void {
    this.#recorder?.explain(error);
    if (place >= 0) throw error(place);
  }

  integerAt(address: number, index: number): number {
    return new Int32Array(this.#linear.memory.buffer, address, index + 1)[index]!;
  }

  scratch(bytes: number): number {
    const at = this.allocate(bytes);
    this.#scratch.push({ at, bytes });
    return at;
  }

  integers(values: readonly number[]): number {
    const bytes = values.length * bytesPerValue;
    const at = this.#recorder?.constant(bytes) ?? this.scratch(bytes);
    new Int32Array(this.#linear.memory.buffer, at, values.length).set(values);
    return at;
  }

  /** A copy of the values at once: on this device nothing is pending. */
  readSync<T extends DType>(tensor: Tensor<T>): TypedArrayOf<T> {
    if (tensor.device !== this) throw new UnrollError('device.readSync: the tensor lives on another device; use the one in tensor.device');
    if (this.#recorder !== null)
      throw new UnrollError('record: values cannot be read while recording; return the tensor and read it after a replay');
    return this.#values(tensor.storage, tensor.dtype, tensor.size).slice() as TypedArrayOf<T>;
  }

  protected allocate(bytes: number): number {
    return this.#recorder === null ? this.#linear.allocate(bytes) : this.#recorder.acquire(bytes);
  }

  protected free(handle: unknown, bytes: number): void {
    const at = handle as number;
    if (this.#recorder?.owned.has(at)) this.#recorder.release(at, bytes);
    else if (!this.#held.has(at)) this.#linear.free(at, bytes);
  }

  protected reservedBytes(): number {
    return this.#memory?.reserved ?? 0;
  }

  protected upload(storage: Storage, data: HostData, offset: number): void {
    this.#recorder?.fix(storage, data.byteLength === storage.bytes);
    this.#values(storage, data instanceof Int32Array ? 'i32' : 'f32', data.length, offset).set(data);
  }

  protected override zero(storage: Storage): void {
    this.kernels.zero(storage.handle as number, storage.bytes);
  }

  protected uploadStored(storage: Storage, bytes: Uint8Array, dtype: StorageDType, size: number): void {
    this.#recorder?.fix(storage, true);
    const { f16ToF32, bf16ToF32 } = this.#running;
    const at = storage.handle as number;
    // Halves wait in the upper half of the tensor's own memory, so that loading needs no room besides.
    const from = at + storage.bytes - bytes.byteLength;
    new Uint8Array(this.#linear.memory.buffer, from, bytes.byteLength).set(bytes);
    if (dtype === 'f16') f16ToF32(from, at, size);
    else if (dtype === 'bf16') bf16ToF32(from, at, size);
  }

  protected async download(tensor: Tensor): Promise<HostData> {
    return this.readSync(tensor);
  }

  protected destroy(): void {
    // The kernels hold the memory too.
    this.#memory = null;
    this.#kernels = null;
  }

  /** The kernels themselves, also while recording. */
  get #running(): Kernels {
    if (this.#kernels === null) throw new DisposedError('the cpu device was used after its dispose(); create another');
    return this.#kernels;
  }

  get #linear(): LinearMemory {
    if (this.#memory === null) throw new DisposedError('the cpu device was used after its dispose(); create another');
    return this.#memory;
  }

  // Made anew at each use: growing the memory detaches older views.
  #values(storage: Storage, dtype: DType, length: number, offset = 0): HostData {
    const at = (storage.handle as number) + offset * bytesPerValue;
    const buffer = this.#linear.memory.buffer;
    return dtype === 'i32' ? new Int32Array(buffer, at, length) : new Float32Array(buffer, at, length);
  }
}

/**
 * A device on the CPU. Throws UnsupportedError without WebAssembly SIMD, OptionError, and OutOfMemoryError where the system has no room.
 *
 * @example
 * const device = createCpuDevice();
 * const y = matmul(device.tensor([1, 2, 3, 4], [2, 2]), device.tensor([1, 0, 0, 1], [2, 2]));
 * console.log(await y.data());
 * device.dispose();
 */
export function createCpuDevice(options: CpuDeviceOptions = {}): CpuDevice {
  return new CpuDevice(options);
}
