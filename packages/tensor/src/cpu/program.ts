import type { DType } from '../dtype.js';
import { DisposedError, UnrollError } from '../errors.js';
import { checkRebind, checkReplay, type Program, type ReplayValues } from '../program.js';
import type { Shape } from '../shape.js';
import type { Storage, Tensor } from '../tensor.js';
import { disposeTree } from '../tree.js';
import { type Jobs, type KernelName, type Kernels, kernelNames, kernelNumbers } from './kernels.js';
import { blockSize, type LinearMemory } from './memory.js';
import { pieceOf } from './splits.js';
import { workerTrap, writeArguments } from './threads.js';

interface Call {
  readonly name: KernelName;
  readonly args: number[];
  /** What a result from 0 means. */
  error?: (place: number) => Error;
}

/** A tensor that others may take the place of. */
interface Move {
  storage: Storage;
  readonly dtype: DType;
  shape: Shape;
}

// Stand-ins for the address of move i (plus an offset below 2^32) and for its rows: no argument of a kernel is as large.
const standIn = 2 ** 40;
const standInRows = 2 ** 36;

/** Kernels that are noted instead of run; to the caller none meets a bad value. Made once for all recordings of a device. */
export class Notes {
  calls: Call[] = [];
  readonly kernels = Object.fromEntries(
    kernelNames.map((name) => [
      name,
      (...args: number[]) => {
        this.calls.push({ name, args });
        return -1;
      },
    ]),
  ) as unknown as Kernels;
}

/** What the device collects while it records. Memory that is freed meanwhile serves later calls of the same recording and nothing else. */
export class Recorder {
  readonly calls: Call[];
  /** Address and size of each block. */
  readonly owned = new Map<number, number>();
  /** Memory from before the recording that the calls use. */
  readonly outside = new Set<Storage>();
  readonly moves: readonly Move[];
  /** Whether all operations read moves by rows, of which there may be more or less. */
  byRows = true;
  readonly kernels: Kernels;
  readonly #linear: LinearMemory;
  readonly #constants = new Set<number>();
  readonly #free = new Map<number, number[]>();
  #touched = false;
  #asked = false;

  constructor(linear: LinearMemory, notes: Notes, moves: readonly Tensor[] = []) {
    this.#linear = linear;
    this.calls = notes.calls = [];
    this.kernels = notes.kernels;
    this.moves = moves.map(({ storage, dtype, shape }) => ({ storage, dtype, shape }));
  }

  /** Address of a tensor's memory, or its stand-in. */
  at(storage: Storage): number {
    const at = storage.handle as number;
    if (this.owned.has(at)) return at;
    for (let i = 0; i < this.moves.length; i++) {
      if (this.moves[i]!.storage !== storage) continue;
      this.#touched = true;
      return standIn * (i + 1);
    }
    this.outside.add(storage);
    return at;
  }

  /** The stand-in for the rows of a tensor that moves. */
  rows(storage: Storage): number | undefined {
    const i = this.moves.findIndex((move) => move.storage === storage);
    if (i < 0) return undefined;
    this.#asked = true;
    return standIn * (i + 1) + standInRows;
  }

