import { refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes } from '../op.js';
import { showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';

interface RmsNormAttrs {
  readonly eps: number;
}

export const rmsNormOp = defineOp<RmsNormAttrs>({
  name: 'rmsNorm',
  infer(inputs) {
    expectDTypes('rmsNorm', inputs, ['f32', 'f32']);
    const [x, w] = inputs;
    const C = x!.shape[x!.shape.length - 1];
    if (C === undefined || w!.shape.length !== 1 || w!.shape[0] !== C) {
      throw new ShapeError(`rmsNorm: the weight must be (C) for x (..., C); got x=${showShape(x!.shape)} weight=${showShape(w!.shape)}`);
    }
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
export function rmsNorm(x: Tensor, weight: Tensor, options: Partial<RmsNormAttrs> = {}): Tensor<'f32'> {
  refuseUnknownOptions('rmsNorm', options, ['eps']);
  return apply1(rmsNormOp, [x, weight], { eps: options.eps ?? 1e-6 }) as Tensor<'f32'>;
}
