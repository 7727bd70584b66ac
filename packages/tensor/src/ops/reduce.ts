import { refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes } from '../op.js';
import type { Sample } from '../sample.js';
import { normalizeAxis, type Shape, showShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';

// The order is the code that the kernel knows them by.
const kinds = ['sum', 'mean', 'max', 'min', 'logSumExp'] as const;
export type ReduceKind = (typeof kinds)[number];

interface ReduceAttrs {
  readonly kind: ReduceKind;
  /** undefined: all axes. */
  readonly axis: number | undefined;
  readonly keepDims: boolean;
}

export interface ReduceOptions {
  /** -1 is the last; all axes when absent. */
  readonly axis?: number;
  /** Keep the reduced axis with dim 1. */
  readonly keepDims?: boolean;
}

function plan(shape: Shape, { kind, axis, keepDims }: ReduceAttrs): { outer: number; n: number; inner: number; out: number[] } {
  if (axis === undefined) return { outer: 1, n: sizeOf(shape), inner: 1, out: keepDims ? shape.map(() => 1) : [] };
  const at = normalizeAxis(kind, axis, shape.length);
  const out = keepDims ? shape.map((dim, i) => (i === at ? 1 : dim)) : shape.filter((_, i) => i !== at);
  return { outer: sizeOf(shape.slice(0, at)), n: shape[at]!, inner: sizeOf(shape.slice(at + 1)), out };
}

const references: Record<ReduceKind, (values: number[]) => number> = {
  sum: (v) => v.reduce((s, x) => s + x, 0),
  mean: (v) => v.reduce((s, x) => s + x, 0) / v.length,
  max: (v) => v.reduce((m, x) => Math.max(m, x), Number.NEGATIVE_INFINITY),
  min: (v) => v.reduce((m, x) => Math.min(m, x), Number.POSITIVE_INFINITY),
  logSumExp: (v) => {
    const m = Math.max(...v);
    return m === Number.NEGATIVE_INFINITY ? m : m + Math.log(v.reduce((s, x) => s + Math.exp(x - m), 0));
  },
};

export const reduceOp = defineOp<ReduceAttrs>({
  name: 'reduce',
  infer(inputs, attrs) {
    expectDTypes(attrs.kind, inputs, ['f32']);
    const { n, out } = plan(inputs[0]!.shape, attrs);
    if (n === 0 && attrs.kind !== 'sum') {
      throw new ShapeError(`${attrs.kind}: nothing to reduce in ${showShape(inputs[0]!.shape)}; only a sum over nothing has a value`);
    }
    return [{ shape: out, dtype: 'f32' }];
  },
  reference([x], attrs, [y]) {
    const { outer, n, inner } = plan(x!.shape, attrs);
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        const values = Array.from({ length: n }, (_, k) => x!.data[(o * n + k) * inner + i]!);
        y!.data[o * inner + i] = references[attrs.kind](values);
      }
    }
  },
  cpu(c, [x], attrs, [y]) {
    const { outer, n, inner } = plan(x!.shape, attrs);
    if (y!.size === 0) return;
    const from = c.at(x!);
    if (attrs.kind === 'logSumExp' && inner > 1) {
      // Rows first: the vector exp runs along contiguous values.
      const turned = c.scratch(x!.size * 4);
      for (let o = 0; o < outer; o++) c.kernels.transpose(from + o * n * inner * 4, turned + o * n * inner * 4, n, inner);
      c.kernels.reduce(kinds.indexOf(attrs.kind), turned, c.at(y!), outer * inner, n, 1);
    } else {
      c.kernels.reduce(kinds.indexOf(attrs.kind), from, c.at(y!), outer, n, inner);
    }
  },
  samples(g) {
    const samples: Sample<ReduceAttrs>[] = [];
    const shape = [g.int(1, 5), g.int(1, 19), g.int(1, 5)];
    for (const kind of kinds) {
      for (const axis of [undefined, 0, 1, 2, -1]) {
        samples.push({ inputs: [g.f32(shape)], attrs: { kind, axis, keepDims: g.next() < 0.5 }, absolute: 1e-5, relative: 1e-5 });
      }
      samples.push({ inputs: [g.f32([0, 4])], attrs: { kind, axis: 1, keepDims: false } });
      samples.push({ inputs: [g.f32([1])], attrs: { kind, axis: 0, keepDims: true }, absolute: 1e-6, relative: 1e-6 });
    }
    samples.push({ inputs: [g.f32([3, 0])], attrs: { kind: 'sum', axis: 1, keepDims: false } });
    return samples;
  },
});

const reduceCall =
  (kind: ReduceKind) =>
  (x: Tensor, options: ReduceOptions = {}): Tensor<'f32'> => {
    refuseUnknownOptions(kind, options, ['axis', 'keepDims']);
    return apply1(reduceOp, [x], { kind, axis: options.axis, keepDims: options.keepDims ?? false }) as Tensor<'f32'>;
  };

/** Sum over one axis, or over all. */
export const sum = reduceCall('sum');
/** Mean over one axis, or over all. Throws ShapeError over nothing, as max, min and logSumExp do. */
export const mean = reduceCall('mean');
export const max = reduceCall('max');
export const min = reduceCall('min');
/** log(sum(exp(x))), shifted by the maximum. */
export const logSumExp = reduceCall('logSumExp');
