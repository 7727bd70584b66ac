import { OptionError, RangeOpError, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type HostOperand, type Spec } from '../op.js';
import { given, type Sample } from '../sample.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { attentionOp, attentionScratch } from './attention.js';
import { badStep, decodeAttentionWgsl } from './decode-attention-wgsl.js';
import { ropeOp } from './rope.js';

export interface DecodeAttentionAttrs {
  readonly heads: number;
  /** Which of the key tables is this call's. */
  readonly call: number;
  readonly scale: number;
}

/** Sizes of a call; throws ShapeError, OptionError. */
export function decodePlan([qkv, table, k, v, keyRows, visible, bias]: readonly Spec[], { heads: H, call, scale }: DecodeAttentionAttrs) {
  const show = () =>
    `qkv=${showShape(qkv!.shape)} table=${showShape(table!.shape)} k=${showShape(k!.shape)} v=${showShape(v!.shape)} keyRows=${showShape(keyRows!.shape)} visible=${showShape(visible!.shape)}${bias === undefined ? '' : ` bias=${showShape(bias.shape)}`}`;
  const [R, Hk, D] = k!.shape as [number, number, number];
  const [n, B, S] = keyRows!.shape as [number, number, number];
  if (k!.shape.length !== 3 || !sameShape(k!.shape, v!.shape) || keyRows!.shape.length !== 3 || D % 2 !== 0) {
    throw new ShapeError(`decodeAttention: k and v must be (R, Hk, D) with even D, keyRows (calls, B, S); ${show()}`);
  }
  if (!sameShape(qkv!.shape, [B, 1, (H + 2 * Hk) * D]) || !sameShape(visible!.shape, [B, 1])) {
    throw new ShapeError(`decodeAttention: qkv must be (B, 1, (H + 2 Hk) D) and visible (B, 1), for ${H} heads; ${show()}`);
  }
  if (!sameShape(table!.shape, [table!.shape[0]!, D / 2, 2]) || (bias !== undefined && !sameShape(bias.shape, [H + Hk, D]))) {
    throw new ShapeError(`decodeAttention: the table must be (P, D/2, 2) and the bias (H + Hk, D), for ${H} heads; ${show()}`);
  }
  if (H > 0 && (Hk === 0 || H % Hk !== 0)) {
    throw new ShapeError(`decodeAttention: q has ${H} heads, k has ${Hk}; q heads must be a multiple of k heads; ${show()}`);
  }
  if (!Number.isInteger(call) || call < 0 || call >= n)
    throw new OptionError(`decodeAttention: call must be from 0 to ${n - 1}; got ${call}`);
  if (!Number.isFinite(scale)) throw new OptionError(`decodeAttention: scale must be a finite number; got ${scale}`);
  return { B, H, Hk, D, S, R, P: table!.shape[0]! };
}

type Seven<T> = [T, T, T, T, T, T, T?];

/** Overwrites the pool's row of each sequence's newest token, and gives its queries (B, 1, H, D). */
function storeReference(inputs: readonly HostOperand[], attrs: DecodeAttentionAttrs): HostOperand {
  const [qkv, table, k, v, keyRows, visible, bias] = inputs as Seven<HostOperand>;
  const { B, H, Hk, D, S } = decodePlan(inputs, attrs);
  const N = (H + 2 * Hk) * D;
  const values = qkv.data.map((x, i) => (bias !== undefined && i % N < (H + Hk) * D ? Math.fround(x + bias.data[i % N]!) : x));
  const positions: HostOperand = { shape: [B, 1], dtype: 'i32', data: (visible.data as Int32Array).map((n) => n - 1) };
  const all: HostOperand = { shape: [B, 1, H + 2 * Hk, D], dtype: 'f32', data: values };
  const turned: HostOperand = { ...all, data: values.slice() };
  ropeOp.reference([all, table, positions], { layout: 'interleaved', back: false }, [turned]);
  for (let b = 0; b < B; b++) {
    const position = positions.data[b]!;
    const row = position < 0 ? -1 : keyRows.data[(attrs.call * B + b) * S + position]!;
    for (let c = 0; c < Hk * D && row >= 0; c++) {
      k.data[row * Hk * D + c] = turned.data[b * N + H * D + c]!;
      v.data[row * Hk * D + c] = values[b * N + (H + Hk) * D + c]!;
    }
  }
  return { shape: [B, 1, H, D], dtype: 'f32', data: (turned.data as Float32Array).filter((_, i) => i % N < H * D) };
}

