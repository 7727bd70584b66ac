import { OptionError, RangeOpError, refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import { given, type Sample } from '../sample.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { attentionWgsl } from './attention-wgsl.js';

interface AttentionAttrs {
  readonly scale: number;
}

export interface AttentionOptions {
  /** Factor of q . k; 1 / sqrt(D) when absent. */
  readonly scale?: number;
}

/** Bytes of scratch memory that the kernel needs on each thread. */
export const attentionScratch = (S: number, T: number, H: number) => 4 * (S + 8) * (1 + (T === 1 ? Math.max(4, H) : 4));

export const attentionOp = defineOp<AttentionAttrs>({
  name: 'attention',
  infer(inputs, { scale }) {
    expectDTypes('attention', inputs, ['f32', 'f32', 'f32', 'i32', 'i32']);
    const [q, k, v, keyRows, visible] = inputs as [Spec, Spec, Spec, Spec, Spec];
    const show = () =>
      `q=${showShape(q.shape)} k=${showShape(k.shape)} v=${showShape(v.shape)} keyRows=${showShape(keyRows.shape)} visible=${showShape(visible.shape)}`;
    const [B, T, H, D] = q.shape;
    const [, Hk, Dk] = k.shape;
    if (q.shape.length !== 4 || k.shape.length !== 3 || !sameShape(k.shape, v.shape) || D !== Dk) {
      throw new ShapeError(`attention: q must be (B, T, H, D), k and v (R, Hk, D); ${show()}`);
    }
    if (keyRows.shape.length !== 2 || keyRows.shape[0] !== B || !sameShape(visible.shape, [B!, T!])) {
      throw new ShapeError(`attention: keyRows must be (B, S) and visible (B, T); ${show()}`);
    }
    if (H! > 0 && (Hk === 0 || H! % Hk! !== 0)) {
      throw new ShapeError(`attention: q has ${H} heads, k has ${Hk}; q heads must be a multiple of k heads; ${show()}`);
    }
    if (!Number.isFinite(scale)) throw new OptionError(`attention: scale must be a finite number; got ${scale}`);
    return [q];
  },
  reference([q, k, v, keyRows, visible], { scale }, [out]) {
    const [B, T, H, D] = q!.shape as [number, number, number, number];
    const Hk = k!.shape[1]!;
    const S = keyRows!.shape[1]!;
    for (let b = 0; b < B; b++) {
      for (let t = 0; t < T; t++) {
        const seen = Array.from(keyRows!.data.subarray(b * S, b * S + visible!.data[b * T + t]!)).filter((row) => row >= 0);
        for (let h = 0; h < H; h++) {
          const at = ((b * T + t) * H + h) * D;
          const kh = Math.floor(h / (H / Hk));
          const scores = seen.map((row) => {
            let sum = 0;
            for (let d = 0; d < D; d++) sum += q!.data[at + d]! * k!.data[(row * Hk + kh) * D + d]!;
            return sum * scale;
          });
          const max = Math.max(...scores);
          const weights = scores.map((score) => Math.exp(score - max));
          const total = weights.reduce((sum, w) => sum + w, 0);
          for (let d = 0; d < D; d++) {
            out!.data[at + d] = seen.reduce((sum, row, j) => sum + (weights[j]! / total) * v!.data[(row * Hk + kh) * D + d]!, 0);
          }
        }
      }
    }
  },
  cpu(c, [q, k, v, keyRows, visible], { scale }, [out]) {
    const [B, T, H, D] = q!.shape as [number, number, number, number];
    if (out!.size === 0) return;
    const S = keyRows!.shape[1]!;
    const R = k!.shape[0]!;
    const rows = c.rows(k!);
    const bytes = attentionScratch(S, T, H);
    const scratch = c.scratch(bytes * c.threads);
    const args = [c.at(q!), c.at(k!), c.at(v!), c.at(keyRows!), c.at(visible!), c.at(out!)] as const;
    const bad = c.kernels.attention(...args, scratch, bytes, T, H, k!.shape[1]!, D, S, rows, scale, 0, B * Math.ceil(T / 4) * H);
    c.check(
      bad,
      (place) =>
        new RangeOpError(
          `attention: query (${Math.floor(place / T)}, ${place % T}) has visible ${c.integerAt(args[4], place)}; it must be in 0..${S}, and the keyRows that it sees in -1..${R - 1}`,
        ),
    );
  },
  wgsl: attentionWgsl,
  vjp: ({ inputs, attrs, grads: [g] }, o) => o.attentionGrad(inputs, g!, attrs.scale),
  samples(g) {
    const samples: Sample<AttentionAttrs>[] = [];
    for (const [B, T, H, Hk, D, S] of [
      [1, 1, 1, 1, 1, 1],
      [1, 1, 4, 4, 16, 9],
      [2, g.int(1, 5), 4, 2, g.int(1, 9), g.int(5, 11)],
      [1, 3, 6, 1, 8, 5],
      [2, 0, 2, 2, 4, 3],
      [0, 2, 2, 2, 4, 3],
    ] as const) {
      const R = 12;
      samples.push({
        inputs: [g.f32([B, T, H, D]), g.f32([R, Hk, D]), g.f32([R, Hk, D]), g.i32([B, S], -1, R - 1), g.i32([B, T], 0, S)],
        attrs: { scale: 1 / Math.sqrt(D) },
        absolute: 2e-6,
        relative: 1e-5,
      });
    }
    // No key at all: the result is 0, not 0/0.
    samples.push({
      inputs: [g.f32([1, 2, 2, 4]), g.f32([3, 2, 4]), g.f32([3, 2, 4]), given([-1, -1], [1, 2], 'i32'), given([0, 2], [1, 2], 'i32')],
      attrs: { scale: 1 },
    });
    return samples;
  },
});

/**
 * Scaled dot-product attention over a pool of stored keys and values: q (B, T, H, D), k and v (R, Hk, D) with H a multiple of Hk
 * (grouped heads) -> (B, T, H, D). keyRows (B, S) i32 names each sequence's pool rows in order of position, -1 for none; query
 * (b, t) sees the first visible[b, t] of them. So one call serves caches, padding, prefill and decode. A query without keys gives 0.
 * Throws ShapeError, DTypeError, OptionError, and RangeOpError for a `visible` outside 0..S or a row outside -1..R-1 that is seen.
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  keyRows: Tensor,
  visible: Tensor,
  options: AttentionOptions = {},
): Tensor<'f32'> {
  refuseUnknownOptions('attention', options, ['scale']);
  const scale = options.scale ?? 1 / Math.sqrt(q.shape[3] || 1);
  return apply1(attentionOp, [q, k, v, keyRows, visible], { scale }) as Tensor<'f32'>;
}
