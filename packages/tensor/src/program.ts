import { OptionError, ShapeError } from './errors.js';
import { showShape } from './shape.js';
import type { Tensor } from './tensor.js';

/** Values that change from one repetition to the next. */
export interface ReplayValues {
  /** A tensor that the recorded operations read. What it holds afterwards is open: a device may read the rows where they lie. */
  readonly into: Tensor;
  /** Its values, one row for each repetition: (times, ...into.shape), of the same dtype; more rows before and behind may be there. */
  readonly rows: Tensor;
  /** The row of the first repetition; 0 when absent. */
  readonly first?: number;
}

/**
 * Operations that were recorded once (`device.record`), ready to run any number of times at little cost on the host. It reads the tensors
 * that the recorded function read, at the values they have by then, and writes those that it wrote and its outputs.
 */
export interface Program<R = unknown> {
  /** What the recorded function returned; its tensors hold the values of the last repetition, and go with the program. */
  readonly outputs: R;
  /** Kernel calls, on WebGPU dispatches, of one repetition. */
  readonly dispatches: number;
  /**
   * Runs `times` repetitions, or enqueues them where the device works in batches. Before each, the row of that repetition is copied into
   * every `into`. Throws OptionError for bad `times`, ShapeError when rows do not fit, DisposedError, and on the CPU the error of an
   * operation that meets a bad value (RangeOpError), with the rest of the repetitions not run; on WebGPU the next read throws it.
   */
  replay(times?: number, values?: readonly ReplayValues[]): void;
  /**
   * Goes on with other tensors in place of the recording's `moves`: of the same dtypes and rows, but as many rows as they like. False where
   * the program must be recorded anew for that, and is left as it was. Throws ShapeError when they do not fit.
   */
  rebind(moves: readonly Tensor[]): boolean;
  /** Gives back its memory and that of its outputs. A second call does nothing. */
  dispose(): void;
  [Symbol.dispose](): void;
}

export interface RecordOptions {
  /** Tensors from outside that others may take the place of later (`Program.rebind`), such as a table that grows. */
  readonly moves?: readonly Tensor[];
}

/** Throws ShapeError, as `Program.rebind` says. */
export function checkRebind(before: readonly Pick<Tensor, 'dtype' | 'shape'>[], moves: readonly Tensor[]): void {
  const rows = ({ dtype, shape }: Pick<Tensor, 'dtype' | 'shape'>) => `${dtype}${showShape(shape.slice(1))}`;
  if (before.length === moves.length && before.every((one, i) => rows(one) === rows(moves[i]!))) return;
  throw new ShapeError(
    `program.rebind: needs tensors with rows of ${before.map(rows).join(', ') || 'nothing'}, as recorded in \`moves\`; got ${moves.map(rows).join(', ')}`,
  );
}

/** Throws OptionError or ShapeError, as `Program.replay` says. */
export function checkReplay(times: number, values: readonly ReplayValues[]): void {
  if (!Number.isInteger(times) || times < 0) throw new OptionError(`program.replay: times must be a whole number from 0; got ${times}`);
  for (const { into, rows, first = 0 } of values) {
    if (!Number.isInteger(first) || first < 0) throw new OptionError(`program.replay: first must be a whole number from 0; got ${first}`);
    if (rows.dtype !== into.dtype || rows.size < (first + times) * into.size || (into.size > 0 && rows.size % into.size !== 0)) {
      throw new ShapeError(
        `program.replay: rows must be (${first + times}, ${into.shape.join(', ')}) ${into.dtype}, one row for each repetition; got ${rows.dtype}${showShape(rows.shape)}`,
      );
    }
  }
}
