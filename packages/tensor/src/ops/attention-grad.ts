import { RangeOpError, ShapeError } from '../errors.js';
import { apply, defineOp, expectDTypes, type HostOperand } from '../op.js';
import { given, type Sample } from '../sample.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { attentionGradWgsl } from './attention-grad-wgsl.js';

interface AttentionGradAttrs {
  readonly scale: number;
}

/** Calls `f` for every query head with the pool rows that it sees: their weights p, and d = p (g . v - sum of p g . v) scale. */
function forEachHead(
  [q, k, v, keyRows, visible, g]: readonly HostOperand[],
  scale: number,
  f: (at: number, rows: readonly number[], p: readonly number[], d: readonly number[]) => void,
): void {
  const [B, T, H, D] = q!.shape as [number, number, number, number];
  const Hk = k!.shape[1]!;
  const S = keyRows!.shape[1]!;
  for (let i = 0; i < B * T; i++) {
    const start = Math.floor(i / T) * S;
    const seen = Array.from(keyRows!.data.subarray(start, start + visible!.data[i]!)).filter((row) => row >= 0);
    for (let h = 0; h < H; h++) {
      const at = (i * H + h) * D;
      const rows = seen.map((row) => (row * Hk + Math.floor(h / (H / Hk))) * D);
      const dot = (a: HostOperand, b: HostOperand, row: number) => {
        let sum = 0;
        for (let d = 0; d < D; d++) sum += a.data[at + d]! * b.data[row + d]!;
        return sum;
      };
      const scores = rows.map((row) => dot(q!, k!, row) * scale);
      const max = Math.max(...scores);
      const total = scores.reduce((sum, score) => sum + Math.exp(score - max), 0);
      const p = scores.map((score) => Math.exp(score - max) / total);
      const along = rows.map((row) => dot(g!, v!, row));
      const mean = p.reduce((sum, weight, j) => sum + weight * along[j]!, 0);
      f(
        at,
        rows,
        p,
        p.map((weight, j) => weight * (along[j]! - mean) * scale),
      );
    }
  }
}

export const attentionGradOp = defineOp<AttentionGradAttrs>({
  name: 'attentionGrad',
  infer(inputs) {
    expectDTypes('attentionGrad', inputs, ['f32', 'f32', 'f32', 'i32', 'i32', 'f32']);
    const [q, k, v, , , g] = inputs;
    if (!sameShape(q!.shape, g!.shape))
      throw new ShapeError(`attentionGrad: g must be like q; got q=${showShape(q!.shape)} g=${showShape(g!.shape)}`);
    return [q!, k!, v!];
  },
  reference(inputs, { scale }, [dq, dk, dv]) {
    const [q, k, , , , g] = inputs;
    const D = q!.shape[3]!;
    const add = (to: HostOperand, at: number, value: number) => {
      to.data[at] = to.data[at]! + value;
    };
    forEachHead(inputs, scale, (at, rows, p, d) => {
      rows.forEach((row, j) => {
        for (let c = 0; c < D; c++) {
          add(dq!, at + c, d[j]! * k!.data[row + c]!);
          add(dk!, row + c, d[j]! * q!.data[at + c]!);
          add(dv!, row + c, p[j]! * g!.data[at + c]!);
        }
      });
    });
  },
  cpu(c, [q, k, v, keyRows, visible, g], { scale }, [dq, dk, dv]) {
    const [B, T, H, D] = q!.shape as [number, number, number, number];
    const S = keyRows!.shape[1]!;
    const [R, Hk] = k!.shape as [number, number];
    const bytes = 12 * S + 64;
    const scratch = c.scratch(bytes * c.threads);
    const args = [c.at(q!), c.at(k!), c.at(v!), c.at(keyRows!), c.at(visible!), c.at(g!), c.at(dq!), c.at(dk!), c.at(dv!)] as const;
    const bad = c.kernels.attentionGrad(...args, scratch, bytes, T, H, Hk, D, S, R, scale, B * T, 0, Hk);
    c.check(
      bad,
      (place) =>
        new RangeOpError(
          `attentionGrad: query (${Math.floor(place / T)}, ${place % T}) sees what is not there: visible ${c.integerAt(args[4], place)} of ${S}, rows -1..${R - 1}`,
        ),
    );
  },
  wgsl: attentionGradWgsl,
  vjp: 'second derivatives are not there',
  samples(g) {
    const samples: Sample<AttentionGradAttrs>[] = [];
    for (const [B, T, H, Hk, D, S] of [
      [1, 1, 1, 1, 1, 1],
      [1, 3, 4, 4, 16, 9],
      [2, g.int(1, 5), 4, 2, g.int(1, 9), g.int(5, 11)],
      [2, 0, 2, 2, 4, 3],
    ] as const) {
      const R = 12;
      samples.push({
        inputs: [
          g.f32([B, T, H, D]),
          g.f32([R, Hk, D]),
          g.f32([R, Hk, D]),
          g.i32([B, S], -1, R - 1),
          g.i32([B, T], 0, S),
          g.f32([B, T, H, D]),
        ],
        attrs: { scale: 1 / Math.sqrt(D) },
        absolute: 2e-5,
        relative: 2e-5,
      });
    }
    samples.push({
      inputs: [
        g.f32([1, 2, 2, 4]),
        g.f32([3, 2, 4]),
        g.f32([3, 2, 4]),
        given([-1, -1], [1, 2], 'i32'),
        given([0, 2], [1, 2], 'i32'),
        g.f32([1, 2, 2, 4]),
      ],
      attrs: { scale: 1 },
    });
    return samples;
  },
});

/**
 * dL/dq, dL/dk and dL/dv of `attention` for g = dL/dout (B, T, H, D). The weights are computed again instead of kept: memory stays
 * linear in the keys.
 */
export function attentionGrad(inputs: readonly Tensor[], g: Tensor, scale: number): Tensor[] {
  return apply(attentionGradOp, [...inputs, g], { scale });
}
