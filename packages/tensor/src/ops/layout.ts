import { ShapeError } from '../errors.js';
import { apply, apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import { tidy } from '../scope.js';
import { normalizeAxis, sameShape, showShape, sizeOf, stridesOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { type GpuDispatch, kernel, type Operand, perThread, rowRanges, type Whole } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';

const copyKernel = () =>
  kernel('copyRuns', [], () => ({
    params: { n: 'u32', width: 'u32', srcStart: 'u32', srcStep: 'u32', dstStart: 'u32', dstStep: 'u32' },
    read: { x: 'u32' },
    write: { y: 'u32' },
    body: `if (index >= p.n) { return; }
  let run = index / p.width;
  let at = index % p.width;
  y[p.dstStart + run * p.dstStep + at] = x[p.srcStart + run * p.srcStep + at];`,
  }));

interface Runs {
  readonly runs: number;
  /** Values of a run, where the first begins, and from run to run, on both sides. */
  readonly width: number;
  readonly src: readonly [start: number, step: number];
  readonly dst: readonly [start: number, step: number];
}

/** Copies runs of values; those of tensors beyond the binding limit one by one, in pieces. */
export function copyRuns(x: Whole, y: Whole, { runs, width, src, dst }: Runs, traits: GpuTraits): GpuDispatch[] {
  const n = runs * width;
  if (n === 0) return [];
  const bytesOf = (whole: Whole) => ('storage' in whole ? whole.storage.bytes : whole.bytes);
  if (Math.max(bytesOf(x), bytesOf(y)) <= traits.maxBindingBytes) {
    const params = { n, width, srcStart: src[0], srcStep: src[1], dstStart: dst[0], dstStep: dst[1] };
    return [perThread(copyKernel(), n, traits, { bind: [x, y], params })];
  }
  const align = traits.offsetAlignment / 4;
  const piece = Math.floor(traits.maxBindingBytes / 4) - align;
  const dispatches: GpuDispatch[] = [];
  const side = (tensor: Whole, first: number, count: number) => {
    const skip = first % align;
    return { skip, part: { tensor, offset: (first - skip) * 4, bytes: (skip + count) * 4 } };
  };
  for (let run = 0; run < runs; run++) {
    for (let at = 0; at < width; at += piece) {
      const count = Math.min(piece, width - at);
      const from = side(x, src[0] + run * src[1] + at, count);
      const to = side(y, dst[0] + run * dst[1] + at, count);
      const params = { n: count, width: count, srcStart: from.skip, srcStep: 0, dstStart: to.skip, dstStep: 0 };
      dispatches.push(perThread(copyKernel(), count, traits, { bind: [from.part, to.part], params }));
    }
  }
  return dispatches;
}

interface SliceAttrs {
  readonly axis: number;
  readonly start: number;
  readonly end: number;
}

export const sliceOp = defineOp<SliceAttrs>({
  name: 'slice',
  infer(inputs, { axis, start, end }) {
    const { shape, dtype } = inputs[0]!;
    const at = normalizeAxis('slice', axis, shape.length);
    if (!Number.isInteger(start) || !Number.isInteger(end) || start < 0 || end < start || end > shape[at]!) {
      throw new ShapeError(
        `slice: 0 <= start <= end <= ${shape[at]} must hold on axis ${at}; got ${start} to ${end} of ${showShape(shape)}`,
      );
    }
    return [{ shape: shape.map((dim, i) => (i === at ? end - start : dim)), dtype }];
  },
  reference([x], { axis, start }, [y]) {
    const at = normalizeAxis('slice', axis, x!.shape.length);
    const inner = sizeOf(x!.shape.slice(at + 1));
    const from = x!.shape[at]! * inner;
    const to = y!.shape[at]! * inner;
    for (let i = 0; i < y!.data.length; i++) y!.data[i] = x!.data[Math.floor(i / to) * from + start * inner + (i % to)]!;
  },
  cpu(c, [x], { axis, start }, [y]) {
    if (y!.size === 0) return;
    const at = normalizeAxis('slice', axis, x!.shape.length);
    const inner = sizeOf(x!.shape.slice(at + 1)) * 4;
    const width = y!.shape[at]! * inner;
    c.kernels.copyRuns(c.at(x!) + start * inner, c.at(y!), (y!.size * 4) / width, width, x!.shape[at]! * inner, width);
  },
  wgsl([x], { axis, start }, [y], traits) {
    if (y!.size === 0) return [];
    const at = normalizeAxis('slice', axis, x!.shape.length);
    const inner = sizeOf(x!.shape.slice(at + 1));
    const width = y!.shape[at]! * inner;
    return copyRuns(x!, y!, { runs: y!.size / width, width, src: [start * inner, x!.shape[at]! * inner], dst: [0, width] }, traits);
  },
  saves: { inputs: [] },
  vjp({ inputs: [x], attrs: { axis, start, end }, grads: [g] }, o) {
    const at = normalizeAxis('slice', axis, x!.shape.length);
    const zeros = (length: number) => (length === 0 ? [] : [x!.device.zeros(x!.shape.map((dim, i) => (i === at ? length : dim)))]);
    return [o.concat([...zeros(start), g!, ...zeros(x!.shape[at]! - end)], at)];
  },
  samples(g) {
    const shape = [g.int(1, 4), g.int(3, 9), g.int(1, 5)];
    return [
      { inputs: [g.f32(shape)], attrs: { axis: 1, start: 1, end: 3 } },
      { inputs: [g.f32(shape)], attrs: { axis: 0, start: 0, end: 1 } },
      { inputs: [g.f32(shape)], attrs: { axis: -1, start: 0, end: shape[2]! } },
      { inputs: [g.f32(shape)], attrs: { axis: 1, start: 2, end: 2 } },
      { inputs: [g.i32(shape, -9, 9)], attrs: { axis: 1, start: 0, end: 2 } },
      { inputs: [g.f32([0, 3])], attrs: { axis: 1, start: 1, end: 2 } },
    ];
  },
});

/** x[..., start:end, ...] along one axis, copied. */
export function slice<T extends Tensor>(x: T, axis: number, start: number, end: number): T {
  return apply1(sliceOp, [x], { axis, start, end }) as T;
}

export const copyOp = defineOp<null>({
  name: 'copy',
  infer: (inputs) => [inputs[0]!],
  reference([x], _, [y]) {
    y!.data.set(x!.data);
  },
  cpu(c, [x], _, [y]) {
    c.kernels.copyRuns(c.at(x!), c.at(y!), 1, x!.size * 4, 0, 0);
  },
  wgsl: ([x], _, [y], traits) => copyRuns(x!, y!, { runs: 1, width: x!.size, src: [0, 0], dst: [0, 0] }, traits),
  saves: { inputs: [] },
  vjp: ({ grads: [g] }) => [g],
  samples: (g) => [[], [0], [3], [1, 1], [2, g.int(1, 9)]].map((shape) => ({ inputs: [g.f32(shape)], attrs: null })),
});

/** The same values in memory of their own. */
export function copy<T extends Tensor>(x: T): T {
  return apply1(copyOp, [x], null) as T;
}

export const assignOp = defineOp<null>({
  name: 'assign',
  mutates: [0],
  infer(inputs) {
    const [target, source] = inputs as [Spec, Spec];
    expectDTypes('assign', [target, source], [target.dtype, target.dtype]);
    if (!sameShape(target.shape, source.shape)) {
      throw new ShapeError(`assign: both shapes must be equal; got target=${showShape(target.shape)} source=${showShape(source.shape)}`);
    }
    return [];
  },
  reference([target, source]) {
    target!.data.set(source!.data);
  },
  cpu(c, [target, source]) {
    c.kernels.copyRuns(c.at(source!), c.at(target!), 1, target!.size * 4, 0, 0);
  },
  wgsl: ([target, source], _, __, traits) => copyRuns(source!, target!, { runs: 1, width: target!.size, src: [0, 0], dst: [0, 0] }, traits),
  vjp: 'it writes in place',
  samples: (g) => [[], [0], [1], [3], [2, g.int(4, 9)]].map((shape) => ({ inputs: [g.f32(shape), g.f32(shape)], attrs: null })),
});

/** Overwrites the values of `target` with those of `source`, of the same shape and dtype. Throws ShapeError, DTypeError. */
export function assign(target: Tensor, source: Tensor): void {
  apply(assignOp, [target, source], null);
}

export const concatOp = defineOp<{ readonly axis: number }>({
  name: 'concat',
  infer(inputs, { axis }) {
    const [first] = inputs;
    if (first === undefined) throw new ShapeError('concat: needs at least one tensor; got none');
    const at = normalizeAxis('concat', axis, first.shape.length);
    expectDTypes(
      'concat',
      inputs,
      inputs.map(() => first.dtype),
    );
    for (const { shape } of inputs) {
      if (shape.length !== first.shape.length || shape.some((dim, i) => i !== at && dim !== first.shape[i])) {
        throw new ShapeError(`concat: all dims but axis ${at} must be equal; got ${inputs.map((x) => showShape(x.shape)).join(' ')}`);
      }
    }
    const length = inputs.reduce((total, { shape }) => total + shape[at]!, 0);
    return [{ shape: first.shape.map((dim, i) => (i === at ? length : dim)), dtype: first.dtype }];
  },
  reference(inputs, { axis }, [y]) {
    const at = normalizeAxis('concat', axis, y!.shape.length);
    const inner = sizeOf(y!.shape.slice(at + 1));
    let start = 0;
    for (const x of inputs) {
      const width = x.shape[at]! * inner;
      for (let i = 0; i < x.data.length; i++) y!.data[Math.floor(i / width) * y!.shape[at]! * inner + start + (i % width)] = x.data[i]!;
      start += width;
    }
  },
  cpu(c, inputs, { axis }, [y]) {
    const at = normalizeAxis('concat', axis, y!.shape.length);
    const inner = sizeOf(y!.shape.slice(at + 1)) * 4;
    let start = 0;
    for (const x of inputs) {
      const width = x.shape[at]! * inner;
      if (width > 0) c.kernels.copyRuns(c.at(x), c.at(y!) + start, (x.size * 4) / width, width, width, y!.shape[at]! * inner);
      start += width;
    }
  },
  wgsl(inputs, { axis }, [y], traits) {
    const at = normalizeAxis('concat', axis, y!.shape.length);
    const inner = sizeOf(y!.shape.slice(at + 1));
    const step = y!.shape[at]! * inner;
    let start = 0;
    return inputs.flatMap((x) => {
      const width = x.shape[at]! * inner;
      const dst = [start, step] as const;
      start += width;
      return width === 0 ? [] : copyRuns(x, y!, { runs: x.size / width, width, src: [0, width], dst }, traits);
    });
  },
  saves: { inputs: [] },
  vjp({ inputs, attrs: { axis }, grads: [g], wants }, o) {
    const at = normalizeAxis('concat', axis, g!.shape.length);
    let start = 0;
    return inputs.map((x, i) => {
      const from = start;
      start += x.shape[at]!;
      return wants[i] ? o.slice(g!, at, from, start) : undefined;
    });
  },
  samples(g) {
    const n = g.int(1, 5);
    return [
      { inputs: [g.f32([2, 3, n]), g.f32([2, 4, n])], attrs: { axis: 1 } },
      { inputs: [g.f32([2, n]), g.f32([2, 1]), g.f32([2, 0])], attrs: { axis: -1 } },
      { inputs: [g.f32([n]), g.f32([3])], attrs: { axis: 0 } },
      { inputs: [g.f32([0, n]), g.f32([0, n])], attrs: { axis: 0 } },
      { inputs: [g.i32([n], 0, 9)], attrs: { axis: 0 } },
    ];
  },
});

/** Joins tensors along an axis. */
export function concat<T extends Tensor>(tensors: readonly T[], axis: number): T {
  return apply1(concatOp, tensors, { axis }) as T;
}

function permutedSpec(x: Spec, axes: readonly number[]): Spec {
  const rank = x.shape.length;
  const sorted = [...axes].sort((a, b) => a - b);
  if (axes.length !== rank || sorted.some((axis, i) => axis !== i)) {
    throw new ShapeError(`permute: axes must be an order of 0 to ${rank - 1}; got ${showShape(axes)} for ${showShape(x.shape)}`);
  }
  return { shape: axes.map((axis) => x.shape[axis]!), dtype: x.dtype };
}

const permuteKernel = (rank: number) =>
  kernel('permute', [rank], () => {
    const axes = Array.from({ length: rank }, (_, i) => i).reverse();
    return {
      params: {
        n: 'u32',
        ...Object.fromEntries(
          axes.flatMap((i) => [
            [`d${i}`, 'u32' as const],
            [`s${i}`, 'u32' as const],
          ]),
        ),
      },
      read: { x: 'u32' },
      write: { y: 'u32' },
      body: `if (index >= p.n) { return; }
  var rest = index;
  var source = 0u;
  ${axes.map((i) => `source += (rest % p.d${i}) * p.s${i}; rest /= p.d${i};`).join('\n  ')}
  y[index] = x[source];`,
    };
  });

export const permuteOp = defineOp<{ readonly axes: readonly number[] }>({
  name: 'permute',
  infer: (inputs, { axes }) => [permutedSpec(inputs[0]!, axes)],
  reference([x], { axes }, [y]) {
    const steps = stridesOf(x!.shape);
    for (let i = 0; i < y!.data.length; i++) {
      let rest = i;
      let from = 0;
      for (let d = axes.length - 1; d >= 0; d--) {
        from += (rest % y!.shape[d]!) * steps[axes[d]!]!;
        rest = Math.floor(rest / y!.shape[d]!);
      }
      y!.data[i] = x!.data[from]!;
    }
  },
  cpu(c, [x], { axes }, [y]) {
    if (y!.size === 0) return;
    const steps = stridesOf(x!.shape);
    const [dims, from] = axes.length > 0 ? [y!.shape, axes.map((axis) => steps[axis]!)] : [[1], [1]];
    c.kernels.permute(c.at(x!), c.at(y!), dims.length, c.integers([...dims, ...from]));
  },
  wgsl([x], { axes }, [y], traits) {
    if (y!.size === 0) return [];
    const steps = stridesOf(x!.shape);
    const dims = Object.fromEntries(
      axes.flatMap((axis, i) => [
        [`d${i}`, y!.shape[i]!],
        [`s${i}`, steps[axis]!],
      ]),
    );
    const run = (bind: readonly Operand[], n: number) => perThread(permuteKernel(axes.length), n, traits, { bind, params: { ...dims, n } });
    if (axes[0] !== 0) return [run([x!, y!], y!.size)];
    const inner = sizeOf(y!.shape.slice(1));
    return rowRanges('permute', y!.shape[0]!, [inner * 4], traits).map(({ rows, part }) =>
      run([part(x!, inner * 4), part(y!, inner * 4)], rows * inner),
    );
  },
  saves: { inputs: [] },
  vjp: ({ attrs: { axes }, grads: [g] }, o) => [
    o.permute(
      g!,
      axes.map((_, i) => axes.indexOf(i)),
    ),
  ],
  samples: (g) => [
    { inputs: [g.f32([2, g.int(1, 5), 3])], attrs: { axes: [2, 0, 1] } },
    { inputs: [g.f32([g.int(1, 9), g.int(1, 9)])], attrs: { axes: [1, 0] } },
    { inputs: [g.f32([2, 3, 4, 5])], attrs: { axes: [0, 2, 1, 3] } },
    { inputs: [g.f32([])], attrs: { axes: [] } },
    { inputs: [g.f32([1, 3, 1])], attrs: { axes: [2, 0, 1] } },
    { inputs: [g.f32([0, 4])], attrs: { axes: [1, 0] } },
  ],
});

/** The axes in another order: the new axis i is the old axis axes[i]; copied. */
export function permute<T extends Tensor>(x: T, axes: readonly number[]): T {
  return apply1(permuteOp, [x], { axes }) as T;
}

/** The last two axes exchanged. */
export function transpose<T extends Tensor>(x: T): T {
  const rank = x.shape.length;
  if (rank < 2) throw new ShapeError(`transpose: needs two axes; got ${showShape(x.shape)}`);
  const axes = x.shape.map((_, i) => i);
  return permute(x, [...axes.slice(0, -2), rank - 1, rank - 2]);
}

/** One slice per size along an axis; the sizes must add up to it. */
export function split<T extends Tensor>(x: T, axis: number, sizes: readonly number[]): T[] {
  const at = normalizeAxis('split', axis, x.shape.length);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  if (total !== x.shape[at])
    throw new ShapeError(`split: sizes ${showShape(sizes)} add up to ${total}, axis ${at} of ${showShape(x.shape)} is ${x.shape[at]}`);
  let start = 0;
  return tidy(x.device, () =>
    sizes.map((size) => {
      start += size;
      return slice(x, at, start - size, start);
    }),
  );
}
