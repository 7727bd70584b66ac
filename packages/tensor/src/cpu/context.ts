import type { Tensor } from '../tensor.js';
import type { Kernels } from './kernels.js';

/**
 * What an operation's CPU side works with. While a program is recorded, kernel calls are noted and run later, any number of times: what
 * is computed from shapes and attributes is fixed by then, and no value of a tensor may be looked at but inside a kernel.
 */
export interface CpuContext {
  readonly kernels: Kernels;
  /** How many threads may run pieces of one kernel call: each needs scratch memory of its own. */
  readonly threads: number;
  /** Address of a tensor's values in the WebAssembly memory; while recording perhaps a stand-in, for kernels alone, to which an offset may be added. */
  at(tensor: Tensor): number;
  /** Rows along the first axis, as an argument of a kernel; while recording perhaps a stand-in. */
  rows(tensor: Tensor): number;
  /**
   * Throws `error(place)` when a kernel found a bad value at `place`, 0 or more. Takes the result of the last kernel call, so that a
   * recorded call is checked at each repetition: `error` must not hold on to tensors, whose memory may have gone.
   */
  check(place: number, error: (place: number) => Error): void;
  /** The 32-bit integer `index` places behind an address, for the message of an error. */
  integerAt(address: number, index: number): number;
  /** Bytes that are free again when the operation returns, with anything in them. */
  scratch(bytes: number): number;
  /** Small integers in scratch memory: dims and steps. */
  integers(values: readonly number[]): number;
}
