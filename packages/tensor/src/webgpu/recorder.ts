import { UnrollError } from '../errors.js';
import type { Storage } from '../tensor.js';
import type { Binding } from './encoder.js';
import type { Pipeline } from './pipelines.js';
import type { BufferPool, PooledBuffer } from './pool.js';

export interface ClearStep {
  readonly clear: PooledBuffer;
  readonly bytes: number;
}

export interface DispatchStep {
  readonly pipeline: Pipeline;
  readonly bindings: readonly Binding[];
  readonly params: Readonly<Record<string, number>>;
  readonly site: number;
  readonly groups: readonly [number, number, number];
  readonly what: () => string;
  /** The call that the dispatch is part of. */
  readonly call: RecordedCall;
}

export type Step = ClearStep | DispatchStep;

/** A call of an operation. */
export interface RecordedCall {
  readonly op: string;
  /** What it fills, which nothing wrote before. */
  readonly outputs: readonly PooledBuffer[];
}

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

const dispatches = (step: Step | undefined): step is DispatchStep => step !== undefined && 'call' in step;
const binds = (step: Step, of: PooledBuffer) => (dispatches(step) ? step.bindings.some((binding) => binding.of === of) : step.clear === of);
const writes = (step: Step, of: PooledBuffer) =>
  dispatches(step) ? step.bindings.some((binding, i) => binding.of === of && step.pipeline.kernel.writes[i]) : step.clear === of;

/**
 * The steps without the `assign` of a result that nothing else reads: the operation that computes it writes to the target at once. So a
 * step that ends in `assign(state, next)` costs no copy. `kept` are the program's outputs.
 */
export function withoutCopies(steps: readonly Step[], owned: ReadonlySet<PooledBuffer>, kept: ReadonlySet<PooledBuffer>): Step[] {
  const result = [...steps];
  for (let i = result.length - 1; i >= 0; i--) {
    const step = result[i]!;
    if (!dispatches(step) || step.call.op !== 'assign') continue;
    const [from, to] = step.bindings as [Binding, Binding];
    if (from.offset !== 0 || to.offset !== 0 || from.size !== to.size || !owned.has(from.of) || kept.has(from.of)) continue;
    const before = result.slice(0, i);
    const at = before.map((other) => writes(other, from.of)).lastIndexOf(true);
    const maker = result[at];
    if (!dispatches(maker) || !maker.call.outputs.includes(from.of) || binds(maker, to.of)) continue;
    const others = before.filter((other) => other !== maker && dispatches(other) && other.call === maker.call);
    const between = result.slice(at + 1, i);
    const next = result.slice(i + 1).find((other) => binds(other, from.of));
    const free =
      next === undefined || (writes(next, from.of) && dispatches(next) && next.call.outputs.includes(from.of)) || 'clear' in next;
    if (others.some((other) => binds(other, from.of)) || between.some((other) => binds(other, from.of) || binds(other, to.of)) || !free)
      continue;
    result[at] = { ...maker, bindings: maker.bindings.map((binding) => (binding.of === from.of ? to : binding)) };
    result.splice(i, 1);
  }
  return result;
}
