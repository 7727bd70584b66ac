import { GpuError } from '../errors.js';
import type { Failures } from './failures.js';
import { type GpuBindGroup, type GpuBuffer, type GpuCommandEncoder, type GpuComputePass, type GpuDevice, usage } from './gpu.js';
import type { ParamType } from './kernel.js';
import type { Pipeline } from './pipelines.js';
import type { PooledBuffer } from './pool.js';
import type { Profiler } from './profile.js';
import { faultBytes } from './readback.js';

/** A buffer range that a kernel is given. */
export interface Binding {
  readonly of: PooledBuffer;
  readonly offset: number;
  readonly size: number;
}

/** What a dispatch needs on the device: recorded programs keep these. */
export interface Command {
  readonly pipeline: Pipeline;
  readonly bindings: readonly Binding[];
  readonly group: GpuBindGroup;
  /** Where its parameters begin. Dawn in Node takes an array in half the time of its form with a Uint32Array. */
  readonly offset: number[];
  readonly x: number;
  readonly y: number;
  readonly z: number;
}

const slotBytes = 256;
const slots = 4096;
const stagingBytes = 1 << 20;
const maxGroups = 8192;

/** Writes the numbers of a kernel into a slot of 32-bit words. */
export function packParams(
  params: readonly (readonly [string, ParamType])[],
  values: Readonly<Record<string, number>>,
  words: Words,
  at: number,
): void {
  for (let i = 0; i < params.length; i++) {
    const [name, type] = params[i]!;
    const value = values[name]!;
    if (type === 'f32') words.f32[at + i] = value;
    else words.u32[at + i] = value;
  }
}

/** One piece of host memory seen as both kinds of number. */
export class Words {
  readonly u32: Uint32Array<ArrayBuffer>;
  readonly f32: Float32Array<ArrayBuffer>;

  constructor(bytes: number) {
    const buffer = new ArrayBuffer(bytes);
    this.u32 = new Uint32Array(buffer);
    this.f32 = new Float32Array(buffer);
  }
}

/**
 * Collects dispatches and copies in one command encoder, the batch, and submits them when a value is read or the parameters' memory is full.
 * Parameters and small uploads gather on the host and go up in one write each before the submit; the queue keeps the order, so one
 * buffer serves every batch.
 */
export class Encoder {
  batch = 1;
  submits = 0;
  dispatches = 0;
  /** Of replayed programs, and the host's milliseconds for them. */
  readonly replayed = { dispatches: 0, milliseconds: 0 };
  /** Dispatches of the open batch. */
  pendingDispatches = 0;
  /** Set while kernels are timed. */
  profiler: Profiler | null = null;
  readonly slotBytes: number;
  readonly uniforms: GpuBuffer;
  readonly #staging: GpuBuffer;
  readonly #words: Words;
  readonly #staged = new Uint8Array(stagingBytes);
  readonly #groups = new Map<string, GpuBindGroup>();
  #encoder: GpuCommandEncoder | null = null;
  #pass: GpuComputePass | null = null;
  #current: Pipeline | null = null;
  #slot = 0;
  #stagedBytes = 0;
  #retired: GpuBuffer[] = [];

  constructor(
    readonly device: GpuDevice,
    readonly failures: () => Failures,
    readonly faultBuffer: GpuBuffer,
  ) {
    this.slotBytes = Math.max(slotBytes, device.limits.minUniformBufferOffsetAlignment);
    this.#words = new Words(this.slotBytes * slots);
    this.uniforms = device.createBuffer({ label: 'unroll parameters', size: this.slotBytes * slots, usage: usage.uniform | usage.copyDst });
    this.#staging = device.createBuffer({ label: 'unroll uploads', size: stagingBytes, usage: usage.copySrc | usage.copyDst });
  }

