import { UnrollError } from '../errors.js';
import { kernelSignatures } from './kernels.generated.js';
import { type Jobs, type KernelName, type Kernels, kernelNumbers } from './kernels.js';
import type { Platform } from './platform.js';
import { pieceOf, splitNames } from './splits.js';

/** Where the arguments of a shared call wait, in the part of the memory that belongs to jobs. */
const argumentsAt = 12288;
/** Work after which workers are started, about ten milliseconds: who computes less does not pay for them. */
const worthStarting = 1 << 26;
/** About a tenth of a millisecond. */
const spins = 40_000;

/** Writes a call's arguments as its kernel reads them from memory. */
export function writeArguments(view: DataView, at: number, name: KernelName, args: readonly number[]): void {
  const signature = kernelSignatures[name];
  for (let i = 0; i < args.length; i++) {
    if (signature[i] === 'f') view.setFloat32(at + 4 * i, args[i]!, true);
    else view.setInt32(at + 4 * i, args[i]!, true);
  }
}

export function workerTrap(): UnrollError {
  return new UnrollError('cpu device: a kernel trapped on a worker thread; this is a fault of the package, or memory was overwritten');
}

export interface ThreadsOptions {
  /** Threads in all, the caller's included. */
  readonly count: number;
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory;
  readonly workerUrl?: URL | string | undefined;
}

/** Workers over one shared memory. They start when enough work has passed, take part once they are ready, and end with `dispose`. */
export class Threads {
  /** The kernels, of which those that can be cut are shared. */
  readonly kernels: Kernels;
  readonly #options: ThreadsOptions;
  readonly #platform: Platform;
  readonly #jobs: Jobs;
  #work = 0;
  #ends: (() => void)[] | null = null;
  #failure: string | undefined;

  constructor(options: ThreadsOptions, platform: Platform, raw: Kernels & Jobs) {
    this.#options = options;
    this.#platform = platform;
    this.#jobs = raw;
    // The jobs' part of the memory never moves, and a view of shared memory stays good when it grows.
    const view = new DataView(options.memory.buffer);
    const shared = splitNames.map((name) => [name, this.#shared(name, raw, view)] as const);
    this.kernels = { ...raw, ...Object.fromEntries(shared) };
  }

  get count(): number {
    return this.#options.count;
  }

  /** What became of the workers, for people. */
  get state(): string {
    if (this.#failure !== undefined) return `${this.count} threads wanted, but a worker did not start: ${this.#failure}`;
    return `${this.count} threads`;
  }

  /** Says that work was done or lies ahead; starts the workers when it adds up. */
  note(work: number): void {
    this.#work += work;
    if (this.#work >= worthStarting && this.#ends === null) this.start();
  }

  start(): void {
    if (this.#ends !== null) return;
    const { count, module, memory, workerUrl } = this.#options;
    this.#ends = [];
    for (let thread = 1; thread < count; thread++) {
      try {
        this.#ends.push(
          this.#platform.start({ module, memory, thread, spins }, workerUrl, (reason) => {
            this.#failure ??= reason;
          }),
        );
      } catch (error) {
        this.#failure ??= String(error);
      }
    }
  }

  dispose(): void {
    this.#jobs.stop();
    for (const end of this.#ends ?? []) end();
    this.#ends = [];
  }

  #shared(name: KernelName, raw: Kernels & Jobs, view: DataView): (...args: number[]) => number | undefined {
    const kernel = raw[name] as unknown as (...args: number[]) => number | undefined;
    const code = kernelNumbers.get(name)!;
    return (...args) => {
      const { piece, work } = pieceOf(name, args, this.count);
      this.note(work);
      if (piece === 0 || raw.ready() === 0) return kernel(...args);
      writeArguments(view, argumentsAt, name, args);
      let result: number;
      try {
        result = raw.fork(code, argumentsAt, args.length, piece, Number(this.#platform.mayWait));
      } catch (error) {
        raw.abandon(Number(this.#platform.mayWait));
        throw error;
      }
      if (result === -2) throw workerTrap();
      return result;
    };
  }
}
