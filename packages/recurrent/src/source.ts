import { UnrollError } from '@unroll/tensor';

/** A problem with a checkpoint's tensors; the message lists them all. */
export class ParamsError extends UnrollError {}

/** What loading reads from: `@unroll/checkpoint` gives such objects, a Map of bytes can be made into one. */
export interface TensorSource {
  readonly name: string;
  readonly entries: ReadonlyMap<string, { readonly dtype: string; readonly shape: readonly number[] }>;
  read(name: string): Promise<Uint8Array>;
  /**
   * Bytes `begin` to `end` of a tensor, where the source can, written to `into` or returned: parameters then go to the device in pieces, several
   * at once. `into` may lie in shared memory, and may not be written to behind the promise.
   */
  readSlice?(name: string, begin: number, end: number, into?: Uint8Array): Promise<Uint8Array>;
}

/** A tensor of a checkpoint that is a parameter, or some of its rows. */
export interface StoredPart {
  readonly name: string;
  readonly shape: readonly number[];
}