export const decodeAttentionOp = defineOp<DecodeAttentionAttrs>({
  name: 'decodeAttention',
  mutates: [2, 3],
  infer(inputs, attrs) {
    expectDTypes('decodeAttention', inputs, ['f32', 'f32', 'f32', 'f32', 'i32', 'i32', ...(inputs.length > 6 ? (['f32'] as const) : [])]);
    const { B, H, D } = decodePlan(inputs, attrs);
    return [{ shape: [B, 1, H, D], dtype: 'f32' }];
  },
  reference(inputs, attrs, outputs) {
    const { B, S } = decodePlan(inputs, attrs);
    const [, , k, v, keyRows, visible] = inputs as Seven<HostOperand>;
    const q = storeReference(inputs, attrs);
    const own = { shape: [B, S], dtype: 'i32' as const, data: keyRows.data.slice(attrs.call * B * S, (attrs.call + 1) * B * S) };
    attentionOp.reference([q, k, v, own, visible], { scale: attrs.scale }, outputs);
  },
  cpu(c, inputs, attrs, [out]) {
    const { B, H, Hk, D, S, P } = decodePlan(inputs, attrs);
    if (out!.size === 0) return;
    const R = c.rows(inputs[2]!);
    const pool = inputs[2]!.shape[0]!;
    const [qkv, table, k, v, keyRows, visible, bias] = inputs.map((input) => c.at(input)) as Seven<number>;
    const own = keyRows + attrs.call * B * S * 4;
    const q = c.scratch(B * H * D * 4);
    const bad = (place: number) => new RangeOpError(badStep(c.integerAt(visible, place), place, S, pool));
    c.check(c.kernels.storeStep(qkv, bias ?? 0, table, k, v, own, visible, q, B, H, Hk, D, S, R, P), bad);
    const bytes = attentionScratch(S, 1, H);
    const scratch = c.scratch(bytes * c.threads);
    c.check(c.kernels.attention(q, k, v, own, visible, c.at(out!), scratch, bytes, 1, H, Hk, D, S, R, attrs.scale, 0, B * H), bad);
  },
  wgsl: (inputs, attrs, [out], traits) => decodeAttentionWgsl(inputs, { ...attrs, ...decodePlan(inputs, attrs) }, out!, traits),
  vjp: 'it writes keys and values in place',
  samples(g) {
    const samples: Sample<DecodeAttentionAttrs>[] = [];
    for (const [B, H, Hk, D, S, biased] of [
      [1, 1, 1, 2, 1, false],
      [1, 4, 4, 16, 9, true],
      [2, 4, 2, 2 * g.int(1, 7), g.int(5, 11), true],
      [3, 6, 1, 8, 70, false],
      [0, 2, 2, 4, 3, true],
    ] as const) {
      // Every entry of the pool at most once, as tables of caches are: sequences do not see each other's newest row.
      const R = 2 * B * S + 1;
      const rows = given(
        Int32Array.from({ length: 2 * B * S }, (_, i) => (i % 5 === 3 ? -1 : (i * 2 + 1) % R)),
        [2, B, S],
      );
      const visible = B === 3 ? given([0, S, 2], [B, 1], 'i32') : g.i32([B, 1], 1, S);
      samples.push({
        inputs: [
          g.f32([B, 1, (H + 2 * Hk) * D]),
          g.f32([S - 1 || 1, D / 2, 2], -1, 1),
          g.f32([R, Hk, D]),
          g.f32([R, Hk, D]),
          rows,
          visible,
          ...(biased ? [g.f32([H + Hk, D])] : []),
        ],
        attrs: { heads: H, call: S % 2, scale: 1 / Math.sqrt(D) },
        absolute: 5e-6,
        relative: 1e-5,
      });
    }
    return samples;
  },
});

/** The pool of keys and values that decoding reads and appends to. */
export interface DecodePool {
  /** (R, Hk, D) */
  readonly k: Tensor;
  readonly v: Tensor;
  /** (calls, B, S) i32: for each call and sequence the pool rows in order of position, -1 for none. */
  readonly keyRows: Tensor;
  /** (B, 1) i32: how many of them a sequence sees, its newest token included, which is the last; 0 for padding. */
  readonly visible: Tensor;
}

/**
 * Attention of one new token for each of B sequences, straight from qkv (B, 1, (H + 2 Hk) D), the rows of queries, keys and values: adds
 * the bias (H + Hk, D) to queries and keys, turns them by rope (pairs (2i, 2i + 1), table (P, D/2, 2)) at position visible - 1, stores key and
 * value in the pool's row that keyRows[call] names for that position, and attends -> (B, 1, H, D). The row must be no other sequence's.
 * Equal, on the CPU bit for bit, to `add`, `rope`, `scatterRows` and `attention` one after the other.
 * Throws ShapeError, DTypeError, OptionError, and RangeOpError for a `visible` outside 0..S or a seen row outside -1..R-1.
 */
export function decodeAttention(
  qkv: Tensor,
  { k, v, keyRows, visible }: DecodePool,
  options: {
    readonly heads: number;
    readonly table: Tensor;
    readonly bias?: Tensor | undefined;
    readonly call?: number;
    readonly scale?: number;
  },
): Tensor<'f32'> {
  const { heads, table, bias, call = 0, scale = 1 / Math.sqrt(k.shape[2] || 1) } = options;
  const inputs = [qkv, table, k, v, keyRows, visible, ...(bias === undefined ? [] : [bias])];
  return apply1(decodeAttentionOp, inputs, { heads, call, scale }) as Tensor<'f32'>;
}
