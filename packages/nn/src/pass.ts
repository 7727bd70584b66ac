import { type Device, OptionError, reshape, type Tensor } from '@unroll/tensor';
import type { LayerCall } from './kv-policy.js';

/** What a layer's attention reads: the arguments of `attention` behind q. */
export interface KeyView {
  readonly k: Tensor;
  readonly v: Tensor;
  /** (B, S) */
  readonly keyRows: Tensor;
  /** (B, T) */
  readonly visible: Tensor;
}

/** What `decodeAttention` takes besides qkv and the pool. */
export interface AttendOptions {
  readonly heads: number;
  readonly table: Tensor;
  readonly bias?: Tensor | undefined;
}

/** Whose parts are recorded: another owner's are recorded anew. */
export interface RecordedOwner {
  /** Its blocks use `pass.attend`, never `pass.keys`. */
  readonly attends: boolean;
}

/** Parts that run once a pass; `coda-last` is the coda whose logits are wanted of the last position alone. */
export type RecordedPart = 'prelude' | 'coda' | 'coda-last';

/** Loops `from` to `to` - 1 of the core; or one loop, another for each sequence. */
export type Loops = { readonly from: number; readonly to: number } | readonly number[];

/**
 * Runs parts of a model as recorded programs, or gives undefined where that would not pay: the caller runs them itself then. What `f` does
 * may depend on the values of its inputs and of the pass's tensors, and on nothing else that changes from loop to loop or from pass to
 * pass: neither `call.loop` nor `pass.positions`, which lie on the host.
 */
export interface RecordedRuns {
  run(
    owner: RecordedOwner,
    part: RecordedPart,
    inputs: readonly Tensor[],
    f: (pass: Pass, ...inputs: Tensor[]) => Tensor,
  ): Tensor | undefined;
  /** Loops of the core: f(e, state) each time. */
  loop(
    owner: RecordedOwner,
    loops: Loops,
    e: Tensor,
    state: Tensor,
    f: (pass: Pass, e: Tensor, state: Tensor) => Tensor,
  ): Tensor | undefined;
}

type Store = (call: LayerCall, k: Tensor, v: Tensor, pass: Pass) => Omit<KeyView, 'visible'>;

/** What a pass over a few new tokens has of its cache: the programs to run, or, while they are recorded, the tensors that stay. */
export type Lent =
  | { readonly runs: RecordedRuns }
  | {
      readonly positions: Tensor<'i32'>;
      readonly visible: Tensor<'i32'>;
      readonly attend: ((call: LayerCall, qkv: Tensor, options: AttendOptions) => Tensor) | undefined;
    };

/**
 * One run of the model over T new tokens of B sequences: their positions and where their keys go. Every layer call of the run stores
 * its keys here and gets back what its queries may read. An owner of small tensors: dispose it.
 */
export class Pass {
  readonly length: number;
  #positions: Tensor<'i32'> | undefined;
  #visible: Tensor<'i32'> | undefined;

  /** @internal Use `KVCache.begin` or `uncachedPass`. */
  constructor(
    readonly device: Device,
    readonly batch: number,
    /** (B, T) row by row, -1 for padding. */
    readonly positions: Int32Array,
    private readonly store: Store,
    private readonly lent?: Lent,
  ) {
    this.length = positions.length / batch;
  }

  /** (B, T) i32, -1 for padding. */
  get positionTensor(): Tensor<'i32'> {
    if (this.lent !== undefined && 'positions' in this.lent) return this.lent.positions;
    this.#positions ??= this.#tensor(this.positions);
    return this.#positions;
  }

  /** Stores k and v (B, T, Hk, D) of a layer call and gives the keys that its queries read. */
  keys(call: LayerCall, k: Tensor, v: Tensor): KeyView {
    const visible = this.#seen();
    return { ...this.store(call, k, v, this), visible };
  }

  /**
   * Set where the whole of a layer call's attention is one operation: takes rows of queries, keys and values (B, 1, (H + 2 Hk) D), stores
   * the keys, and gives (B, 1, H, D), as `decodeAttention` does.
   */
  get attend(): ((call: LayerCall, qkv: Tensor, options: AttendOptions) => Tensor) | undefined {
    return this.lent !== undefined && 'attend' in this.lent ? this.lent.attend : undefined;
  }

