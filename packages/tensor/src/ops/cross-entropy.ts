import { OptionError, RangeOpError, refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import { given } from '../sample.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { kernel, perGroup, rowRanges } from '../webgpu/kernel.js';
import { treeReduction } from '../webgpu/library.js';
import { logSumExpOf } from './reduce.js';

interface CrossEntropyAttrs {
  readonly ignoreIndex: number;
}

export interface CrossEntropyOptions {
  /** Targets of this value give the loss 0; -100 when absent. */
  readonly ignoreIndex?: number;
}

const crossEntropyKernel = () =>
  kernel('crossEntropy', [], () => ({
    params: { rows: 'u32', V: 'u32', ignore: 'i32', start: 'u32' },
    read: { logits: 'f32', targets: 'i32' },
    write: { loss: 'f32' },
    workgroup: 128,
    uses: ['exp', 'log', 'extrema'],
    faults: true,
    outside: 'var<workgroup> shared_values: array<f32, 128>;',
    body: `if (group >= p.rows) { return; }
  let target_id = targets[group];
  if (target_id == p.ignore || target_id < 0 || target_id >= i32(p.V)) {
    if (lane == 0u) {
      loss[group] = 0.0;
      if (target_id != p.ignore) { report(target_id, p.start + group); }
    }
    return;
  }
  let start = group * p.V;
  var best = of_bits(0xff800000u);
  for (var i = lane; i < p.V; i += 128u) { best = max_f(best, logits[start + i]); }
  shared_values[lane] = best;
  ${treeReduction('shared_values', 128, 'max_f(a, b)')}
  let largest = shared_values[0];
  let shift = select(largest, 0.0, abs(largest) == of_bits(0x7f800000u));
  workgroupBarrier();
  var sum = 0.0;
  for (var i = lane; i < p.V; i += 128u) { sum += exp_f(logits[start + i] - shift); }
  shared_values[lane] = sum;
  ${treeReduction('shared_values', 128, 'a + b')}
  if (lane == 0u) { loss[group] = log_f(shared_values[0]) + (shift - logits[start + u32(target_id)]); }`,
  }));

function badTarget(who: string, target: number, place: number, V: number, ignoreIndex: number): string {
  return `${who}: target ${target}, at place ${place}, is neither in 0..${V - 1} nor ignoreIndex ${ignoreIndex}`;
}

export const crossEntropyOp = defineOp<CrossEntropyAttrs>({
  name: 'crossEntropy',
  infer(inputs, { ignoreIndex }) {
    expectDTypes('crossEntropy', inputs, ['f32', 'i32']);
    const [logits, targets] = inputs as [Spec, Spec];
    if (logits.shape.length === 0 || logits.shape[logits.shape.length - 1] === 0 || !sameShape(logits.shape.slice(0, -1), targets.shape)) {
      throw new ShapeError(
        `crossEntropy: logits must be (..., V) and targets (...); got logits=${showShape(logits.shape)} targets=${showShape(targets.shape)}`,
      );
    }
    if ((ignoreIndex | 0) !== ignoreIndex)
      throw new OptionError(`crossEntropy: ignoreIndex must be a whole number of 32 bits; got ${ignoreIndex}`);
    return [{ shape: targets.shape, dtype: 'f32' }];
  },
  reference([logits, targets], { ignoreIndex }, [loss]) {
    const V = logits!.shape[logits!.shape.length - 1]!;
    for (let r = 0; r < targets!.data.length; r++) {
      const target = targets!.data[r]!;
      if (target === ignoreIndex) continue;
      const row = Array.from(logits!.data.subarray(r * V, (r + 1) * V));
      loss!.data[r] = logSumExpOf(row) - row[target]!;
    }
  },
  cpu(c, [logits, targets], { ignoreIndex }, [loss]) {
    const V = logits!.shape[logits!.shape.length - 1]!;
    const at = c.at(targets!);
    const bad = c.kernels.crossEntropy(c.at(logits!), at, c.at(loss!), V, ignoreIndex, 0, targets!.size);
    c.check(bad, (place) => new RangeOpError(badTarget('crossEntropy', c.integerAt(at, place), place, V, ignoreIndex)));
  },
  wgsl([logits, targets], { ignoreIndex }, [loss], traits) {
    const V = logits!.shape[logits!.shape.length - 1]!;
    const fault = {
      key: `crossEntropy ${V} ${ignoreIndex}`,
      describe: (target: number, place: number) => badTarget('crossEntropy', target, place, V, ignoreIndex),
    };
    return rowRanges('crossEntropy', targets!.size, [V * 4, 4], traits).map(({ start, rows, part }) =>
      perGroup(crossEntropyKernel(), rows, traits, {
        bind: [part(logits!, V * 4), part(targets!, 4), part(loss!, 4)],
        params: { rows, V, ignore: ignoreIndex, start },
        fault,
      }),
    );
  },
  vjp: ({ inputs: [logits, targets], attrs, grads: [g] }, o) => [o.crossEntropyGrad(logits!, targets!, g!, attrs.ignoreIndex)],
  samples(g) {
    const V = g.int(1, 40);
    const close = { attrs: { ignoreIndex: -100 }, absolute: 2e-6, relative: 5e-6 };
    return [
      { inputs: [g.f32([5, V], -9, 9), g.i32([5], 0, V - 1)], ...close },
      { inputs: [g.f32([2, 3, V], -9, 9), g.i32([2, 3], 0, V - 1)], ...close },
      { inputs: [g.f32([3, 4], 50, 90), given([1, -100, 3], [3], 'i32')], ...close },
      { inputs: [g.f32([0, 4]), g.i32([0], 0, 3)], ...close },
      { inputs: [g.f32([1]), given([0], [], 'i32')], ...close },
      {
        inputs: [given([Number.POSITIVE_INFINITY, 1, Number.NaN, 2, Number.NEGATIVE_INFINITY, 3], [3, 2]), given([1, 0, 0], [3], 'i32')],
        ...close,
      },
    ];
  },
});

/**
 * logSumExp(logits) - logits[target] for logits (..., V), targets (...) i32 -> (...), in nats; 0 where the target is ignoreIndex (default -100).
 * Throws RangeOpError for another target outside 0..V-1, ShapeError, DTypeError, OptionError.
 */
export function crossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor<'f32'> {
  refuseUnknownOptions('crossEntropy', options, ['ignoreIndex']);
  return apply1(crossEntropyOp, [logits, targets], { ignoreIndex: options.ignoreIndex ?? -100 }) as Tensor<'f32'>;
}

const crossEntropyGradKernel = () =>
  kernel('crossEntropyGrad', [], () => ({
    params: { rows: 'u32', V: 'u32', ignore: 'i32' },
    read: { logits: 'f32', targets: 'i32', g: 'f32' },
    write: { y: 'f32' },
    workgroup: 128,
    uses: ['exp', 'extrema'],
    outside: 'var<workgroup> shared_values: array<f32, 128>;',
    body: `if (group >= p.rows) { return; }
  let target_id = targets[group];
  let start = group * p.V;
  if (target_id == p.ignore || target_id < 0 || target_id >= i32(p.V)) {
    for (var i = lane; i < p.V; i += 128u) { y[start + i] = 0.0; }
    return;
  }
  var best = of_bits(0xff800000u);
  for (var i = lane; i < p.V; i += 128u) { best = max_f(best, logits[start + i]); }
  shared_values[lane] = best;
  ${treeReduction('shared_values', 128, 'max_f(a, b)')}
  let shift = shared_values[0];
  workgroupBarrier();
  var sum = 0.0;
  for (var i = lane; i < p.V; i += 128u) { sum += exp_f(logits[start + i] - shift); }
  shared_values[lane] = sum;
  ${treeReduction('shared_values', 128, 'a + b')}
  let total = shared_values[0];
  for (var i = lane; i < p.V; i += 128u) {
    let share = exp_f(logits[start + i] - shift) / total;
    y[start + i] = g[group] * (share - select(0.0, 1.0, i == u32(target_id)));
  }`,
  }));

export const crossEntropyGradOp = defineOp<CrossEntropyAttrs>({
  name: 'crossEntropyGrad',
  infer(inputs, attrs) {
    expectDTypes('crossEntropyGrad', inputs, ['f32', 'i32', 'f32']);
    const [loss] = crossEntropyOp.infer(inputs, attrs);
    if (!sameShape(loss!.shape, inputs[2]!.shape))
      throw new ShapeError(`crossEntropyGrad: g must be ${showShape(loss!.shape)}; got ${showShape(inputs[2]!.shape)}`);
    return [inputs[0]!];
  },
  reference([logits, targets, g], { ignoreIndex }, [dx]) {
    const V = logits!.shape[logits!.shape.length - 1]!;
    for (let r = 0; r < targets!.data.length; r++) {
      const target = targets!.data[r]!;
      if (target === ignoreIndex) continue;
      const row = Array.from(logits!.data.subarray(r * V, (r + 1) * V));
      const total = logSumExpOf(row);
      row.forEach((value, i) => {
        dx!.data[r * V + i] = g!.data[r]! * (Math.exp(value - total) - (i === target ? 1 : 0));
      });
    }
  },
  cpu(c, [logits, targets, g], { ignoreIndex }, [dx]) {
    const V = logits!.shape[logits!.shape.length - 1]!;
    const at = c.at(targets!);
    const bad = c.kernels.crossEntropyGrad(c.at(logits!), at, c.at(g!), c.at(dx!), V, ignoreIndex, 0, targets!.size);
    c.check(bad, (place) => new RangeOpError(badTarget('crossEntropyGrad', c.integerAt(at, place), place, V, ignoreIndex)));
  },
  wgsl([logits, targets, g], { ignoreIndex }, [dx], traits) {
    const V = logits!.shape[logits!.shape.length - 1]!;
    return rowRanges('crossEntropyGrad', targets!.size, [V * 4, 4], traits).map(({ rows, part }) =>
      perGroup(crossEntropyGradKernel(), rows, traits, {
        bind: [part(logits!, V * 4), part(targets!, 4), part(g!, 4), part(dx!, V * 4)],
        params: { rows, V, ignore: ignoreIndex },
      }),
    );
  },
  vjp: 'second derivatives are not there',
  samples(g) {
    const V = g.int(1, 40);
    const close = { attrs: { ignoreIndex: -100 }, absolute: 2e-6, relative: 5e-6 };
    return [
      { inputs: [g.f32([5, V], -9, 9), g.i32([5], 0, V - 1), g.f32([5])], ...close },
      { inputs: [g.f32([2, 3, V], -9, 9), g.i32([2, 3], 0, V - 1), g.f32([2, 3])], ...close },
      { inputs: [g.f32([3, 4], 50, 90), given([1, -100, 3], [3], 'i32'), g.f32([3])], ...close },
      { inputs: [g.f32([0, 4]), g.i32([0], 0, 3), g.f32([0])], ...close },
      { inputs: [g.f32([1]), given([0], [], 'i32'), g.f32([])], ...close },
    ];
  },
});

/** dL/dlogits (..., V) of `crossEntropy` for g = dL/dloss (...). */
export function crossEntropyGrad(logits: Tensor, targets: Tensor, g: Tensor, ignoreIndex: number): Tensor<'f32'> {
  return apply1(crossEntropyGradOp, [logits, targets, g], { ignoreIndex }) as Tensor<'f32'>;
}
