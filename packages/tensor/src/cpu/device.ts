import { Device } from '../device.js';
import { bytesPerValue, type DType, type HostData, type StorageDType, type TypedArrayOf } from '../dtype.js';
import { DisposedError, OptionError, refuseUnknownOptions } from '../errors.js';
import type { OpDef } from '../op.js';
import type { Storage, Tensor } from '../tensor.js';
import type { CpuContext } from './context.js';
import { instantiateKernels, type Kernels, requireSimd } from './kernels.js';
import { LinearMemory } from './memory.js';

export interface CpuDeviceOptions {
  /** Most bytes that the device may take; 4 GiB, the most that WebAssembly addresses, unless lowered. */
  readonly maxBytes?: number;
}

/** Tensors in WebAssembly memory, SIMD kernels on the calling thread. */
export class CpuDevice extends Device implements CpuContext {
  readonly kind = 'cpu';
  readonly description = 'cpu: WebAssembly SIMD, 1 thread';
  readonly kernels: Kernels;
  #memory: LinearMemory | null;
  readonly #scratch: { at: number; bytes: number }[] = [];

  /** @internal Use `createCpuDevice`. */
  constructor(options: CpuDeviceOptions = {}) {
    super();
    requireSimd();
    this.#memory = new LinearMemory(options.maxBytes);
    this.kernels = instantiateKernels(this.#memory.memory);
  }

  execute<A>(op: OpDef<A>, inputs: readonly Tensor[], attrs: A, outputs: readonly Tensor[]): void {
    try {
      op.cpu(this, inputs, attrs, outputs);
    } finally {
      for (const { at, bytes } of this.#scratch) this.#linear.free(at, bytes);
      this.#scratch.length = 0;
    }
  }

  at(tensor: Tensor): number {
    return tensor.storage.handle as number;
  }

  scratch(bytes: number): number {
    const at = this.#linear.allocate(bytes);
    this.#scratch.push({ at, bytes });
    return at;
  }

  integers(values: readonly number[]): number {
    const at = this.scratch(values.length * bytesPerValue);
    new Int32Array(this.#linear.memory.buffer, at, values.length).set(values);
    return at;
  }

  /** The values at once: on this device nothing is pending. */
  readSync<T extends DType>(tensor: Tensor<T>): TypedArrayOf<T> {
    return this.#values(tensor.storage, tensor.dtype, tensor.size).slice() as TypedArrayOf<T>;
  }

  protected allocate(bytes: number): number {
    return this.#linear.allocate(bytes);
  }

  protected free(handle: unknown, bytes: number): void {
    this.#linear.free(handle as number, bytes);
  }

  protected reservedBytes(): number {
    return this.#memory?.reserved ?? 0;
  }

  protected upload(storage: Storage, data: HostData, offset: number): void {
    this.#values(storage, data instanceof Int32Array ? 'i32' : 'f32', data.length, offset).set(data);
  }

  protected uploadStored(storage: Storage, bytes: Uint8Array, dtype: StorageDType, size: number): void {
    const half = dtype === 'f16' || dtype === 'bf16';
    const target = half ? this.#linear.allocate(bytes.byteLength) : (storage.handle as number);
    new Uint8Array(this.#linear.memory.buffer, target, bytes.byteLength).set(bytes);
    if (!half) return;
    const convert = dtype === 'f16' ? this.kernels.f16ToF32 : this.kernels.bf16ToF32;
    convert(target, storage.handle as number, size);
    this.#linear.free(target, bytes.byteLength);
  }

  protected async download(tensor: Tensor): Promise<HostData> {
    return this.readSync(tensor);
  }

  protected destroy(): void {
    this.#memory = null;
  }

  get #linear(): LinearMemory {
    if (this.#memory === null) throw new DisposedError('the cpu device was used after its dispose()');
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
 * A device on the CPU. Throws UnsupportedError without WebAssembly SIMD.
 *
 * @example
 * const device = createCpuDevice();
 * const y = matmul(device.tensor([1, 2, 3, 4], [2, 2]), device.tensor([1, 0, 0, 1], [2, 2]));
 * console.log(await y.data());
 * device.dispose();
 */
export function createCpuDevice(options: CpuDeviceOptions = {}): CpuDevice {
  refuseUnknownOptions('createCpuDevice', options, ['maxBytes']);
  const { maxBytes } = options;
  if (maxBytes !== undefined && !(Number.isInteger(maxBytes) && maxBytes >= 1 << 20 && maxBytes <= 2 ** 32)) {
    throw new OptionError(`createCpuDevice: maxBytes must be a whole number from 1048576 to 4294967296; got ${maxBytes}`);
  }
  return new CpuDevice(options);
}
