import { Device, type DeviceCapacity } from '../device.js';
import { bytesPerValue, type DType, type HostData, isWeightFormat, type StorageDType, type TypedArrayOf } from '../dtype.js';
import { DisposedError, DTypeError, OptionError, refuseUnknownOptions, UnrollError, UnsupportedError } from '../errors.js';
import type { OpDef } from '../op.js';
import type { KernelTime } from '../profile.js';
import type { Program, RecordOptions } from '../program.js';
import { keep, tidy } from '../scope.js';
import type { Storage, Tensor } from '../tensor.js';
import { forEachTensor } from '../tree.js';
import type { CpuContext } from './context.js';
import { hasRelaxedSimd, instantiateKernels, type Jobs, type Kernels, kernelModule, requireSimd } from './kernels.js';
import { blockSize, firstAddress, LinearMemory } from './memory.js';
import { findPlatform } from './platform.js';
import { CpuProfiler } from './profile.js';
import { CpuProgram, Notes, type ProgramHost, Recorder } from './program.js';
import { Threads } from './threads.js';

export interface CpuDeviceOptions {
  /** Most bytes that the device may take; 4 GiB, the most that WebAssembly addresses, unless lowered. */
  readonly maxBytes?: number;
  /**
   * Threads in all, 1 to 64; the number of cores when absent (in browsers, which do not tell it, half of the hardware threads and at most 8).
   * Results have the same bits with any number. More than one needs shared memory: in a browser, a page that is cross-origin isolated.
   */
  readonly threads?: number;
  /**
   * Address of the worker script, the package's entry `@unroll/tensor/worker`, for pages whose content security policy allows no worker
   * from a string of the package (`worker-src` without `blob:`). In Node a `file:` URL.
   */
  readonly workerUrl?: URL | string;
  /**
   * `plain` for bits that do not depend on the processor; `relaxed` multiplies and adds in one rounding where the processor can; `auto`
   * (the default) is relaxed where the engine has it.
   */
  readonly simd?: 'auto' | 'plain' | 'relaxed';
}

const optionNames: readonly (keyof CpuDeviceOptions)[] = ['maxBytes', 'threads', 'workerUrl', 'simd'];

/** Ends the workers of devices that were dropped without `dispose`. */
const dropped = new FinalizationRegistry<Threads>((threads) => threads.dispose());

/** Tensors in WebAssembly memory, SIMD kernels on the calling thread and on workers. */
export class CpuDevice extends Device implements CpuContext, ProgramHost {
  readonly kind = 'cpu';
  readonly threads: number;
  /** @internal */
  readonly mayWait: boolean;
  readonly #why: string;
  readonly #simd: 'plain' | 'relaxed';
  #threads: Threads | null = null;
  #raw: (Kernels & Jobs) | null;
  #memory: LinearMemory | null;
  readonly #scratch: { at: number; bytes: number }[] = [];
  /** Blocks of programs, which tensors do not give back. */
  readonly #held = new Set<number>();
  readonly #notes = new Notes();
  #recorder: Recorder | null = null;
  #profiler: CpuProfiler | null = null;

