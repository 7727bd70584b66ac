import { ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes } from '../op.js';
import { given } from '../sample.js';
import { showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { kernel, perGroup, rowRanges } from '../webgpu/kernel.js';
import { treeReduction } from '../webgpu/library.js';

const softmaxKernel = () =>
  kernel('softmax', [], () => ({
    params: { rows: 'u32', n: 'u32' },
    read: { x: 'f32' },
    write: { y: 'f32' },
    workgroup: 128,
    uses: ['exp', 'extrema'],
    outside: 'var<workgroup> shared_values: array<f32, 128>;',
    body: `if (group >= p.rows) { return; }
  let start = group * p.n;
  var best = of_bits(0xff800000u);
  for (var i = lane; i < p.n; i += 128u) { best = max_f(best, x[start + i]); }
  shared_values[lane] = best;
  ${treeReduction('shared_values', 128, 'max_f(a, b)')}
  let shift = shared_values[0];
  workgroupBarrier();
  var sum = 0.0;
  for (var i = lane; i < p.n; i += 128u) {
    let e = exp_f(x[start + i] - shift);
    y[start + i] = e;
    sum += e;
  }
  shared_values[lane] = sum;
  ${treeReduction('shared_values', 128, 'a + b')}
  let total = shared_values[0];
  for (var i = lane; i < p.n; i += 128u) { y[start + i] = y[start + i] / total; }`,
  }));

export const softmaxOp = defineOp<null>({
  name: 'softmax',
  infer(inputs) {
    expectDTypes('softmax', inputs, ['f32']);
    if (inputs[0]!.shape.length === 0) throw new ShapeError(`softmax: needs at least one axis; got ${showShape([])}`);
    return [inputs[0]!];
  },
  reference([x], _, [y]) {
    const n = x!.shape[x!.shape.length - 1]!;
    for (let start = 0; start < x!.data.length; start += n) {
      let max = Number.NEGATIVE_INFINITY;
      for (let i = 0; i < n; i++) max = Math.max(max, x!.data[start + i]!);
      let sum = 0;
      for (let i = 0; i < n; i++) sum += Math.exp(x!.data[start + i]! - max);
      for (let i = 0; i < n; i++) y!.data[start + i] = Math.exp(x!.data[start + i]! - max) / sum;
    }
  },
  cpu(c, [x], _, [y]) {
    if (x!.size === 0) return;
    const n = x!.shape[x!.shape.length - 1]!;
    c.kernels.softmax(c.at(x!), c.at(y!), n, 0, x!.size / n);
  },
  wgsl([x], _, [y], traits) {
    if (x!.size === 0) return [];
    const n = x!.shape[x!.shape.length - 1]!;
    return rowRanges('softmax', x!.size / n, [n * 4], traits).map(({ rows, part }) =>
      perGroup(softmaxKernel(), rows, traits, { bind: [part(x!, n * 4), part(y!, n * 4)], params: { rows, n } }),
    );
  },
  saves: { inputs: [], outputs: true },
  vjp({ outputs: [y], grads: [g] }, o) {
    const weighted = o.mul(g!, y!);
    return [o.sub(weighted, o.mul(y!, o.sum(weighted, { axis: -1, keepDims: true })))];
  },
  samples(g) {
    const shapes = [[1], [g.int(1, 40)], [g.int(1, 5), g.int(1, 21)], [2, 3, 64], [0, 4], [3, 0]];
    const close = { attrs: null, absolute: 1e-6, relative: 5e-6 };
    return [
      ...shapes.map((shape) => ({ inputs: [g.f32(shape, -30, 30)], ...close })),
      { inputs: [given([Number.NEGATIVE_INFINITY, 1, 2, Number.NEGATIVE_INFINITY, 3])], ...close },
    ];
  },
});

/** exp(x) / sum(exp(x)) over the last axis, shifted by the row's maximum. */
export function softmax(x: Tensor): Tensor<'f32'> {
  return apply1(softmaxOp, [x], null) as Tensor<'f32'>;
}
