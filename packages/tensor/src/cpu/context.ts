import type { Tensor } from '../tensor.js';
import type { Kernels } from './kernels.js';

/** What an operation's CPU side works with. */
export interface CpuContext {
  readonly kernels: Kernels;
  /** Address of a tensor's values in the WebAssembly memory. */
  at(tensor: Tensor): number;
  /** One value of a tensor, for the message of an error. */
  valueAt(tensor: Tensor, index: number): number;
  /** Bytes that are free again when the operation returns. */
  scratch(bytes: number): number;
  /** Small integers in scratch memory: dims and steps. */
  integers(values: readonly number[]): number;
}
