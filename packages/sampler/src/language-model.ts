import type { Device, Tensor } from '@unroll/tensor';

/** One run of a model over new tokens: (B, T) positions, -1 for padding. */
export interface ModelPass {
  readonly batch: number;
  readonly length: number;
  readonly positions: Int32Array;
  dispose(): void;
}

/**
 * What a cache must be able to do: hold tokens of one depth; tokens of different depths side by side; give tokens that run in one pass
 * the same keys as if they had run one after the other; or have the keys of a window of unfinished tokens overwritten round by round.
 */
export type CacheUse = 'equal-depth' | 'mixed-depth' | 'parallel' | 'wavefront';

export interface CacheUsage {
  /** Slots in use. */
  readonly slots: number;
  /** Tokens of the longest sequence. */
  readonly tokens: number;
  /** Bytes of the keys and values that tokens have. */
  readonly logicalBytes: number;
  /** Bytes taken from the device for them. */
  readonly allocatedBytes: number;
}

/** Bytes of keys and values that tokens would take, and that there are for them. */
export interface CacheRoom {
  /** What the device has left beyond what the cache holds; Infinity where it cannot tell. */
  readonly left: number;
  /** Of the prompt tokens asked for. */
  readonly prompt: number;
  /** Of each decoded token. */
  readonly token: number;
}

/** A cache's content on the host; policy and layers are plain data that only the cache understands. */
export interface SavedCache {
  readonly policy: unknown;
  readonly layers: unknown;
  readonly lengths: readonly number[];
  /** (R, 4): sequence, slot, position, row. */
  readonly entries: Int32Array;
  readonly keys: Float32Array;
  readonly values: Float32Array;
}

/** What passes write to one sequence while it is open, so that loops that ran too far can be taken back. */
export interface CacheJournal {
  /** The moment now. */
  mark(): number;
  /** Takes back what was written after a mark. Marks before it stay good. */
  rollback(mark: number): void;
  /** Lets go of what was overwritten before a mark. */
  commit(mark: number): void;
  /** Everything stays as it is. A second call does nothing. */
  close(): void;
}

/** Stored keys and values of a batch of sequences. */
export interface ModelCache<P extends ModelPass = ModelPass> {
  readonly batch: number;
  length(sequence?: number): number;
  /**
   * Opens a pass over new tokens of some sequences, or of all, or over some of the tokens that they have once more: positions (B, T)
   * ascending, -1 for padding.
   */
  begin(positions: Int32Array, sequences?: readonly number[]): P;
  /**
   * Begins to remember what is written to a sequence. Without it, exit rules are read after every check, and the device waits for the host
   * meanwhile.
   */
  openJournal?(sequence?: number): CacheJournal;
  /** What prompt tokens of this depth would take, and a decoded one. Without it, a text may end in the middle for want of memory. */
  room?(prompt: number, recurrences: number): CacheRoom;
  /** Says how many prompt tokens and decoded ones all sequences together will get at most, of this depth at most. */
  expect?(prompt: number, decoded: number, recurrences: number): void;
  truncate(length: number, sequence?: number): void;
  /** Says that tokens from a position on are decoded, not part of a prompt: a policy may keep less of them. */
  markDecoded(from: number, sequence?: number): void;
  /** Why this cache cannot serve a use; undefined when it can. */
  refusal(use: CacheUse): string | undefined;
  /** Makes sequence `to` equal to `from`, up to `length` tokens. */
  copySequence(from: number, to: number, length?: number): void;
  /** A cache of its own with the same content. */
  fork(): ModelCache<P>;
  /** The content on the host. */
  save(): Promise<SavedCache>;
  /** Takes over what `save` gave. Throws when it does not fit this cache. */
  load(saved: SavedCache): void;
  usage(): CacheUsage;
  dispose(): void;
}

/** Where s_0 comes from: drawn by (seed, position, channel) and scaled (0 gives zeros), or given as (B, T, C). */
export type InitialStateSource = { readonly seed?: number | readonly number[]; readonly scale?: number } | Tensor;

/**
 * What generation needs of a model whose depth is free: four functions, and a cache. `@unroll/recurrent` has one; any object of this
 * form will do. Policy is whatever the model's caches understand.
 */
export interface LanguageModel<P extends ModelPass = ModelPass, Policy = unknown> {
  readonly device: Device;
  readonly vocabularySize: number;
  readonly contextLength: number;
  /** The depth used when none is asked for. */
  readonly meanRecurrence: number;
  /** `use` picks the policy where none is given. Throws when the policy given cannot serve it. */
  createCache(options?: { readonly batch?: number; readonly policy?: Policy; readonly use?: CacheUse }): ModelCache<P>;
  /** tokens (B, T) i32 -> e (B, T, C) */
  prelude(tokens: Tensor, pass: P): Tensor;
  /** s_0 (B, T, C) */
  initialState(pass: P, from?: InitialStateSource): Tensor;
  /** s_{loop + 1} (B, T, C) of e and s_loop; loop counts from 0, one for all sequences or one for each. */
  step(e: Tensor, state: Tensor, loop: number | readonly number[], pass: P): Tensor;
  /** s_to (B, T, C) of e and s_from, with the bits of single steps: for models that do several at less cost. */
  steps?(e: Tensor, state: Tensor, loops: { readonly from: number; readonly to: number }, pass: P): Tensor;
  /** What enters the coda (B, T, C). */
  normState(state: Tensor): Tensor;
  /** Logits of stopping at states (…, C), for models that were trained with an exit gate: (…, 1). */
  exitLogits?(state: Tensor): Tensor;
  /** Logits (B, T, V), or (B, 1, V) of the last position. */
  readout(state: Tensor, pass: P, options?: { readonly positions?: 'all' | 'last' }): Tensor;
}

/** What generation needs to work on text. `@unroll/tokenizer` has one. */
export interface TextCodec {
  readonly stopTokens: readonly number[];
  encode(text: string): number[];
  /** Turns tokens into text as it becomes complete; `after` are the tokens that the text follows on. */
  stream(options?: { readonly after?: Iterable<number> }): { push(token: number): string; flush(): string };
}
