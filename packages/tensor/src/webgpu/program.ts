import { DisposedError, UnrollError } from '../errors.js';
import { checkReplay, type Program, type ReplayValues } from '../program.js';
import type { Storage, Tensor } from '../tensor.js';
import { disposeTree } from '../tree.js';
import { type Binding, type Command, type Encoder, packParams, Words } from './encoder.js';
import type { Failures } from './failures.js';
import { type GpuBuffer, type GpuDevice, usage } from './gpu.js';
import type { Pipeline } from './pipelines.js';
import type { BufferPool, PooledBuffer } from './pool.js';

type Step =
  | { readonly clear: PooledBuffer; readonly bytes: number }
  | {
      readonly pipeline: Pipeline;
      readonly bindings: readonly Binding[];
      readonly params: Readonly<Record<string, number>>;
      readonly site: number;
      readonly groups: readonly [number, number, number];
      readonly what: () => string;
    };

/** What the device collects while it records. Memory that is freed meanwhile serves later steps of the same recording and nothing else. */
export class Recorder {
  readonly steps: Step[] = [];
  readonly owned = new Set<PooledBuffer>();
  readonly #constants = new Set<PooledBuffer>();
  readonly #free = new Map<number, PooledBuffer[]>();

  constructor(readonly pool: BufferPool) {}

  acquire(bytes: number, label: string): PooledBuffer {
    const waiting = this.#free.get(this.pool.sizeClass(bytes));
    const reused = waiting?.pop();
    if (reused !== undefined) return reused;
    const fresh = this.pool.acquire(bytes, label);
    this.owned.add(fresh);
    return fresh;
  }

  release(of: PooledBuffer): void {
    // A constant was written once, by the host: every repetition finds it there.
    if (this.#constants.has(of)) return;
    const waiting = this.#free.get(of.size);
    if (waiting === undefined) this.#free.set(of.size, [of]);
    else waiting.push(of);
  }

  /**
   * A buffer that the host may fill once while recording, for all repetitions: one that no step writes, in place of the storage's own.
   * Throws UnrollError for memory from before the recording and for parts of a tensor.
   */
  constant(storage: Storage, whole: boolean): PooledBuffer {
    const before = storage.handle as PooledBuffer;
    if (!this.owned.has(before) || !whole) {
      throw new UnrollError('record: a tensor is written by the host while recording; write to it before, or between replays');
    }
    const fresh = this.pool.acquire(storage.bytes, 'constant of a program');
    this.owned.add(fresh);
    this.#constants.add(fresh);
    this.release(before);
    (storage as { handle: unknown }).handle = fresh;
    return fresh;
  }
}

/** What a program needs of its device. */
export interface ProgramHost {
  readonly gpu: GpuDevice;
  readonly encoder: Encoder;
  readonly failures: Failures;
  readonly pool: BufferPool;
  alive(): void;
}

// Larger batches hold much memory of the driver and begin late.
const maxBatch = 16384;

/** Dispatches at fixed bindings, enqueued by `replay`. */
export class GpuProgram<R = unknown> implements Program<R> {
  readonly outputs: R;
  readonly dispatches: number;
  readonly #host: ProgramHost;
  readonly #owned: ReadonlySet<PooledBuffer>;
  readonly #steps: readonly (Command | { readonly clear: PooledBuffer; readonly bytes: number })[];
  readonly #uniforms: GpuBuffer;
  readonly #offsets: readonly number[][];
  readonly #used: readonly PooledBuffer[];
  readonly #written: readonly PooledBuffer[];
  #disposed = false;

  /** @internal Use `device.record`. */
  constructor(given: object, recorded: object, outputs: R) {
    // Typed by no more than `object` in the signature, which keeps WebGPU's types out of the package's own.
    const host = given as ProgramHost;
    const recorder = recorded as Recorder;
    this.outputs = outputs;
    this.#host = host;
    this.#owned = recorder.owned;
    const { slotBytes } = host.encoder;
    const words = new Words(Math.max(1, recorder.steps.length) * slotBytes);
    this.#uniforms = host.gpu.createBuffer({
      label: 'unroll program parameters',
      size: words.u32.byteLength,
      usage: usage.uniform | usage.copyDst,
    });
    this.#offsets = recorder.steps.map((_, i) => [i * slotBytes]);
    const used = new Set<PooledBuffer>();
    const written = new Set<PooledBuffer>();
    this.#steps = recorder.steps.map((step, i) => {
      if ('clear' in step) {
        used.add(step.clear);
        written.add(step.clear);
        return step;
      }
      const { pipeline, bindings, params, site, groups, what } = step;
      const at = (i * slotBytes) / 4;
      packParams(pipeline.params, params, words, at);
      if (pipeline.kernel.faults) words.u32[at + pipeline.params.length] = site;
      bindings.forEach(({ of }, j) => {
        used.add(of);
        if (pipeline.kernel.writes[j]) written.add(of);
      });
      const group = host.encoder.group(pipeline, bindings, this.#uniforms, what);
      return { pipeline, bindings, group, x: groups[0], y: groups[1], z: groups[2] };
    });
    host.gpu.queue.writeBuffer(this.#uniforms, 0, words.u32);
    this.#used = [...used];
    this.#written = [...written];
    this.dispatches = this.#steps.filter((step) => !('clear' in step)).length;
  }

  replay(times = 1, values: readonly ReplayValues[] = []): void {
    const { encoder } = this.#host;
    this.#check(times, values);
    for (let i = 0; i < times; i++) {
      if (encoder.pendingDispatches + this.dispatches > maxBatch) encoder.flush();
      for (const { into, rows, first = 0 } of values)
        encoder.copyBetween(bufferOf(rows), (first + i) * into.size * 4, bufferOf(into), into.size * 4);
      encoder.mark(this.#used, this.#written);
      for (let s = 0; s < this.#steps.length; s++) {
        const step = this.#steps[s]!;
        if ('clear' in step) encoder.clear(step.clear, step.bytes);
        else encoder.run(step, this.#offsets[s]!);
      }
    }
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    disposeTree(this.outputs);
    const { encoder, pool } = this.#host;
    // What is enqueued may still name the parameters.
    encoder.flush();
    this.#uniforms.destroy();
    for (const of of this.#owned) {
      of.owned = false;
      pool.release(of);
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #check(times: number, values: readonly ReplayValues[]): void {
    if (this.#disposed) throw new DisposedError('program: replayed after its dispose(); record it again');
    this.#host.alive();
    checkReplay(times, values);
    for (const of of this.#used) {
      if (of.invalid !== undefined) throw of.invalid;
      if (this.#host.failures.any && !this.#owned.has(of)) this.#host.failures.check(of.written);
    }
  }
}

function bufferOf(tensor: Tensor): PooledBuffer {
  return tensor.storage.handle as PooledBuffer;
}
