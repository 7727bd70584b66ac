import { refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes } from '../op.js';
import { given, type Sample } from '../sample.js';
import { normalizeAxis, type Shape, showShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { kernel, perGroup, perThread, rowRanges } from '../webgpu/kernel.js';
import { treeReduction } from '../webgpu/library.js';

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
  logSumExp: logSumExpOf,
};

/** The reference of logSumExp; an infinite maximum is the result. */
export function logSumExpOf(v: readonly number[]): number {
  const m = v.reduce((a, x) => Math.max(a, x), Number.NEGATIVE_INFINITY);
  return Math.abs(m) === Number.POSITIVE_INFINITY ? m : m + Math.log(v.reduce((s, x) => s + Math.exp(x - m), 0));
}

interface ReduceWgsl {
  readonly start: string;
  readonly join: string;
}

const sumWgsl = { start: '0.0', join: 'a + b' };
const reduceWgsl: Record<ReduceKind, ReduceWgsl> = {
  sum: sumWgsl,
  mean: sumWgsl,
  max: { start: 'of_bits(0xff800000u)', join: 'max_f(a, b)' },
  min: { start: 'of_bits(0x7f800000u)', join: 'min_f(a, b)' },
  logSumExp: { start: 'of_bits(0xff800000u)', join: 'max_f(a, b)' },
};

const reduceParams = { outputs: 'u32', n: 'u32', inner: 'u32' } as const;
const reduceUses = ['exp', 'log', 'extrema'];
const shiftWgsl = 'let shift = select(largest, 0.0, abs(largest) == of_bits(0x7f800000u));';

/** A workgroup for an output whose values are contiguous. */
const reduceRows = (kind: ReduceKind) =>
  kernel('reduce.rows', [kind], () => {
    const { start, join } = reduceWgsl[kind];
    const tree = (how: string) => treeReduction('partial', 128, how);
    const again = `let largest = partial[0];
  ${shiftWgsl}
  workgroupBarrier();
  var sum = 0.0;
  for (var i = lane; i < p.n; i += 128u) { sum += exp_f(x[group * p.n + i] - shift); }
  partial[lane] = sum;
  ${tree('a + b')}
  if (lane == 0u) { y[group] = log_f(partial[0]) + shift; }`;
    return {
      params: reduceParams,
      read: { x: 'f32' },
      write: { y: 'f32' },
      workgroup: 128,
      uses: reduceUses,
      outside: 'var<workgroup> partial: array<f32, 128>;',
      body: `if (group >= p.outputs) { return; }
  var a = ${start};
  for (var i = lane; i < p.n; i += 128u) {
    let b = x[group * p.n + i];
    a = ${join};
  }
  partial[lane] = a;
  {
    ${tree(join)}
  }
  ${kind === 'logSumExp' ? again : `if (lane == 0u) { y[group] = partial[0]${kind === 'mean' ? ' / f32(p.n)' : ''}; }`}`,
    };
  });

/** A thread for an output whose values are `inner` apart. Sums of 256 are added up, which keeps long sums exact enough. */
const reduceColumns = (kind: ReduceKind) =>
  kernel('reduce.columns', [kind], () => {
    const { start, join } = reduceWgsl[kind];
    const walk = (value: string, how: string, first: string) => `for (var block = 0u; block < p.n; block += 256u) {
      var part = ${first};
      for (var i = block; i < min(block + 256u, p.n); i++) {
        let a = part;
        let b = ${value};
        part = ${how};
      }
      let a = total;
      let b = part;
      total = ${how};
    }`;
    const again = `let largest = total;
  ${shiftWgsl}
  total = 0.0;
  ${walk('exp_f(x[source + i * p.inner] - shift)', 'a + b', '0.0')}
  y[index] = log_f(total) + shift;`;
    return {
      params: reduceParams,
      read: { x: 'f32' },
      write: { y: 'f32' },
      uses: reduceUses,
      body: `if (index >= p.outputs) { return; }
  let source = (index / p.inner) * p.n * p.inner + index % p.inner;
  var total = ${start};
  ${walk('x[source + i * p.inner]', join, start)}
  ${kind === 'logSumExp' ? again : `y[index] = total${kind === 'mean' ? ' / f32(p.n)' : ''};`}`,
    };
  });

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
  wgsl([x], attrs, [y], traits) {
    const { outer, n, inner } = plan(x!.shape, attrs);
    if (y!.size === 0) return [];
    return rowRanges(attrs.kind, outer, [n * inner * 4, inner * 4], traits).map(({ rows, part }) => {
      const call = { bind: [part(x!, n * inner * 4), part(y!, inner * 4)], params: { outputs: rows * inner, n, inner } };
      if (inner === 1) return perGroup(reduceRows(attrs.kind), rows, traits, call);
      return perThread(reduceColumns(attrs.kind), rows * inner, traits, call);
    });
  },
  saves: { inputs: [0], outputs: true },
  vjp({ inputs: [x], outputs: [y], attrs, grads: [g] }, o) {
    const { outer, n, inner } = plan(x!.shape, attrs);
    const over = (t: Tensor) => o.reshape(t, [outer, 1, inner]);
    if (attrs.kind === 'sum' || attrs.kind === 'mean') {
      const each = attrs.kind === 'sum' ? g! : o.affine(g!, { scale: 1 / n });
      return [o.reshape(o.add(x!.device.zeros([outer, n, inner]), over(each)), x!.shape)];
    }
    const rows = o.reshape(x!, [outer, n, inner]);
    const factor = () => {
      if (attrs.kind === 'logSumExp') return o.exp(o.sub(rows, over(y!)));
      // Equal extremes share the gradient.
      const hit = o.affine(o.abs(o.sign(o.sub(rows, over(y!)))), { scale: -1, shift: 1 });
      return o.div(hit, o.sum(hit, { axis: 1, keepDims: true }));
    };
    return [o.reshape(o.mul(factor(), over(g!)), x!.shape)];
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
    // A row of each: NaN wins; infinities are themselves or, against each other, NaN in a sum.
    const special = [
      Number.NaN,
      1,
      2,
      Number.POSITIVE_INFINITY,
      1,
      2,
      Number.NEGATIVE_INFINITY,
      1,
      2,
      Number.NEGATIVE_INFINITY,
      0,
      Number.POSITIVE_INFINITY,
    ];
    const none = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY];
    for (const kind of kinds) {
      for (const axis of [0, 1]) {
        samples.push({
          inputs: [given([...special, ...none], [5, 3])],
          attrs: { kind, axis, keepDims: false },
          absolute: 1e-6,
          relative: 1e-6,
        });
      }
    }
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
/** Largest value along one axis, or of all; NaN wins. */
export const max = reduceCall('max');
/** Smallest value along one axis, or of all; NaN wins. */
export const min = reduceCall('min');
/** log(sum(exp(x))), shifted by the maximum. */
export const logSumExp = reduceCall('logSumExp');