  /** @internal Use `createCpuDevice`. */
  constructor(options: CpuDeviceOptions = {}) {
    super();
    refuseUnknownOptions('createCpuDevice', options, optionNames);
    const { maxBytes = 2 ** 32, threads, workerUrl, simd = 'auto' } = options;
    if (!(Number.isInteger(maxBytes) && maxBytes >= 1 << 20 && maxBytes <= 2 ** 32)) {
      throw new OptionError(`createCpuDevice: maxBytes must be a whole number from 1048576 to 4294967296; got ${maxBytes}`);
    }
    if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= 64)) {
      throw new OptionError(`createCpuDevice: threads must be a whole number from 1 to 64; got ${threads}`);
    }
    if (simd !== 'auto' && simd !== 'plain' && simd !== 'relaxed') {
      throw new OptionError(`createCpuDevice: simd must be auto, plain or relaxed; got ${simd}`);
    }
    requireSimd();
    const platform = findPlatform();
    const wanted = Math.min(64, threads ?? platform.cores);
    this.threads = platform.obstacle === undefined ? wanted : 1;
    this.mayWait = platform.mayWait;
    this.#why = this.threads < wanted ? `1 thread, as ${platform.obstacle}` : '1 thread';
    const shared = this.threads > 1;
    const linear = new LinearMemory(maxBytes, shared);
    const relaxed = hasRelaxedSimd();
    if (simd === 'relaxed' && !relaxed) {
      throw new UnsupportedError(
        'createCpuDevice: this engine has no relaxed SIMD, or computes it wrongly; leave out `simd`, or use Node >= 22 or Chrome >= 114',
      );
    }
    this.#simd = simd === 'auto' ? (relaxed ? 'relaxed' : 'plain') : simd;
    const module = kernelModule(this.#simd, shared);
    this.#memory = linear;
    this.#raw = instantiateKernels(module, linear.memory);
    if (shared) {
      this.#threads = new Threads({ count: this.threads, module, memory: linear.memory, workerUrl }, platform, this.#raw);
      dropped.register(this, this.#threads, this);
    }
  }

  get description(): string {
    return `cpu: WebAssembly ${this.#simd === 'relaxed' ? 'relaxed ' : ''}SIMD, ${this.#threads?.state ?? this.#why}`;
  }

  get capacity(): DeviceCapacity {
    const { maxBytes } = this.linear;
    const bytes = maxBytes - firstAddress;
    const why = maxBytes === 2 ** 32 ? 'WebAssembly addresses 4 GiB' : `the device was made with maxBytes ${maxBytes}`;
    return { bytes, tensorBytes: bytes, operandBytes: bytes, growsInPlace: true, why, taken: blockSize };
  }

  get kernels(): Kernels {
    return this.#recorder?.kernels ?? this.#profiler?.kernels ?? this.#threads?.kernels ?? this.jobs;
  }

  /** @internal The kernels themselves, also while recording. */
  get jobs(): Kernels & Jobs {
    if (this.#raw === null) throw new DisposedError('the cpu device was used after its dispose(); create another');
    return this.#raw;
  }

  /** @internal */
  get linear(): LinearMemory {
    if (this.#memory === null) throw new DisposedError('the cpu device was used after its dispose(); create another');
    return this.#memory;
  }

  record<R>(f: () => R, options: RecordOptions = {}): Program<R> {
    refuseUnknownOptions('record', options, ['moves']);
    const { linear } = this;
    this.tape?.refuseRecording();
    if (this.#recorder !== null) throw new UnrollError('record: a recording is open already; recordings do not nest');
    const recorder = new Recorder(linear, this.#notes, options.moves);
    this.#recorder = recorder;
    try {
      const outputs = tidy(this, f);
      forEachTensor(outputs, keep);
      const program = new CpuProgram(this, recorder, outputs);
      for (const at of recorder.owned.keys()) this.#held.add(at);
      return program;
    } catch (error) {
      for (const [at, bytes] of recorder.owned) this.linear.free(at, bytes);
      throw error;
    } finally {
      this.#recorder = null;
    }
  }

  async profile(f: () => unknown): Promise<KernelTime[]> {
    if (this.#profiler !== null) throw new UnrollError('device.profile: another profile is being taken; await it first');
    const profiler = new CpuProfiler(this.kernels);
    this.#profiler = profiler;
    try {
      await f();
      return profiler.times();
    } finally {
      this.#profiler = null;
    }
  }

  /** @internal */
  get timed(): Kernels | null {
    return this.#profiler?.kernels ?? null;
  }

  /** @internal */
  note(work: number): void {
    this.#threads?.note(work);
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
      this.#recorder?.endOperation();
    } finally {
      for (const { at, bytes } of this.#scratch) this.free(at, bytes);
      this.#scratch.length = 0;
    }
  }

  at(tensor: Tensor): number {
    const { storage } = tensor;
    return this.#recorder?.at(storage) ?? (storage.handle as number);
  }

  rows(tensor: Tensor): number {
    return this.#recorder?.rows(tensor.storage) ?? tensor.shape[0]!;
  }

  check(place: number, error: (place: number) => Error): void {
    this.#recorder?.explain(error);
    if (place >= 0) throw error(place);
  }

  integerAt(address: number, index: number): number {
    return new Int32Array(this.linear.memory.buffer, address, index + 1)[index]!;
  }

  scratch(bytes: number): number {
    const at = this.allocate(bytes);
    this.#scratch.push({ at, bytes });
    return at;
  }

  integers(values: readonly number[]): number {
    const bytes = values.length * bytesPerValue;
    const at = this.#recorder?.constant(bytes) ?? this.scratch(bytes);
    new Int32Array(this.linear.memory.buffer, at, values.length).set(values);
    return at;
  }

  /** A copy of the values at once: on this device nothing is pending. */
  readSync<T extends DType>(tensor: Tensor<T>): TypedArrayOf<T> {
    if (tensor.device !== this) throw new UnrollError('device.readSync: the tensor lives on another device; use the one in tensor.device');
    if (this.#recorder !== null)
      throw new UnrollError('record: values cannot be read while recording; return the tensor and read it after a replay');
    if (isWeightFormat(tensor.dtype)) throw new DTypeError(`device.readSync: reads f32 and i32; got ${tensor.dtype}; use tensor.data()`);
    return this.#values(tensor.storage, tensor.dtype, tensor.size).slice() as TypedArrayOf<T>;
  }

  protected allocate(bytes: number, room?: number): number {
    return this.#recorder === null ? this.linear.allocate(bytes, room) : this.#recorder.acquire(bytes);
  }

  protected override stretchable({ handle, bytes }: Storage): number {
    const at = handle as number;
    return this.#recorder?.owned.has(at) || this.#held.has(at) ? bytes : this.linear.most(at, bytes);
  }

  protected override stretch({ handle, bytes: before }: Storage, bytes: number): boolean {
    const at = handle as number;
    if (this.#recorder?.owned.has(at) || this.#held.has(at) || !this.linear.resize(at, before, bytes)) return false;
    if (bytes > before) this.kernels.zero(at + before, bytes - before);
    return true;
  }

  protected free(handle: unknown, bytes: number): void {
    const at = handle as number;
    if (this.#recorder?.owned.has(at)) this.#recorder.release(at, bytes);
    else if (!this.#held.has(at)) this.linear.free(at, bytes);
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
    const { f16ToF32, bf16ToF32 } = this.jobs;
    const at = storage.handle as number;
    // Halves wait in the upper half of the tensor's own memory, so that loading needs no room besides.
    const from = at + storage.bytes - bytes.byteLength;
    new Uint8Array(this.linear.memory.buffer, from, bytes.byteLength).set(bytes);
    if (dtype === 'f16') f16ToF32(from, at, size);
    else if (dtype === 'bf16') bf16ToF32(from, at, size);
  }

  protected uploadBytes(storage: Storage, bytes: Uint8Array, offset: number): void {
    this.#recorder?.fix(storage, bytes.byteLength === storage.bytes);
    new Uint8Array(this.linear.memory.buffer, (storage.handle as number) + offset, bytes.byteLength).set(bytes);
  }

  protected override openMemory(storage: Storage, offset: number, bytes: number): Uint8Array | undefined {
    // A memory that is not shared detaches its views when it grows.
    if (this.#threads === null) return undefined;
    return new Uint8Array(this.linear.memory.buffer, (storage.handle as number) + offset, bytes);
  }

  protected async downloadBytes(tensor: Tensor): Promise<Uint8Array> {
    return new Uint8Array(this.linear.memory.buffer, tensor.storage.handle as number, tensor.storage.bytes).slice();
  }

  protected async download(tensor: Tensor): Promise<HostData> {
    return this.readSync(tensor);
  }

  protected destroy(): void {
    if (this.#threads !== null) {
      dropped.unregister(this);
      this.#threads.dispose();
    }
    // The kernels hold the memory too.
    this.#memory = null;
    this.#raw = null;
    this.#threads = null;
  }

  // Made anew at each use: growing the memory detaches older views.
  #values(storage: Storage, dtype: DType, length: number, offset = 0): HostData {
    const at = (storage.handle as number) + offset * bytesPerValue;
    const buffer = this.linear.memory.buffer;
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