  /** The bind group for these buffers; kept, since the pool hands out the same buffers again and again. */
  group(pipeline: Pipeline, bindings: readonly Binding[], uniforms: GpuBuffer, what: () => string): GpuBindGroup {
    let key = `${pipeline.layout.label}`;
    for (const { of, offset, size } of bindings) key += `,${of.id}:${offset}:${size}`;
    const shared = uniforms === this.uniforms;
    const known = shared ? this.#groups.get(key) : undefined;
    if (known !== undefined) return known;
    const label = `${what()} (${pipeline.kernel.name})`;
    const entries = bindings.map(({ of, offset, size }, i) => ({ binding: i + 1, resource: { buffer: of.buffer, offset, size } }));
    entries.unshift({ binding: 0, resource: { buffer: uniforms, offset: 0, size: slotBytes } });
    if (pipeline.kernel.faults)
      entries.push({ binding: entries.length, resource: { buffer: this.faultBuffer, offset: 0, size: faultBytes } });
    const make = () => this.device.createBindGroup({ label, layout: pipeline.layout, entries });
    const group = this.failures().scoped('validation', make, (message) => this.#refused(label, pipeline, message));
    if (!shared) return group;
    if (this.#groups.size >= maxGroups) this.#groups.clear();
    this.#groups.set(key, group);
    return group;
  }

  get groupCount(): number {
    return this.#groups.size;
  }

  /** Bind groups keep destroyed buffers alive and invalid: none may outlive one. */
  forgetGroups(): void {
    this.#groups.clear();
  }

  /** `site` names the fault that the kernel may report; 0 for kernels that report none. */
  dispatch(command: Command, values: Readonly<Record<string, number>>, site: number): void {
    if (this.#slot === slots) this.flush();
    const at = this.#slot++;
    packParams(command.pipeline.params, values, this.#words, (at * this.slotBytes) / 4);
    if (command.pipeline.kernel.faults) this.#words.u32[(at * this.slotBytes) / 4 + command.pipeline.params.length] = site;
    command.offset[0] = at * this.slotBytes;
    const writes = command.pipeline.kernel.writes;
    for (let i = 0; i < command.bindings.length; i++) {
      const of = command.bindings[i]!.of;
      of.touched = this.batch;
      if (writes[i]) of.written = this.batch;
    }
    this.#run(command);
  }

  /** Notes that the batch uses and writes these buffers; `dispatch` does so by itself. */
  mark(used: readonly PooledBuffer[], written: readonly PooledBuffer[]): void {
    for (const of of used) of.touched = this.batch;
    for (const of of written) of.written = this.batch;
  }

  /** Encodes dispatches whose parameters are elsewhere; their buffers must be marked. */
  runAll(commands: readonly Command[]): void {
    if (this.profiler !== null) {
      for (const command of commands) this.#run(command);
      return;
    }
    // All that is here runs for every dispatch of every token: see "Host time" in docs/webgpu.md.
    const pass = this.#openPass(commands[0]!.pipeline);
    let current = this.#current;
    for (let i = 0; i < commands.length; i++) {
      const { pipeline, group, offset, x, y, z } = commands[i]!;
      if (current !== pipeline) {
        pass.setPipeline(pipeline.pipeline);
        current = pipeline;
      }
      pass.setBindGroup(0, group, offset);
      if (y === 1 && z === 1) pass.dispatchWorkgroups(x);
      else pass.dispatchWorkgroups(x, y, z);
    }
    this.#current = current;
    this.dispatches += commands.length;
    this.pendingDispatches += commands.length;
  }

  #run({ pipeline, group, offset, x, y, z }: Command): void {
    const pass = this.#openPass(pipeline);
    if (this.#current !== pipeline) {
      pass.setPipeline(pipeline.pipeline);
      this.#current = pipeline;
    }
    pass.setBindGroup(0, group, offset);
    pass.dispatchWorkgroups(x, y, z);
    this.dispatches++;
    this.pendingDispatches++;
  }

  /** Puts bytes into a buffer in their place among the commands. `bytes` may change after the call. */
  upload(of: PooledBuffer, offset: number, bytes: Uint8Array): void {
    const busy = of.touched === this.batch;
    const small = bytes.byteLength <= stagingBytes / 4;
    if (busy && small) {
      if (this.#stagedBytes + bytes.byteLength > stagingBytes) this.flush();
      this.#staged.set(bytes, this.#stagedBytes);
      this.copy(this.#staging, this.#stagedBytes, of.buffer, offset, bytes.byteLength);
      this.#stagedBytes += bytes.byteLength;
      of.touched = this.batch;
      of.written = this.batch;
      return;
    }
    if (busy) this.flush();
    this.device.queue.writeBuffer(of.buffer, offset, bytes);
  }

  clear(of: PooledBuffer, bytes: number): void {
    of.touched = this.batch;
    of.written = this.batch;
    this.#open().clearBuffer(of.buffer, 0, bytes);
  }

  copy(from: GpuBuffer, fromOffset: number, to: GpuBuffer, toOffset: number, bytes: number): void {
    this.#open().copyBufferToBuffer(from, fromOffset, to, toOffset, bytes);
  }

  copyBetween(from: PooledBuffer, fromOffset: number, to: PooledBuffer, bytes: number): void {
    from.touched = this.batch;
    to.touched = this.batch;
    to.written = this.batch;
    if (bytes > 0) this.copy(from.buffer, fromOffset, to.buffer, 0, bytes);
  }

  clearFaults(): void {
    this.#open().clearBuffer(this.faultBuffer, 0, faultBytes);
  }

  /** Ends the timing: its timestamps are on their way with the submitted batch. */
  endProfile(): void {
    this.profiler?.resolve(this.#open());
    this.profiler = null;
    this.flush();
  }

  /** The open command encoder, outside of any pass. */
  #open(): GpuCommandEncoder {
    this.#endPass();
    this.#encoder ??= this.device.createCommandEncoder({ label: `unroll batch ${this.batch}` });
    return this.#encoder;
  }

  #openPass(pipeline: Pipeline): GpuComputePass {
    const timestampWrites = this.profiler?.next(pipeline.kernel.name);
    if (this.#pass === null || this.profiler !== null) {
      const label = `unroll pass of batch ${this.batch}`;
      this.#pass = this.#open().beginComputePass({ label, ...(timestampWrites === undefined ? {} : { timestampWrites }) });
      this.#current = null;
    }
    return this.#pass;
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
  }

  /** Destroys a buffer that the open batch may name, once that is submitted. */
  retire(buffer: GpuBuffer): void {
    if (this.#encoder === null) buffer.destroy();
    else this.#retired.push(buffer);
  }

  /** Submits the batch, if it holds anything, and begins the next. */
  flush(): void {
    const encoder = this.#encoder;
    if (encoder === null) {
      this.batch++;
      return;
    }
    this.#endPass();
    const label = `unroll batch ${this.batch}`;
    const { queue } = this.device;
    if (this.#slot > 0) queue.writeBuffer(this.uniforms, 0, this.#words.u32, 0, (this.#slot * this.slotBytes) / 4);
    if (this.#stagedBytes > 0) queue.writeBuffer(this.#staging, 0, this.#staged, 0, Math.ceil(this.#stagedBytes / 4) * 4);
    this.failures().scoped(
      'validation',
      () => queue.submit([encoder.finish({ label })]),
      (message) => new GpuError(`webgpu device: a batch of commands was refused, nothing of it ran. ${message}`),
    );
    this.#encoder = null;
    this.#slot = 0;
    this.#stagedBytes = 0;
    this.pendingDispatches = 0;
    this.submits++;
    this.batch++;
    for (const buffer of this.#retired) buffer.destroy();
    this.#retired = [];
  }

  destroy(): void {
    this.#encoder = null;
    this.#pass = null;
    this.#groups.clear();
    this.uniforms.destroy();
    this.#staging.destroy();
  }

  #refused(label: string, pipeline: Pipeline, message: string): GpuError {
    return new GpuError(`${label}: the bindings were refused. ${message}\nshader:\n${pipeline.kernel.source()}`);
  }
}