  endOperation(): void {
    if (this.#touched && !this.#asked) this.byRows = false;
    this.#touched = this.#asked = false;
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
  /** Throws DisposedError when the device is gone. */
  readonly jobs: Jobs & Kernels;
  readonly linear: LinearMemory;
  readonly threads: number;
  readonly mayWait: boolean;
  /** Kernels that are timed, while a profile is taken. */
  readonly timed: Kernels | null;
  /** Says that work lies ahead, which may be shared. */
  note(work: number): void;
  /** Takes back blocks that were held for the program. */
  giveBack(owned: ReadonlyMap<number, number>): void;
}

/** Words before the arguments of a call: its number, how many arguments, the size of a piece. */
const headWords = 3;

/** Kernel calls listed in memory: one call into WebAssembly runs them all. */
export class CpuProgram<R> implements Program<R> {
  readonly outputs: R;
  readonly #host: ProgramHost;
  readonly #calls: readonly Call[];
  readonly #owned: ReadonlyMap<number, number>;
  readonly #outside: readonly Storage[];
  readonly #moves: readonly Move[];
  readonly #byRows: boolean;
  /** Arguments that depend on moves: where in the list, and the stand-in. */
  readonly #moved: { readonly args: number[]; readonly index: number; readonly at: number; readonly standIn: number }[] = [];
  /** Address of the list; in the word before it, the place of a bad value. */
  readonly #list: number;
  readonly #work: number;
  #disposed = false;

  constructor(host: ProgramHost, recorder: Recorder, outputs: R) {
    const { calls, owned, outside } = recorder;
    this.#host = host;
    this.#calls = calls;
    this.#owned = owned;
    this.#outside = [...outside];
    this.#moves = recorder.moves;
    this.#byRows = recorder.byRows;
    this.outputs = outputs;
    this.#list = recorder.constant(4 * calls.reduce((words, { args }) => words + headWords + args.length, 1)) + 4;
    const view = new DataView(host.linear.memory.buffer);
    let at = this.#list;
    let total = 0;
    for (const { name, args } of calls) {
      for (let index = 0; index < args.length; index++) {
        if (args[index]! >= standIn) this.#moved.push({ args, index, at: at + 4 * (headWords + index), standIn: args[index]! });
      }
      const { piece, work } = pieceOf(name, args, host.threads);
      total += work;
      view.setInt32(at, kernelNumbers.get(name)!, true);
      view.setInt32(at + 4, args.length, true);
      view.setInt32(at + 8, host.threads > 1 ? piece : 0, true);
      writeArguments(view, at + 4 * headWords, name, args);
      at += 4 * (headWords + args.length);
    }
    this.#work = total;
    this.#writeMoves();
  }

  get dispatches(): number {
    return this.#calls.length;
  }

  replay(times = 1, values: readonly ReplayValues[] = []): void {
    if (this.#disposed) throw new DisposedError('program: replayed after its dispose(); record it again');
    const { jobs, mayWait } = this.#host;
    checkReplay(times, values);
    const gone = (storage: Storage) => storage.refs === 0;
    if (this.#outside.some(gone) || this.#moves.some(({ storage }) => gone(storage)))
      throw new DisposedError('program: a tensor that it uses was disposed; keep it until the program is disposed');
    this.#host.note(times * this.#work);
    const moves = values.map(
      ({ into, rows, first = 0 }) => [addressOf(rows) + first * into.size * 4, addressOf(into), into.size * 4] as const,
    );
    for (let i = 0; i < times; i++) {
      for (const [from, to, bytes] of moves) jobs.copyRuns(from + i * bytes, to, 1, bytes, 0, 0);
      if (this.#host.timed !== null) {
        this.#runEach(this.#host.timed);
        continue;
      }
      let stopped: number;
      try {
        stopped = jobs.run(this.#list, this.#calls.length, this.#list - 4, Number(mayWait));
      } catch (error) {
        jobs.abandon(Number(mayWait));
        throw error;
      }
      if (stopped >= 0) throw this.#errorAt(stopped);
    }
  }

  rebind(moves: readonly Tensor[]): boolean {
    checkRebind(this.#moves, moves);
    if (!this.#byRows) return false;
    moves.forEach(({ storage, shape }, i) => {
      Object.assign(this.#moves[i]!, { storage, shape });
    });
    this.#writeMoves();
    return true;
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

  /** Writes what the moves' addresses and rows are now. */
  #writeMoves(): void {
    const view = new DataView(this.#host.linear.memory.buffer);
    for (const { args, index, at, standIn: value } of this.#moved) {
      const { storage, shape } = this.#moves[Math.floor(value / standIn) - 1]!;
      const rest = value % standIn;
      args[index] = rest >= standInRows ? shape[0]! : (storage.handle as number) + rest;
      view.setInt32(at, args[index], true);
    }
  }

  #runEach(kernels: Kernels): void {
    for (const { name, args, error } of this.#calls) {
      const place = (kernels[name] as unknown as (...args: readonly number[]) => number | undefined)(...args) ?? -1;
      if (place >= 0) throw error?.(place) ?? new UnrollError(`${name}: a bad value at place ${place}`);
    }
  }

  #errorAt(call: number): Error {
    const place = new DataView(this.#host.linear.memory.buffer).getInt32(this.#list - 4, true);
    const { name, error } = this.#calls[call]!;
    if (place < 0) return workerTrap();
    return error?.(place) ?? new UnrollError(`${name}: a bad value at place ${place}`);
  }
}

function addressOf(tensor: Tensor): number {
  return tensor.storage.handle as number;
}
