import { RangeOpError, ShapeError } from '../errors.js';
import { apply, apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import { given } from '../sample.js';
import { sameShape, showShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';

export const gatherRowsOp = defineOp<null>({
  name: 'gatherRows',
  infer(inputs) {
    const [table, index] = inputs as [Spec, Spec];
    expectDTypes('gatherRows', [index], ['i32']);
    if (table.shape.length === 0) throw new ShapeError(`gatherRows: the table needs rows; got ${showShape(table.shape)}`);
    return [{ shape: [...index.shape, ...table.shape.slice(1)], dtype: table.dtype }];
  },
  reference([table, index], _, [out]) {
    const width = sizeOf(table!.shape.slice(1));
    for (let i = 0; i < index!.data.length; i++) {
      for (let c = 0; c < width; c++) out!.data[i * width + c] = table!.data[index!.data[i]! * width + c]!;
    }
  },
  cpu(c, [table, index], _, [out]) {
    const width = sizeOf(table!.shape.slice(1)) * 4;
    const bad = c.kernels.gatherRows(c.at(table!), c.at(index!), c.at(out!), index!.size, table!.shape[0]!, width);
    if (bad >= 0) throw new RangeOpError(`gatherRows: index ${bad} is outside the rows of the table ${showShape(table!.shape)}`);
  },
  samples(g) {
    const R = g.int(1, 9);
    const shapes = [[g.int(1, 7)], [2, 3], [0], []];
    return [
      ...shapes.map((shape) => ({ inputs: [g.f32([R, g.int(1, 9)]), g.i32(shape, 0, R - 1)], attrs: null })),
      { inputs: [g.f32([R, 2, 3]), g.i32([4], 0, R - 1)], attrs: null },
      { inputs: [g.f32([R, 0]), g.i32([4], 0, R - 1)], attrs: null },
      { inputs: [g.i32([R, 2], -5, 5), g.i32([4], 0, R - 1)], attrs: null },
    ];
  },
});

/** Rows of table (R, ...) named by index (...) i32 -> (..., ...), as an embedding does. Throws RangeOpError for a row that does not exist. */
export function gatherRows<T extends Tensor>(table: T, index: Tensor): T {
  return apply1(gatherRowsOp, [table, index], null) as T;
}

export const scatterRowsOp = defineOp<null>({
  name: 'scatterRows',
  mutates: 0,
  infer(inputs) {
    const [table, index, rows] = inputs as [Spec, Spec, Spec];
    expectDTypes('scatterRows', [table, index, rows], [table.dtype, 'i32', table.dtype]);
    if (table.shape.length === 0 || !sameShape([...index.shape, ...table.shape.slice(1)], rows.shape)) {
      throw new ShapeError(
        `scatterRows: rows must be (index..., table[1:]...); got table=${showShape(table.shape)} index=${showShape(index.shape)} rows=${showShape(rows.shape)}`,
      );
    }
    return [];
  },
  reference([table, index, rows]) {
    const width = sizeOf(table!.shape.slice(1));
    for (let i = 0; i < index!.data.length; i++) {
      const row = index!.data[i]!;
      for (let c = 0; c < width && row >= 0; c++) table!.data[row * width + c] = rows!.data[i * width + c]!;
    }
  },
  cpu(c, [table, index, rows]) {
    const width = sizeOf(table!.shape.slice(1)) * 4;
    const bad = c.kernels.scatterRows(c.at(table!), c.at(index!), c.at(rows!), index!.size, table!.shape[0]!, width);
    if (bad >= 0) throw new RangeOpError(`scatterRows: index ${bad} is outside the rows of the table ${showShape(table!.shape)}`);
  },
  samples(g) {
    const width = g.int(1, 9);
    return [
      { inputs: [g.f32([5, width]), given([4, -1, 0], [3], 'i32'), g.f32([3, width])], attrs: null },
      { inputs: [g.f32([5, 2, 3]), given([1, 2], [2, 1], 'i32'), g.f32([2, 1, 2, 3])], attrs: null },
      { inputs: [g.f32([5, 2]), given([], [0], 'i32'), g.f32([0, 2])], attrs: null },
    ];
  },
});

/** table[index[i]] = rows[i], in place; an index of -1 writes nothing. Throws RangeOpError, with nothing written, for a row that does not exist. */
export function scatterRows(table: Tensor, index: Tensor, rows: Tensor): void {
  apply(scatterRowsOp, [table, index, rows], null);
}
