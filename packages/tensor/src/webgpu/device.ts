import { Device, type DeviceCapacity } from '../device.js';
import { bytesPerValue, type DType, type HostData, isQuantized, type StorageDType } from '../dtype.js';
import {
  DeviceLostError,
  DisposedError,
  DTypeError,
  GpuError,
  RangeOpError,
  refuseUnknownOptions,
  UnrollError,
  UnsupportedError,
} from '../errors.js';
import type { OpDef } from '../op.js';
import type { KernelTime } from '../profile.js';
import type { RecordOptions } from '../program.js';
import { keep, tidy } from '../scope.js';
import { showShape } from '../shape.js';
import { type Storage, Tensor } from '../tensor.js';
import { forEachTensor } from '../tree.js';
import { type Chosen, chooseDevice, type WebGPUDeviceOptions } from './adapter.js';
import { type Binding, type Command, Encoder } from './encoder.js';
import { asUnrollError, Failures } from './failures.js';
import { usage } from './gpu.js';
import { type Fault, type GpuDispatch, type Operand, Scratch } from './kernel.js';
import { Pipelines } from './pipelines.js';
import { BufferPool, type PooledBuffer } from './pool.js';
import { Profiler } from './profile.js';
import { GpuProgram } from './program.js';
import { faultBytes, Readback } from './readback.js';
import { type RecordedCall, Recorder } from './recorder.js';
import { selfTestSubgroups } from './self-test.js';
import type { GpuTraits } from './traits.js';
import { uploadChunks, uploadHalves } from './upload.js';

export interface WebGPUStats {
  readonly submits: number;
  readonly dispatches: number;
  /** Dispatches of recorded programs, and what their replay took on the host. */
  readonly replayed: { readonly dispatches: number; readonly milliseconds: number };
  readonly reads: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Compiled shaders. */
  readonly pipelines: number;
  /** Kept bind groups. */
  readonly bindGroups: number;
  /** Buffers made since the device was created; those taken from the pool again are not counted. */
  readonly buffersCreated: number;
}

/** Tensors in GPU buffers. Operations are encoded at once and run in batches; errors of the GPU arrive at the next read. */
export class WebGPUDevice extends Device {
  readonly kind = 'webgpu';
  /** @internal */
  traits: GpuTraits;
  /** The WebGPU device, for programs that draw or compute with it beside this package. */
  readonly gpuDevice: object;
  readonly #chosen: Chosen;
  readonly #failures: Failures;
  readonly #encoder: Encoder;
  readonly #pool: BufferPool;
  readonly #pipelines: Pipelines;
  readonly #readback: Readback;
  readonly #faults: Fault[] = [];
  readonly #faultSites = new Map<string, number>();
  readonly #retreats: string[] = [];
  #recorder: Recorder | null = null;
  #gone = false;
  #bytesRead = 0;
  #bytesWritten = 0;

