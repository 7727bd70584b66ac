import { OptionError, refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply, apply1, defineOp, expectDTypes } from '../op.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { type GpuDispatch, kernel, perGroup, perThread, rowRanges, Scratch, type Whole } from '../webgpu/kernel.js';
import { treeReduction } from '../webgpu/library.js';
import type { GpuTraits } from '../webgpu/traits.js';

interface RmsNormAttrs {
  readonly eps: number;
}

export interface RmsNormOptions {
  /** Added to the mean square; 1e-6 when absent. */
  readonly eps?: number;
}

const rmsNormKernel = () =>
  kernel('rmsNorm', [], () => ({
    params: { rows: 'u32', C: 'u32', eps: 'f32' },
    read: { x: 'f32', w: 'f32' },
    write: { y: 'f32' },
    workgroup: 128,
    outside: 'var<workgroup> sums: array<f32, 128>;',
    body: `if (group >= p.rows) { return; }
  let start = group * p.C;
  var sum = 0.0;
  for (var c = lane; c < p.C; c += 128u) {
    let v = x[start + c];
    sum += v * v;
  }
  sums[lane] = sum;
  ${treeReduction('sums', 128, 'a + b')}
  let scale = inverseSqrt(sums[0] / f32(p.C) + p.eps);
  for (var c = lane; c < p.C; c += 128u) { y[start + c] = x[start + c] * scale * w[c]; }`,
  }));

/** y (rows, C) = rmsNorm(x, w). */
export function rmsNormWgsl(x: Whole, w: Tensor, y: Whole, rows: number, eps: number, traits: GpuTraits): GpuDispatch[] {
  const C = w.size;
  return rowRanges('rmsNorm', rows, [C * 4], traits).map(({ rows, part }) =>
    perGroup(rmsNormKernel(), rows, traits, { bind: [part(x, C * 4), w, part(y, C * 4)], params: { rows, C, eps } }),
  );
}

export const rmsNormOp = defineOp<RmsNormAttrs>({
  name: 'rmsNorm',
  infer(inputs, { eps }) {
    expectDTypes('rmsNorm', inputs, ['f32', 'f32']);
    const [x, w] = inputs;
    const C = x!.shape[x!.shape.length - 1];
    if (C === undefined || w!.shape.length !== 1 || w!.shape[0] !== C) {
      throw new ShapeError(`rmsNorm: the weight must be (C) for x (..., C); got x=${showShape(x!.shape)} weight=${showShape(w!.shape)}`);
    }
    if (!(eps >= 0 && eps < Number.POSITIVE_INFINITY)) throw new OptionError(`rmsNorm: eps must be a number from 0; got ${eps}`);
    return [x!];
  },
  reference([x, w], { eps }, [y]) {
    const C = w!.data.length;
    for (let start = 0; start < x!.data.length; start += C) {
      let sum = 0;
      for (let c = 0; c < C; c++) sum += x!.data[start + c]! ** 2;
      const scale = 1 / Math.sqrt(sum / C + eps);
      for (let c = 0; c < C; c++) y!.data[start + c] = x!.data[start + c]! * scale * w!.data[c]!;
    }
  },
  cpu(c, [x, w], { eps }, [y]) {
    if (x!.size === 0) return;
    c.kernels.rmsNorm(c.at(x!), c.at(w!), c.at(y!), w!.size, eps, 0, x!.size / w!.size);
  },
  wgsl: ([x, w], { eps }, [y], traits) => (x!.size === 0 ? [] : rmsNormWgsl(x!, w!, y!, x!.size / w!.size, eps, traits)),
  vjp: ({ inputs: [x, w], attrs, grads: [g] }, o) => o.rmsNormGrad(x!, w!, g!, attrs.eps),
  samples(g) {
    const C = g.int(1, 40);
    const shapes = [[1], [C], [g.int(1, 5), C], [2, 3, 64], [0, 8], [3, 0]];
    return shapes.map((shape) => ({
      inputs: [g.f32(shape), g.f32([shape[shape.length - 1]!], 0.5, 1.5)],
      attrs: { eps: 1e-6 },
      absolute: 1e-6,
      relative: 5e-6,
    }));
  },
});

/** Root-mean-square norm (Zhang & Sennrich 2019) of x (..., C): x / sqrt(mean(x^2) + eps) * weight (C). */
export function rmsNorm(x: Tensor, weight: Tensor, options: RmsNormOptions = {}): Tensor<'f32'> {
  refuseUnknownOptions('rmsNorm', options, ['eps']);
  return apply1(rmsNormOp, [x, weight], { eps: options.eps ?? 1e-6 }) as Tensor<'f32'>;
}

