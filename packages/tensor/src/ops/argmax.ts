import { refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes } from '../op.js';
import { given, type SampleInput } from '../sample.js';
import { showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { kernel, perGroup, rowRanges } from '../webgpu/kernel.js';
import { treeReduction } from '../webgpu/library.js';

export interface ArgmaxOptions {
  /** Gives ~i (negative) where the value at i is NaN, so that one number tells both. */
  readonly markNaN?: boolean;
}

const argmaxKernel = () =>
  kernel('argmax', [], () => ({
    params: { rows: 'u32', n: 'u32', mark: 'u32' },
    read: { x: 'u32' },
    write: { y: 'i32' },
    workgroup: 256,
    uses: ['rank'],
    outside: 'var<workgroup> firsts: array<vec2u, 256>;',
    body: `if (group >= p.rows) { return; }
  var best = vec2u(0u, 0xffffffffu);
  for (var i = lane; i < p.n; i += 256u) {
    let rank = rank_of(x[group * p.n + i]);
    if (rank > best.x) { best = vec2u(rank, i); }
  }
  firsts[lane] = best;
  ${treeReduction('firsts', 256, 'select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y))')}
  if (lane == 0u) {
    let at = i32(firsts[0].y);
    y[group] = select(at, ~at, p.mark == 1u && firsts[0].x == 0xffffffffu);
  }`,
  }));

export const argmaxOp = defineOp<Required<ArgmaxOptions>>({
  name: 'argmax',
  infer(inputs) {
    expectDTypes('argmax', inputs, ['f32']);
    const { shape } = inputs[0]!;
    const n = shape[shape.length - 1];
    if (!n) throw new ShapeError(`argmax: the last axis must hold at least one value; got ${showShape(shape)}`);
    return [{ shape: shape.slice(0, -1), dtype: 'i32' }];
  },
  reference([x], { markNaN }, [y]) {
    const n = x!.shape[x!.shape.length - 1]!;
    for (let r = 0; r < y!.data.length; r++) {
      const row = Array.from(x!.data.subarray(r * n, (r + 1) * n));
      const nan = row.findIndex(Number.isNaN);
      y!.data[r] = nan >= 0 ? (markNaN ? ~nan : nan) : row.indexOf(Math.max(...row));
    }
  },
  cpu(c, [x], { markNaN }, [y]) {
    const n = x!.shape[x!.shape.length - 1]!;
    c.kernels.argmax(c.at(x!), c.at(y!), x!.size / n, n, Number(markNaN));
  },
  wgsl([x], { markNaN }, [y], traits) {
    const n = x!.shape[x!.shape.length - 1]!;
    return rowRanges('argmax', x!.size / n, [n * 4, 4], traits).map(({ rows, part }) =>
      perGroup(argmaxKernel(), rows, traits, { bind: [part(x!, n * 4), part(y!, 4)], params: { rows, n, mark: Number(markNaN) } }),
    );
  },
  vjp: 'its values are indices',
  samples(g) {
    const shapes = [[1], [g.int(1, 40)], [g.int(1, 5), g.int(1, 21)], [2, 3, 64], [0, 4]];
    const inputs: SampleInput[] = [
      ...shapes.map((shape) => g.f32(shape)),
      given([1, 5, 5, 0, Number.NaN, 9, Number.NaN, 1], [2, 4]),
      given([Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY]),
    ];
    return [false, true].flatMap((markNaN) => inputs.map((input) => ({ inputs: [input], attrs: { markNaN } })));
  },
});

/** Index of the largest value along the last axis, (..., N) -> (...) i32; the first of equals, the first NaN where there is one. */
export function argmax(x: Tensor, options: ArgmaxOptions = {}): Tensor<'i32'> {
  refuseUnknownOptions('argmax', options, ['markNaN']);
  return apply1(argmaxOp, [x], { markNaN: options.markNaN ?? false }) as Tensor<'i32'>;
}
