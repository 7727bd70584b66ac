import { type Device, reshape, type Tensor } from '@unroll/tensor';
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

type Store = (call: LayerCall, k: Tensor, v: Tensor, pass: Pass) => { k: Tensor; v: Tensor; keyRows: Int32Array; width: number };

/**
 * One run of the model over T new tokens of B sequences: their positions and where their keys go. Every layer call of the run stores
 * its keys here and gets back what its queries may read. An owner of two small tensors: dispose it.
 */
export class Pass {
  readonly length: number;
  /** (B, T) i32, -1 for padding. */
  readonly positionTensor: Tensor<'i32'>;
  readonly #visible: Tensor<'i32'>;

  /** @internal Use `KVCache.begin` or `uncachedPass`. */
  constructor(
    readonly device: Device,
    readonly batch: number,
    /** (B, T) row by row, -1 for padding. */
    readonly positions: Int32Array,
    private readonly store: Store,
  ) {
    this.length = positions.length / batch;
    const shape = [batch, this.length];
    this.positionTensor = device.tensor(positions, shape, { dtype: 'i32', memory: 'kv' });
    this.#visible = device.tensor(
      positions.map((position) => position + 1),
      shape,
      { dtype: 'i32', memory: 'kv' },
    );
  }

  /** Stores k and v (B, T, Hk, D) of a layer call and gives the keys that its queries read. */
  keys(call: LayerCall, k: Tensor, v: Tensor): KeyView {
    const { keyRows, width, ...pool } = this.store(call, k, v, this);
    return { ...pool, keyRows: this.device.tensor(keyRows, [this.batch, width], { dtype: 'i32' }), visible: this.#visible };
  }

  dispose(): void {
    this.positionTensor.dispose();
    this.#visible.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A pass that keeps nothing: queries see the keys of the same layer call alone, as in training. positions (B, T), -1 for padding. */
export function uncachedPass(device: Device, batch: number, positions: Int32Array): Pass {
  return new Pass(device, batch, positions, (_, k, v, pass) => {
    const T = pass.length;
    const width = Math.max(1, ...positions.map((position) => position + 1));
    const keyRows = new Int32Array(batch * width).fill(-1);
    positions.forEach((position, i) => {
      if (position >= 0) keyRows[Math.floor(i / T) * width + position] = i;
    });
    const rows = [batch * T, ...k.shape.slice(2)];
    return { k: reshape(k, rows), v: reshape(v, rows), keyRows, width };
  });
}

/**
 * A pass that keeps nothing over sequences of these lengths, one behind the other without padding: queries see their own sequence alone.
 * To the model it is a batch of as many sequences as there are tokens, each of one token: tensors are (N, 1, ...) with N the sum.
 */
export function packedPass(device: Device, lengths: readonly number[]): Pass {
  const positions = Int32Array.from(lengths.flatMap((length) => Array.from({ length }, (_, i) => i)));
  const N = positions.length;
  const width = Math.max(1, ...lengths);
  const keyRows = new Int32Array(N * width).fill(-1);
  for (let i = 0; i < N; i++) {
    const first = i - positions[i]!;
    for (let at = 0; at <= positions[i]!; at++) keyRows[i * width + at] = first + at;
  }
  return new Pass(device, N, positions, (_, k, v) => {
    const rows = [N, ...k.shape.slice(2)];
    return { k: reshape(k, rows), v: reshape(v, rows), keyRows, width };
  });
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
