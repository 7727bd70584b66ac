import { DisposedError, UnrollError } from '../errors.js';
import { checkReplay, type Program, type ReplayValues } from '../program.js';
import type { Storage, Tensor } from '../tensor.js';
import { disposeTree } from '../tree.js';
import type { Kernels } from './kernels.js';
import { blockSize, type LinearMemory } from './memory.js';

type AnyKernel = (...args: number[]) => number | undefined;

interface Call {
  readonly kernel: AnyKernel;
  readonly args: readonly number[];
  /** What a result from 0 means. */
  error?: (place: number) => Error;
}

/** What the device collects while it records. Memory that is freed meanwhile serves later calls of the same recording and nothing else. */
export class Recorder {
  readonly calls: Call[] = [];
  /** Address and size of each block. */
  readonly owned = new Map<number, number>();
  /** Memory from before the recording that the calls use. */
  readonly outside = new Set<Storage>();
  /** Notes the calls instead of running them; to the caller none meets a bad value. */
  readonly kernels: Kernels;
  readonly #linear: LinearMemory;
  readonly #constants = new Set<number>();
  readonly #free = new Map<number, number[]>();

  constructor(linear: LinearMemory, kernels: Kernels) {
    this.#linear = linear;
    this.kernels = Object.fromEntries(
      Object.entries(kernels).map(([name, kernel]) => [
        name,
        (...args: number[]) => {
          this.calls.push({ kernel, args });
          return -1;
        },
      ]),
    ) as unknown as Kernels;
  }

  acquire(bytes: number): number {
    return this.#free.get(blockSize(bytes))?.pop() ?? this.#fresh(bytes);
  }

  release(at: number, bytes: number): void {
    // A constant was written once, by the host: every repetition finds it there.
    if (this.#constants.has(at)) return;
    const size = blockSize(bytes);
    const waiting = this.#free.get(size);
    if (waiting === undefined) this.#free.set(size, [at]);
    else waiting.push(at);
  }

  /** What a result from 0 of the last call means. */
  explain(error: (place: number) => Error): void {
    this.calls[this.calls.length - 1]!.error = error;
  }

  /** Memory that the host fills once while recording, for all repetitions, and that no call writes. */
  constant(bytes: number): number {
    const at = this.#fresh(bytes);
    this.#constants.add(at);
    return at;
  }

  /** Gives a tensor made in this recording a constant's memory. Throws UnrollError for memory from before it and for parts of a tensor. */
  fix(storage: Storage, whole: boolean): void {
    const before = storage.handle as number;
    if (!this.owned.has(before) || !whole) {
      throw new UnrollError('record: a tensor is written by the host while recording; write to it before, or between replays');
    }
    (storage as { handle: unknown }).handle = this.constant(storage.bytes);
    this.release(before, storage.bytes);
  }

  #fresh(bytes: number): number {
    const at = this.#linear.allocate(bytes);
    this.owned.set(at, bytes);
    return at;
  }
}

/** What a program needs of its device. */
export interface ProgramHost {
  readonly kernels: Kernels;
  at(tensor: Tensor): number;
  giveBack(owned: ReadonlyMap<number, number>): void;
}

/** A list of kernel calls at fixed addresses. */
export class CpuProgram<R> implements Program<R> {
  readonly outputs: R;
  readonly #host: ProgramHost;
  readonly #calls: readonly Call[];
  readonly #owned: ReadonlyMap<number, number>;
  readonly #outside: readonly Storage[];
  #disposed = false;

  constructor(host: ProgramHost, { calls, owned, outside }: Recorder, outputs: R) {
    this.#host = host;
    this.#calls = calls;
    this.#owned = owned;
    this.#outside = [...outside];
    this.outputs = outputs;
  }

  get dispatches(): number {
    return this.#calls.length;
  }

  replay(times = 1, values: readonly ReplayValues[] = []): void {
    if (this.#disposed) throw new DisposedError('program: replayed after its dispose(); record it again');
    const { kernels } = this.#host;
    checkReplay(times, values);
    for (const storage of this.#outside) {
      if (storage.refs === 0) throw new DisposedError('program: a tensor that it uses was disposed; keep it until the program is disposed');
    }
    const moves = values.map(({ into, rows }) => [this.#host.at(rows), this.#host.at(into), into.size * 4] as const);
    for (let i = 0; i < times; i++) {
      for (const [from, to, bytes] of moves) kernels.copyRuns(from + i * bytes, to, 1, bytes, 0, 0);
      for (const { kernel, args, error } of this.#calls) {
        const result = kernel.apply(undefined, args as number[]);
        if (error !== undefined && result! >= 0) throw error(result!);
      }
    }
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    disposeTree(this.outputs);
    this.#host.giveBack(this.#owned);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
