import { OptionError, RangeOpError, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import { given } from '../sample.js';
import { sameShape, showShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { kernel, perThread, rowRanges } from '../webgpu/kernel.js';

// A thread for a value of the result looks at all places: slow for large vocabularies, but the same sum at every run, which float atomics would not give.
const scatterAddKernel = () =>
  kernel('scatterAddRows', [], () => ({
    params: { n: 'u32', places: 'u32', width: 'u32', R: 'i32', first: 'i32' },
    read: { indices: 'i32', rows: 'f32' },
    write: { y: 'f32' },
    faults: true,
    body: `if (index >= p.n) { return; }
  let row = i32(index / p.width) + p.first;
  let column = index % p.width;
  var sum = 0.0;
  for (var i = 0u; i < p.places; i++) {
    let here = indices[i];
    if (here == row) { sum += rows[i * p.width + column]; }
    if (index == 0u && (here < -1 || here >= p.R)) { report(here, i); }
  }
  y[index] = sum;`,
  }));

const outside = (index: number, place: number, R: number) => `scatterAddRows: index ${index}, at place ${place}, is outside -1..${R - 1}`;

interface ScatterAddAttrs {
  readonly rows: number;
}

export const scatterAddRowsOp = defineOp<ScatterAddAttrs>({
  name: 'scatterAddRows',
  infer(inputs, { rows }) {
    expectDTypes('scatterAddRows', inputs, ['i32', 'f32']);
    const [index, source] = inputs as [Spec, Spec];
    const rank = index.shape.length;
    if (!sameShape(source.shape.slice(0, rank), index.shape)) {
      throw new ShapeError(
        `scatterAddRows: source must be (index..., ...); got index=${showShape(index.shape)} source=${showShape(source.shape)}`,
      );
    }
    if (!Number.isInteger(rows) || rows < 0) throw new OptionError(`scatterAddRows: rows must be a whole number; got ${rows}`);
    return [{ shape: [rows, ...source.shape.slice(rank)], dtype: 'f32' }];
  },
  reference([index, source], _, [out]) {
    const width = sizeOf(out!.shape.slice(1));
    for (let i = 0; i < index!.data.length; i++) {
      const row = index!.data[i]!;
      for (let c = 0; c < width && row >= 0; c++) out!.data[row * width + c] = out!.data[row * width + c]! + source!.data[i * width + c]!;
    }
  },
  cpu(c, [index, source], { rows }, [out]) {
    const width = sizeOf(out!.shape.slice(1));
    const at = c.at(index!);
    const bad = c.kernels.scatterAddRows(at, c.at(source!), c.at(out!), index!.size, rows, width);
    c.check(bad, (place) => new RangeOpError(outside(c.integerAt(at, place), place, rows)));
  },
  wgsl([index, source], { rows }, [out], traits) {
    if (out!.size === 0) return [];
    const width = sizeOf(out!.shape.slice(1));
    const fault = { key: `scatterAddRows ${rows}`, describe: (at: number, place: number) => outside(at, place, rows) };
    return rowRanges('scatterAddRows', rows, [width * 4], traits).map((made) =>
      perThread(scatterAddKernel(), made.rows * width, traits, {
        bind: [index!, source!, made.part(out!, width * 4)],
        params: { n: made.rows * width, places: index!.size, width, R: rows, first: made.start },
        fault,
      }),
    );
  },
  saves: { inputs: [0] },
  // A place of -1 gave nothing: its row of the gradient must be 0, which a gather cannot say.
  vjp: 'it is itself the gradient of gatherRows, and second derivatives are not there',
  samples(g) {
    const width = g.int(1, 9);
    return [
      { inputs: [g.i32([7], 0, 3), g.f32([7, width])], attrs: { rows: 4 }, absolute: 1e-5, relative: 1e-5 },
      { inputs: [given([1, -1, 1, 0], [2, 2], 'i32'), g.f32([2, 2, 5])], attrs: { rows: 3 }, absolute: 1e-5, relative: 1e-5 },
      { inputs: [g.i32([1], 0, 0), g.f32([1, 2, 3])], attrs: { rows: 1 } },
      { inputs: [g.i32([0], 0, 0), g.f32([0, 3])], attrs: { rows: 2 } },
    ];
  },
});

/**
 * out (rows, ...) with out[r] = the sum of source[i] over the places i with index[i] = r, added in their order; an index of -1 adds
 * nothing. index (...) i32, source (index..., ...). The gradient of `gatherRows`. Throws RangeOpError for a row that does not exist.
 */
export function scatterAddRows(index: Tensor, source: Tensor, rows: number): Tensor<'f32'> {
  return apply1(scatterAddRowsOp, [index, source], { rows }) as Tensor<'f32'>;
}
