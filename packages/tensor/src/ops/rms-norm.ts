import { OptionError, refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes } from '../op.js';
import { showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { kernel, perGroup, rowRanges } from '../webgpu/kernel.js';
import { treeReduction } from '../webgpu/library.js';

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
    c.kernels.rmsNorm(c.at(x!), c.at(w!), c.at(y!), x!.size / w!.size, w!.size, eps);
  },
  wgsl([x, w], { eps }, [y], traits) {
    if (x!.size === 0) return [];
    const C = w!.size;
    return rowRanges('rmsNorm', x!.size / C, [C * 4], traits).map(({ rows, part }) =>
      perGroup(rmsNormKernel(), rows, traits, { bind: [part(x!, C * 4), w!, part(y!, C * 4)], params: { rows, C, eps } }),
    );
  },
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