const rmsNormGradKernel = () =>
  kernel('rmsNormGrad', [], () => ({
    params: { rows: 'u32', C: 'u32', eps: 'f32' },
    read: { x: 'f32', w: 'f32', g: 'f32' },
    write: { dx: 'f32', scales: 'f32' },
    workgroup: 128,
    outside: 'var<workgroup> sums: array<vec2f, 128>;',
    body: `if (group >= p.rows) { return; }
  let start = group * p.C;
  var sum = vec2f(0.0, 0.0);
  for (var c = lane; c < p.C; c += 128u) {
    let v = x[start + c];
    sum += vec2f(v * v, g[start + c] * w[c] * v);
  }
  sums[lane] = sum;
  ${treeReduction('sums', 128, 'a + b')}
  let scale = inverseSqrt(sums[0].x / f32(p.C) + p.eps);
  let back = scale * scale * scale * sums[0].y / f32(p.C);
  for (var c = lane; c < p.C; c += 128u) { dx[start + c] = g[start + c] * w[c] * scale - x[start + c] * back; }
  if (lane == 0u) { scales[group] = scale; }`,
  }));

const rmsNormWeightGradKernel = () =>
  kernel('rmsNormGrad.weight', [], () => ({
    params: { rows: 'u32', C: 'u32' },
    read: { x: 'f32', g: 'f32', scales: 'f32' },
    write: { dw: 'f32' },
    body: `if (index >= p.C) { return; }
  var sum = 0.0;
  for (var r = 0u; r < p.rows; r++) { sum += g[r * p.C + index] * x[r * p.C + index] * scales[r]; }
  dw[index] = sum;`,
  }));

export const rmsNormGradOp = defineOp<RmsNormAttrs>({
  name: 'rmsNormGrad',
  infer(inputs, attrs) {
    const [x, w, g] = inputs;
    expectDTypes('rmsNormGrad', inputs, ['f32', 'f32', 'f32']);
    rmsNormOp.infer(inputs, attrs);
    if (!sameShape(x!.shape, g!.shape))
      throw new ShapeError(`rmsNormGrad: g must be like x; got x=${showShape(x!.shape)} g=${showShape(g!.shape)}`);
    return [x!, w!];
  },
  reference([x, w, g], { eps }, [dx, dw]) {
    const C = w!.data.length;
    for (let start = 0; start < x!.data.length; start += C) {
      let squares = 0;
      let along = 0;
      for (let c = 0; c < C; c++) {
        squares += x!.data[start + c]! ** 2;
        along += g!.data[start + c]! * w!.data[c]! * x!.data[start + c]!;
      }
      const scale = 1 / Math.sqrt(squares / C + eps);
      for (let c = 0; c < C; c++) {
        dx!.data[start + c] = g!.data[start + c]! * w!.data[c]! * scale - (x!.data[start + c]! * scale ** 3 * along) / C;
        dw!.data[c] = dw!.data[c]! + g!.data[start + c]! * x!.data[start + c]! * scale;
      }
    }
  },
  cpu(c, [x, w, g], { eps }, [dx, dw]) {
    if (w!.size === 0) return;
    c.kernels.rmsNormGrad(c.at(x!), c.at(w!), c.at(g!), c.at(dx!), c.at(dw!), x!.size / w!.size, w!.size, eps);
  },
  wgsl([x, w, g], { eps }, [dx, dw], traits) {
    const C = w!.size;
    if (C === 0) return [];
    const rows = x!.size / C;
    const scales = new Scratch(Math.max(1, rows) * 4);
    return [
      ...(rows === 0 ? [] : [perGroup(rmsNormGradKernel(), rows, traits, { bind: [x!, w!, g!, dx!, scales], params: { rows, C, eps } })]),
      perThread(rmsNormWeightGradKernel(), C, traits, { bind: [x!, g!, scales, dw!], params: { rows, C } }),
    ];
  },
  vjp: 'second derivatives are not there',
  samples(g) {
    const C = g.int(1, 40);
    const shapes = [[1], [C], [g.int(1, 5), C], [2, 3, 64], [0, 8], [3, 0]];
    return shapes.map((shape) => ({
      inputs: [g.f32(shape), g.f32([shape[shape.length - 1]!], 0.5, 1.5), g.f32(shape)],
      attrs: { eps: 1e-6 },
      absolute: 5e-6,
      relative: 1e-5,
    }));
  },
});

/** dL/dx (..., C) and dL/dweight (C) of `rmsNorm` for g = dL/dy (..., C). */
export function rmsNormGrad(x: Tensor, weight: Tensor, g: Tensor, eps: number): Tensor[] {
  return apply(rmsNormGradOp, [x, weight, g], { eps });
}
