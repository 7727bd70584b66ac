import { RangeOpError, refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import { given } from '../sample.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';

interface CrossEntropyAttrs {
  readonly ignoreIndex: number;
}

export const crossEntropyOp = defineOp<CrossEntropyAttrs>({
  name: 'crossEntropy',
  infer(inputs) {
    expectDTypes('crossEntropy', inputs, ['f32', 'i32']);
    const [logits, targets] = inputs as [Spec, Spec];
    if (logits.shape.length === 0 || logits.shape[logits.shape.length - 1] === 0 || !sameShape(logits.shape.slice(0, -1), targets.shape)) {
      throw new ShapeError(`crossEntropy: logits must be (..., V) and targets (...); got logits=${showShape(logits.shape)} targets=${showShape(targets.shape)}`);
    }
    return [{ shape: targets.shape, dtype: 'f32' }];
  },
  reference([logits, targets], { ignoreIndex }, [loss]) {
    const V = logits!.shape[logits!.shape.length - 1]!;
    for (let r = 0; r < targets!.data.length; r++) {
      const target = targets!.data[r]!;
      if (target === ignoreIndex) continue;
      const row = Array.from(logits!.data.subarray(r * V, (r + 1) * V));
      const max = Math.max(...row);
      loss!.data[r] = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0)) - row[target]!;
    }
  },
  cpu(c, [logits, targets], { ignoreIndex }, [loss]) {
    const V = logits!.shape[logits!.shape.length - 1]!;
    const bad = c.kernels.crossEntropy(c.at(logits!), c.at(targets!), c.at(loss!), targets!.size, V, ignoreIndex);
    if (bad >= 0) throw new RangeOpError(`crossEntropy: target ${bad} is neither in 0..${V - 1} nor ignoreIndex ${ignoreIndex}`);
  },
  samples(g) {
    const V = g.int(1, 40);
    const close = { attrs: { ignoreIndex: -100 }, absolute: 2e-6, relative: 5e-6 };
    return [
      { inputs: [g.f32([5, V], -9, 9), g.i32([5], 0, V - 1)], ...close },
      { inputs: [g.f32([2, 3, V], -9, 9), g.i32([2, 3], 0, V - 1)], ...close },
      { inputs: [g.f32([3, 4], 50, 90), given([1, -100, 3], [3], 'i32')], ...close },
      { inputs: [g.f32([0, 4]), g.i32([0], 0, 3)], ...close },
      { inputs: [g.f32([1]), given([0], [], 'i32')], ...close },
    ];
  },
});

/** logSumExp(logits) - logits[target] for logits (..., V), targets (...) i32 -> (...), in nats; 0 where the target is ignoreIndex (default -100). */
export function crossEntropy(logits: Tensor, targets: Tensor, options: Partial<CrossEntropyAttrs> = {}): Tensor<'f32'> {
  refuseUnknownOptions('crossEntropy', options, ['ignoreIndex']);
  return apply1(crossEntropyOp, [logits, targets], { ignoreIndex: options.ignoreIndex ?? -100 }) as Tensor<'f32'>;
}