  /** Set where the pass is over a few new tokens of a cache, while no gradient is taken: runs parts of the model as recorded programs. */
  get runs(): RecordedRuns | undefined {
    return this.lent !== undefined && 'runs' in this.lent && this.device.tape === null ? this.lent.runs : undefined;
  }

  dispose(): void {
    this.#positions?.dispose();
    this.#visible?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #seen(): Tensor<'i32'> {
    if (this.lent !== undefined && 'visible' in this.lent) return this.lent.visible;
    this.#visible ??= this.#tensor(this.positions.map((position) => position + 1));
    return this.#visible;
  }

  #tensor(values: Int32Array): Tensor<'i32'> {
    return this.device.tensor(values, [this.batch, this.length], { dtype: 'i32', memory: 'kv' });
  }
}

/** A pass that keeps nothing: queries see the keys of the same layer call alone, as in training. positions (B, T), -1 for padding. */
export function uncachedPass(device: Device, batch: number, positions: Int32Array): Pass {
  return new Pass(device, batch, positions, (_, k, v, pass) => {
    const T = pass.length;
    // Not by spreading: a call takes some 100,000 arguments, a batch has more tokens.
    const width = positions.reduce((most, position) => Math.max(most, position + 1), 1);
    const keyRows = new Int32Array(batch * width).fill(-1);
    positions.forEach((position, i) => {
      if (position >= 0) keyRows[Math.floor(i / T) * width + position] = i;
    });
    const rows = [batch * T, ...k.shape.slice(2)];
    return { k: reshape(k, rows), v: reshape(v, rows), keyRows: device.tensor(keyRows, [batch, width], { dtype: 'i32' }) };
  });
}

/**
 * A pass that keeps nothing over packed tokens, without padding. `parents` has, for each token, the place of the one before it in its
 * sequence, -1 where a sequence begins; a parent comes before its children. Queries see what leads to them and nothing else, so sequences
 * that begin alike may share these tokens: a tree. To the model it is a batch of N sequences of one token each: tensors are (N, 1, ...).
 * Throws OptionError for a parent that does not come before.
 */
export function packedPass(device: Device, parents: Int32Array): Pass {
  const N = parents.length;
  const positions = packedPositions(parents);
  const width = positions.reduce((most, position) => Math.max(most, position + 1), 1);
  const keyRows = new Int32Array(N * width).fill(-1);
  for (let i = 0; i < N; i++) {
    const position = positions[i]!;
    // The path to the parent, and the token itself.
    if (position > 0) keyRows.copyWithin(i * width, parents[i]! * width, parents[i]! * width + position);
    keyRows[i * width + position] = i;
  }
  return new Pass(device, N, positions, (_, k, v) => {
    const rows = [N, ...k.shape.slice(2)];
    return { k: reshape(k, rows), v: reshape(v, rows), keyRows: device.tensor(keyRows, [N, width], { dtype: 'i32' }) };
  });
}

/** Of each packed token, how many tokens lead to it. Throws OptionError for a parent that does not come before its child. */
export function packedPositions(parents: Int32Array): Int32Array {
  const positions = new Int32Array(parents.length);
  parents.forEach((parent, i) => {
    if (parent < -1 || parent >= i)
      throw new OptionError(`packed tokens: token ${i} has the parent ${parent}; a parent comes before, -1 for none`);
    positions[i] = parent < 0 ? 0 : positions[parent]! + 1;
  });
  return positions;
}

/** The parents of sequences of these lengths, one behind the other, which share nothing. */
export function chains(lengths: readonly number[]): Int32Array {
  let start = 0;
  return Int32Array.from(
    lengths.flatMap((length) => {
      start += length;
      return Array.from({ length }, (_, i) => (i === 0 ? -1 : start - length + i - 1));
    }),
  );
}

/** Positions of a batch of prompts, padded on the left to the longest: (B, T) with -1 for padding. `start` is the length each sequence already has. */
export function leftPaddedPositions(lengths: readonly number[], start: readonly number[] = lengths.map(() => 0)): Int32Array {
  const T = Math.max(0, ...lengths);
  const positions = new Int32Array(lengths.length * T).fill(-1);
  lengths.forEach((length, b) => {
    for (let i = 0; i < length; i++) positions[b * T + T - length + i] = start[b]! + i;
  });
  return positions;
}
