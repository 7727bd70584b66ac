import { DisposedError } from '../errors.js';
import { checkRebind, checkReplay, type Program, type ReplayValues } from '../program.js';
import type { Tensor } from '../tensor.js';
import { disposeTree, forEachTensor } from '../tree.js';
import { type Command, type Encoder, packParams, Words } from './encoder.js';
import type { Failures } from './failures.js';
import { type GpuBuffer, type GpuDevice, usage } from './gpu.js';
import type { BufferPool, PooledBuffer } from './pool.js';
import { type ClearStep, type DispatchStep, type Recorder, withoutCopies } from './recorder.js';

/** What a program needs of its device. */
export interface ProgramHost {
  readonly gpu: GpuDevice;
  readonly encoder: Encoder;
  readonly failures: Failures;
  readonly pool: BufferPool;
  readonly offsetAlignment: number;
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
  readonly #recorded: readonly (DispatchStep | ClearStep)[];
  readonly #steps: readonly (Command | ClearStep)[];
  readonly #runs: readonly Run[];
  readonly #uniforms: GpuBuffer;
  readonly #used: readonly PooledBuffer[];
  readonly #written: readonly PooledBuffer[];
  /** For rows that are read where they lie: by buffers and rows, the steps with their bindings there. */
  readonly #atRows = new Map<string, readonly Run[]>();
  readonly #moves: readonly Pick<Tensor, 'dtype' | 'shape'>[];
  #disposed = false;

  /** @internal Use `device.record`. */
  constructor(given: object, recorded: object, outputs: R, moves: readonly Tensor[] = []) {
    // Typed by no more than `object` in the signature, which keeps WebGPU's types out of the package's own.
    const host = given as ProgramHost;
    const recorder = recorded as Recorder;
    this.outputs = outputs;
    this.#moves = moves.map(({ dtype, shape }) => ({ dtype, shape }));
    this.#host = host;
    this.#owned = recorder.owned;
    const { slotBytes } = host.encoder;
    const kept = new Set<PooledBuffer>();
    forEachTensor(outputs, (output) => kept.add(bufferOf(output)));
    const steps = withoutCopies(recorder.steps, recorder.owned, kept);
    this.#recorded = steps;
    const words = new Words(Math.max(1, steps.length) * slotBytes);
    this.#uniforms = host.gpu.createBuffer({
      label: 'unroll program parameters',
      size: words.u32.byteLength,
      usage: usage.uniform | usage.copyDst,
    });
    const used = new Set<PooledBuffer>();
    const written = new Set<PooledBuffer>();
    this.#steps = steps.map((step, i) => {
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
      return { pipeline, bindings, group, offset: [i * slotBytes], x: groups[0], y: groups[1], z: groups[2] };
    });
    this.#runs = runsOf(this.#steps);
    host.gpu.queue.writeBuffer(this.#uniforms, 0, words.u32);
    this.#used = [...used];
    this.#written = [...written];
    this.dispatches = this.#steps.filter((step) => !('clear' in step)).length;
  }

  replay(times = 1, values: readonly ReplayValues[] = []): void {
    const { encoder } = this.#host;
    const started = performance.now();
    this.#check(times, values);
    const copied = values.filter((one) => !this.#readsInPlace(one));
    const placed = values.filter((one) => !copied.includes(one));
    // The batch that knows of the buffers.
    let marked = -1;
    for (let i = 0; i < times; i++) {
      if (encoder.pendingDispatches + this.dispatches > maxBatch) encoder.flush();
      for (const { into, rows, first = 0 } of copied)
        encoder.copyBetween(bufferOf(rows), (first + i) * into.size * 4, bufferOf(into), into.size * 4);
      if (marked !== encoder.batch) {
        encoder.mark(this.#used, this.#written);
        for (const { rows } of placed) encoder.mark([bufferOf(rows)], []);
        marked = encoder.batch;
      }
      for (const run of placed.length === 0 ? this.#runs : this.#runsAt(placed, i)) {
        if ('clear' in run) encoder.clear(run.clear, run.bytes);
        else encoder.runAll(run);
      }
    }
    encoder.replayed.dispatches += times * this.dispatches;
    encoder.replayed.milliseconds += performance.now() - started;
  }

  /** Whether steps may read rows where they lie: a copy would end the pass at every repetition. */
  #readsInPlace({ into, rows }: ReplayValues): boolean {
    const aligned = (into.size * 4) % this.#host.offsetAlignment === 0;
    const written = this.#written.includes(bufferOf(into)) || this.#written.includes(bufferOf(rows));
    return aligned && !written && rows.size > into.size;
  }

  /** The steps with `placed` bound where their rows of repetition i lie. */
  #runsAt(placed: readonly ReplayValues[], i: number): readonly Run[] {
    let key = '';
    for (const { into, rows, first = 0 } of placed) key += `${bufferOf(into).id} ${bufferOf(rows).id} ${first + i} `;
    const known = this.#atRows.get(key);
    if (known !== undefined) return known;
    const at = new Map(
      placed.map(({ into, rows, first = 0 }) => {
        const size = into.size * 4;
        return [bufferOf(into), { of: bufferOf(rows), offset: (first + i) * size, size }];
      }),
    );
    const steps = this.#steps.map((step, s) => {
      if ('clear' in step || step.bindings.every(({ of }) => !at.has(of))) return step;
      const bindings = step.bindings.map((binding) => at.get(binding.of) ?? binding);
      const { what } = this.#recorded[s] as DispatchStep;
      return { ...step, bindings, group: this.#host.encoder.group(step.pipeline, bindings, this.#uniforms, what) };
    });
    const runs = runsOf(steps);
    this.#atRows.set(key, runs);
    return runs;
  }

  /** Bindings and their parameters are fixed. */
  rebind(moves: readonly Tensor[]): false {
    checkRebind(this.#moves, moves);
    return false;
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    disposeTree(this.outputs);
    const { encoder, pool } = this.#host;
    encoder.retire(this.#uniforms);
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

/** Dispatches that follow each other in one pass, or what ends it. */
type Run = readonly Command[] | ClearStep;

function runsOf(steps: readonly (Command | ClearStep)[]): Run[] {
  const runs: (Command[] | ClearStep)[] = [];
  for (const step of steps) {
    const last = runs[runs.length - 1];
    if ('clear' in step) runs.push(step);
    else if (Array.isArray(last)) last.push(step);
    else runs.push([step]);
  }
  return runs;
}

function bufferOf(tensor: Tensor): PooledBuffer {
  return tensor.storage.handle as PooledBuffer;
}
