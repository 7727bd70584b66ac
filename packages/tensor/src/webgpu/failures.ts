import { type DeviceLostError, UnrollError } from '../errors.js';
import type { GpuDevice } from './gpu.js';

interface Failure {
  /** What was written in the batches from `first` to `last` may be wrong. */
  readonly first: number;
  readonly last: number;
  /** Place among all that was asked: a bad shader comes before the batch that it spoils, though it may be told later. */
  readonly order: number;
  readonly error: UnrollError;
}

/**
 * WebGPU tells of errors later, by promises. This collects them, and says which memory may hold wrong values: everything written from the
 * batch that failed to the batch in which the failure became known, since later work may rest on it.
 */
export class Failures {
  lost: DeviceLostError | undefined;
  readonly #pending = new Set<Promise<void>>();
  readonly #known: Failure[] = [];
  #asked = 0;

  constructor(
    readonly device: GpuDevice,
    /** Number of the batch that is being encoded. */
    readonly batch: () => number,
    /** Ends that batch, so that what follows a failure is told apart from what it may have spoilt. */
    readonly endBatch: () => void,
  ) {}

  get any(): boolean {
    return this.#known.length > 0;
  }

  /** Runs `f` in an error scope; `describe` makes the typed error. */
  scoped<T>(filter: 'validation' | 'out-of-memory', f: () => T, describe: (message: string) => UnrollError | Promise<UnrollError>): T {
    const first = this.batch();
    const order = ++this.#asked;
    this.device.pushErrorScope(filter);
    try {
      return f();
    } finally {
      this.#track(
        this.device.popErrorScope().then(
          async (error) => {
            if (error !== null) this.add(first, await describe(error.message), order);
          },
          // The scope of a lost device: `lost` tells.
          () => {},
        ),
      );
    }
  }

  add(first: number, error: UnrollError, order = ++this.#asked): void {
    const last = this.batch();
    this.#known.push({ first, last, order, error });
    this.#known.sort((a, b) => a.order - b.order);
    if (this.lost === undefined) this.endBatch();
  }

  /** Waits until all that was asked so far is known. */
  async settle(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  /** Throws the error that spoilt memory written in this batch. */
  check(written: number): void {
    const failure = this.#known.find(({ first, last }) => first <= written && written <= last);
    if (failure !== undefined) throw failure.error;
  }

  #track(promise: Promise<void>): void {
    this.#pending.add(promise);
    void promise.finally(() => this.#pending.delete(promise));
  }
}

/** A name for what is not an Unroll error already. */
export function asUnrollError(who: string, error: unknown): UnrollError {
  return UnrollError.is(error)
    ? error
    : new UnrollError(`${who}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
}
