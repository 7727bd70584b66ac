import { ShapeError } from '../errors.js';
import { apply, defineOp, expectDTypes } from '../op.js';
import { given } from '../sample.js';
import { showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { topKWgsl } from './top-k-wgsl.js';

interface TopKAttrs {
  readonly k: number;
}

export const topKOp = defineOp<TopKAttrs>({
  name: 'topK',
  infer(inputs, { k }) {
    expectDTypes('topK', inputs, ['f32']);
    const { shape } = inputs[0]!;
    const n = shape[shape.length - 1];
    if (n === undefined || !Number.isInteger(k) || k < 0 || k > n) {
      throw new ShapeError(`topK: k must be a whole number from 0 to the last axis; got k=${k} for ${showShape(shape)}`);
    }
    const out = [...shape.slice(0, -1), k];
    return [
      { shape: out, dtype: 'f32' },
      { shape: out, dtype: 'i32' },
    ];
  },
  reference([x], { k }, [values, indices]) {
    const n = x!.shape[x!.shape.length - 1]!;
    const rows = n === 0 ? 0 : x!.data.length / n;
    const rank = (v: number) => (Number.isNaN(v) ? Number.POSITIVE_INFINITY : v);
    for (let r = 0; r < rows; r++) {
      const row = Array.from(x!.data.subarray(r * n, (r + 1) * n));
      const order = row
        .map((_, i) => i)
        .sort((i, j) => {
          const nan = Number(Number.isNaN(row[j])) - Number(Number.isNaN(row[i]));
          if (nan !== 0) return nan;
          return rank(row[j]!) === rank(row[i]!) ? i - j : rank(row[j]!) > rank(row[i]!) ? 1 : -1;
        });
      for (let i = 0; i < k; i++) {
        values!.data[r * k + i] = row[order[i]!]!;
        indices!.data[r * k + i] = order[i]!;
      }
    }
  },
  cpu(c, [x], { k }, [values, indices]) {
    if (values!.size === 0) return;
    const n = x!.shape[x!.shape.length - 1]!;
    c.kernels.topK(c.at(x!), c.at(values!), c.at(indices!), x!.size / n, n, k);
  },
  wgsl: topKWgsl,
  vjp: 'what it picks changes in jumps',
  samples(g) {
    const n = g.int(2, 60);
    return [
      ...[1, 2, g.int(1, n), n, 0].map((k) => ({ inputs: [g.f32([3, n])], attrs: { k } })),
      { inputs: [given([2, 7, 7, 1, 7, 0, 7])], attrs: { k: 3 } },
      { inputs: [given([2, Number.NaN, 7, 1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])], attrs: { k: 7 } },
      { inputs: [g.f32([0, 4])], attrs: { k: 2 } },
      { inputs: [g.f32([1])], attrs: { k: 1 } },
    ];
  },
});

/** The k largest values along the last axis, largest first, equals by index, NaN before all: (..., N) -> values and indices (..., k). */
export function topK(x: Tensor, k: number): { values: Tensor<'f32'>; indices: Tensor<'i32'> } {
  const [values, indices] = apply(topKOp, [x], { k }) as [Tensor<'f32'>, Tensor<'i32'>];
  return { values, indices };
}