  /** @internal Use `createWebGPUDevice`. */
  constructor(given: object, options: WebGPUDeviceOptions) {
    super();
    // Typed by no more than `object` in the signature, which keeps WebGPU's types out of the package's own.
    const chosen = given as Chosen;
    const { device } = chosen;
    this.#chosen = chosen;
    this.gpuDevice = device;
    const {
      maxStorageBufferBindingSize,
      minStorageBufferOffsetAlignment,
      maxComputeWorkgroupsPerDimension,
      maxStorageBuffersPerShaderStage,
    } = device.limits;
    this.traits = {
      software: chosen.software,
      subgroups: chosen.features.has('subgroups'),
      f16: chosen.features.has('shader-f16'),
      packedDot: chosen.packedDot,
      // A binding's size counts in whole vectors of four.
      maxBindingBytes: Math.floor(Math.min(maxStorageBufferBindingSize, options.maxBindingBytes ?? Number.MAX_SAFE_INTEGER) / 16) * 16,
      offsetAlignment: Math.max(256, minStorageBufferOffsetAlignment),
      maxWorkgroups: maxComputeWorkgroupsPerDimension,
      storageBuffers: maxStorageBuffersPerShaderStage,
    };
    const faults = device.createBuffer({ label: 'unroll faults', size: faultBytes, usage: usage.storage | usage.copySrc | usage.copyDst });
    this.#encoder = new Encoder(device, () => this.#failures, faults);
    this.#failures = new Failures(
      device,
      () => this.#encoder.batch,
      () => this.#encoder.flush(),
    );
    const poolOptions = { maxBytes: options.maxBytes ?? Number.MAX_SAFE_INTEGER, poolBytes: options.poolBytes ?? 2 ** 28 };
    this.#pool = new BufferPool(device, this.#failures, poolOptions, (touched) => {
      if (touched === this.#encoder.batch) this.#encoder.flush();
      this.#encoder.forgetGroups();
    });
    this.#pipelines = new Pipelines(device, this.#failures);
    this.#readback = new Readback(device, this.#encoder);
    void device.lost.then(({ reason, message }) => {
      if (this.#gone) return;
      this.#failures.lost = new DeviceLostError(
        `webgpu device: the GPU device is lost (${reason}${message === '' ? '' : `: ${message}`}); its tensors are gone. Make a new device and load the model again`,
      );
    });
    device.addEventListener('uncapturederror', ({ error }) => {
      this.#failures.add(0, new GpuError(`webgpu device: ${error.message}`));
    });
  }

  get description(): string {
    const { name, software, notes } = this.#chosen;
    const kernels = software ? 'serial kernels without barriers, as for software adapters' : 'workgroup kernels, as for GPUs';
    return `webgpu: ${name}; ${kernels}; ${notes.join(', ')}; bindings up to ${this.traits.maxBindingBytes} bytes${this.#retreats.map((note) => `; ${note}`).join('')}`;
  }

  get capacity(): DeviceCapacity {
    const { maxBytes } = this.#pool.options;
    const tensorBytes = this.#pool.device.limits.maxBufferSize;
    const operandBytes = Math.min(tensorBytes, this.traits.maxBindingBytes);
    const binds = operandBytes < tensorBytes ? `, of which an operation binds ${operandBytes} at once` : '';
    const limit = `the largest buffer of this adapter has ${tensorBytes} bytes${binds}`;
    // WebGPU does not tell how much memory a GPU has.
    const bytes = maxBytes === Number.MAX_SAFE_INTEGER ? Number.POSITIVE_INFINITY : maxBytes;
    const why = bytes === Number.POSITIVE_INFINITY ? limit : `the device was made with maxBytes ${maxBytes}, and ${limit}`;
    return { bytes, tensorBytes, operandBytes, growsInPlace: false, why, taken: (size) => this.#pool.sizeClass(size) };
  }

  /** The adapter computes on the CPU: right for tests, slow for use. */
  get software(): boolean {
    return this.#chosen.software;
  }

  stats(): WebGPUStats {
    return {
      submits: this.#encoder.submits,
      dispatches: this.#encoder.dispatches,
      replayed: { ...this.#encoder.replayed },
      reads: this.#readback.reads,
      bytesRead: this.#bytesRead,
      bytesWritten: this.#bytesWritten,
      pipelines: this.#pipelines.size,
      bindGroups: this.#encoder.groupCount,
      buffersCreated: this.#pool.created,
    };
  }

  override flush(): void {
    this.#alive();
    this.#encoder.flush();
  }

  /**
   * Times on the GPU what `f` enqueues, by kernel; 2048 dispatches at most. Throws UnsupportedError where the adapter has no timestamps,
   * UnrollError beyond that number.
   */
  async profile(f: () => unknown): Promise<KernelTime[]> {
    this.#alive();
    if (!this.#chosen.features.has('timestamp-query')) {
      throw new UnsupportedError('device.profile: needs timestamp-query, which this adapter does not offer or an option disabled');
    }
    if (this.#encoder.profiler !== null) throw new UnrollError('device.profile: another profile is being taken; await it first');
    const profiler = new Profiler(this.#chosen.device);
    try {
      this.#encoder.profiler = profiler;
      try {
        await f();
      } finally {
        this.#encoder.endProfile();
      }
      if (profiler.missed > 0)
        throw new UnrollError(`device.profile: ${profiler.missed} dispatches beyond the 2048 that can be timed at once`);
      return await this.#settled(profiler.times());
    } finally {
      profiler.destroy();
    }
  }

  /** Waits until all work so far is done. Throws what went wrong in it. */
  async idle(): Promise<void> {
    const batch = this.#encoder.batch;
    this.flush();
    await this.#chosen.device.queue.onSubmittedWorkDone();
    await this.#failures.settle();
    this.#alive();
    this.#failures.check(batch);
  }

  execute<A>(op: OpDef<A>, inputs: readonly Tensor[], attrs: A, outputs: readonly Tensor[]): void {
    this.#alive();
    const what = () => `${op.name} ${inputs.map((input) => `${input.dtype}${showShape(input.shape)}`).join(' ')}`;
    const scratch = new Map<Scratch, PooledBuffer>();
    const call = { op: op.name, outputs: outputs.map((output) => output.storage.handle as PooledBuffer) };
    try {
      for (const dispatch of op.wgsl(inputs, attrs, outputs, this.traits)) this.#dispatch(dispatch, scratch, what, call);
    } finally {
      for (const buffer of scratch.values()) this.free(buffer);
    }
  }

  record<R>(f: () => R, options: RecordOptions = {}): GpuProgram<R> {
    this.#alive();
    refuseUnknownOptions('record', options, ['moves']);
    this.tape?.refuseRecording();
    if (this.#recorder !== null) throw new UnrollError('record: a recording is open already; recordings do not nest');
    const recorder = new Recorder(this.#pool);
    this.#recorder = recorder;
    try {
      const outputs = tidy(this, f);
      forEachTensor(outputs, keep);
      for (const of of recorder.owned) of.owned = true;
      const { device: gpu } = this.#chosen;
      return new GpuProgram(
        {
          gpu,
          encoder: this.#encoder,
          failures: this.#failures,
          pool: this.#pool,
          offsetAlignment: this.traits.offsetAlignment,
          alive: () => this.#alive(),
        },
        recorder,
        outputs,
        options.moves,
      );
    } catch (error) {
      this.#recorder = null;
      for (const of of recorder.owned) this.#pool.release(of);
      throw error;
    } finally {
      this.#recorder = null;
    }
  }

  #dispatch(dispatch: GpuDispatch, scratch: Map<Scratch, PooledBuffer>, what: () => string, call: RecordedCall): void {
    const [x, y, z] = dispatch.groups;
    if (x * y * z === 0) return;
    const pipeline = this.#pipelines.of(dispatch.kernel, what);
    const bindings: Binding[] = [];
    for (let i = 0; i < dispatch.bind.length; i++) bindings.push(this.#binding(dispatch.bind[i]!, scratch, what));
    const site = dispatch.fault === undefined ? 0 : this.#site(dispatch.fault);
    if (this.#recorder !== null) {
      this.#recorder.steps.push({ pipeline, bindings, params: dispatch.params, site, groups: dispatch.groups, what, call });
      return;
    }
    const group = this.#encoder.group(pipeline, bindings, this.#encoder.uniforms, what);
    const command: Command = { pipeline, bindings, group, offset: [0], x, y, z };
    this.#encoder.dispatch(command, dispatch.params, site);
  }

  #binding(operand: Operand, scratch: Map<Scratch, PooledBuffer>, what: () => string): Binding {
    const whole = operand instanceof Tensor || operand instanceof Scratch;
    const owner = whole ? operand : operand.tensor;
    let of: PooledBuffer;
    if (owner instanceof Scratch) {
      const known = scratch.get(owner);
      of = known ?? this.#acquire(owner.bytes, 'scratch');
      if (known === undefined) scratch.set(owner, of);
    } else {
      of = owner.storage.handle as PooledBuffer;
      if (of.invalid !== undefined) throw of.invalid;
      if (this.#failures.any) this.#failures.check(of.written);
    }
    const offset = whole ? 0 : operand.offset;
    const bytes = whole ? (owner instanceof Scratch ? owner.bytes : owner.storage.bytes) : operand.bytes;
    const limit = this.traits.maxBindingBytes;
    if (bytes > limit) {
      throw new UnsupportedError(
        `${what()}: an operand of ${bytes} bytes exceeds what this adapter binds at once (${limit} bytes), and this operation cannot be split`,
      );
    }
    const size = Math.min(Math.max(16, Math.ceil(bytes / 16) * 16), of.size - offset);
    return { of, offset, size };
  }

  #site({ key, describe }: Fault): number {
    const known = this.#faultSites.get(key);
    if (known !== undefined) return known;
    this.#faults.push({ key, describe });
    this.#faultSites.set(key, this.#faults.length);
    return this.#faults.length;
  }

  protected allocate(bytes: number): PooledBuffer {
    this.#alive();
    return this.#acquire(bytes, `tensor of ${bytes} bytes`);
  }

  #acquire(bytes: number, label: string): PooledBuffer {
    return this.#recorder === null ? this.#pool.acquire(bytes, label) : this.#recorder.acquire(bytes, label);
  }

  protected free(handle: unknown): void {
    const of = handle as PooledBuffer;
    if (this.#recorder?.owned.has(of)) this.#recorder.release(of);
    else this.#pool.release(of);
  }

  protected reservedBytes(): number {
    return this.#pool.reserved;
  }

  protected upload(storage: Storage, data: HostData, offset: number): void {
    this.#alive();
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (this.#recorder !== null) this.#recorder.constant(storage, bytes.byteLength === storage.bytes);
    this.#bytesWritten += bytes.byteLength;
    uploadChunks(this.#encoder, storage.handle as PooledBuffer, offset * bytesPerValue, bytes);
  }

  protected override zero(storage: Storage, _dtype: DType, size: number): void {
    this.#alive();
    const of = storage.handle as PooledBuffer;
    if (size === 0) return;
    if (this.#recorder === null) this.#encoder.clear(of, size * bytesPerValue);
    else this.#recorder.steps.push({ clear: of, bytes: size * bytesPerValue });
  }

  protected uploadStored(storage: Storage, bytes: Uint8Array, dtype: StorageDType, size: number): void {
    this.#alive();
    this.#bytesWritten += bytes.byteLength;
    const to = this.#recorder?.constant(storage, true) ?? (storage.handle as PooledBuffer);
    if (dtype === 'f32' || dtype === 'i32') {
      uploadChunks(this.#encoder, to, 0, bytes);
      return;
    }
    if (isQuantized(dtype)) throw new DTypeError(`webgpu device: ${dtype} is not widened while loading`);
    uploadHalves(this.#encoder, this.#pool, bytes, dtype, size, this.traits, (dispatch, from, offset, part) => {
      const pipeline = this.#pipelines.of(dispatch.kernel, () => `fromBytes ${dtype}`);
      const bindings = [
        { of: from, offset: 0, size: from.size },
        { of: to, offset, size: Math.min(Math.ceil(part / 16) * 16, to.size - offset) },
      ];
      const [x, y, z] = dispatch.groups;
      const group = this.#encoder.group(pipeline, bindings, this.#encoder.uniforms, () => `fromBytes ${dtype}`);
      this.#encoder.dispatch({ pipeline, bindings, group, offset: [0], x, y, z }, dispatch.params, 0);
    });
  }

  protected uploadBytes(storage: Storage, bytes: Uint8Array, offset: number): void {
    this.#alive();
    this.#bytesWritten += bytes.byteLength;
    const to = this.#recorder?.constant(storage, bytes.byteLength === storage.bytes) ?? (storage.handle as PooledBuffer);
    let whole = bytes;
    if (bytes.byteLength % 4 !== 0) {
      // Only the end of a tensor of halves is odd, and a buffer has room there.
      whole = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
      whole.set(bytes);
    }
    uploadChunks(this.#encoder, to, offset, whole);
  }

  protected async downloadBytes(tensor: Tensor): Promise<Uint8Array> {
    const bytes = tensor.storage.bytes;
    return new Uint8Array(await this.#read(tensor, Math.ceil(bytes / 4) * 4), 0, bytes);
  }

  protected async download(tensor: Tensor): Promise<HostData> {
    const { dtype, size } = tensor;
    const data = await this.#read(tensor, size * bytesPerValue);
    return dtype === 'i32' ? new Int32Array(data, 0, size) : new Float32Array(data, 0, size);
  }

  async #read(tensor: Tensor, bytes: number): Promise<ArrayBuffer> {
    this.#alive();
    if (this.#recorder !== null)
      throw new UnrollError('record: values cannot be read while recording; return the tensor and read it after a replay');
    const of = tensor.storage.handle as PooledBuffer;
    const { written } = of;
    if (tensor.device !== this) throw new UnsupportedError('webgpu device: asked to read a tensor of another device');
    const { bytes: data, site, value, place } = await this.#settled(this.#readback.read(of, bytes));
    if (of.invalid !== undefined) throw of.invalid;
    this.#failures.check(written);
    if (site !== 0) {
      this.#encoder.clearFaults();
      throw new RangeOpError(
        this.#faults[site - 1]?.describe(value, place) ?? `webgpu device: the fault record holds an unknown site ${site}`,
      );
    }
    this.#bytesRead += bytes;
    return data;
  }

  /** Waits for a read and for the errors of all that it rests on. */
  async #settled<T>(reading: Promise<T>): Promise<T> {
    let result: T | undefined;
    let refused: unknown;
    try {
      result = await reading;
    } catch (error) {
      refused = error;
    }
    await this.#failures.settle();
    if (refused !== undefined && !this.#gone) {
      // A read of a lost device fails before its loss is told.
      await Promise.race([this.#chosen.device.lost, new Promise((resolve) => setTimeout(resolve, 100))]);
    }
    this.#alive();
    if (refused !== undefined) {
      this.#failures.check(this.#encoder.batch - 1);
      throw asUnrollError('webgpu device: a read failed', refused);
    }
    return result as T;
  }

  protected destroy(): void {
    this.#gone = true;
    this.#readback.destroy();
    this.#encoder.destroy();
    this.#chosen.device.destroy();
  }

  #alive(): void {
    if (this.#gone) throw new DisposedError('the webgpu device was used after its dispose()');
    if (this.#failures.lost !== undefined) throw this.#failures.lost;
  }

  /** @internal */
  async prepare(): Promise<this> {
    if (!this.traits.subgroups || this.traits.software) return this;
    const chosen = this.traits;
    this.traits = { ...chosen, maxBindingBytes: this.#chosen.device.limits.maxStorageBufferBindingSize };
    const problem = await selfTestSubgroups(this);
    this.traits = chosen;
    if (problem !== undefined) {
      this.traits = { ...this.traits, subgroups: false };
      this.#retreats.push(`subgroup kernels are not used: ${problem}`);
    }
    return this;
  }
}

/**
 * A device on WebGPU. Throws UnsupportedError where there is no WebGPU or no adapter, saying what to install.
 *
 * @example
 * const device = await createWebGPUDevice({ gpu: navigator.gpu });
 * const y = matmul(device.tensor([1, 2, 3, 4], [2, 2]), device.tensor([1, 0, 0, 1], [2, 2]));
 * console.log(await y.data());
 * device.dispose();
 */
export async function createWebGPUDevice(options: WebGPUDeviceOptions): Promise<WebGPUDevice> {
  return new WebGPUDevice(await chooseDevice(options), options).prepare();
}
