import { type DType, isQuantized, isWeightFormat, weightFormats } from '../dtype.js';
import { RangeOpError, ShapeError } from '../errors.js';
import { apply, apply1, defineOp, expectDTypes, type Spec } from '../op.js';
import { weightParts } from '../quant.js';
import { given } from '../sample.js';
import { type Shape, sameShape, showShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { type Fault, kernel, perGroup, perThread, rowRanges } from '../webgpu/kernel.js';
import { halfBits } from '../webgpu/upload.js';
import { quantizedRowsWgsl } from './quant-wgsl.js';

function outside(who: string, index: number, place: number, table: Shape): RangeOpError {
  return new RangeOpError(
    `${who}: index ${index}, at place ${place}, is outside the rows 0..${table[0]! - 1} of the table ${showShape(table)}`,
  );
}

/** How both ask for a row that does not exist: the same sentence as on the CPU. */
function outsideFault(who: string, table: Shape): Fault {
  return { key: `${who} ${showShape(table)}`, describe: (index, place) => outside(who, index, place, table).message };
}

// first and count are the rows of the table that this dispatch sees; R all of them. Rows of halves are widened as they are gathered: an
// embedding as a whole would take twice its bytes again.
const gatherKernel = (stored: 'words' | 'f16' | 'bf16') =>
  kernel('gatherRows', [stored], () => ({
    params: { n: 'u32', width: 'u32', R: 'i32', first: 'i32', count: 'i32', start: 'u32' },
    read: { table: 'u32', indices: 'i32' },
    write: { y: 'u32' },
    faults: true,
    body: `if (index >= p.n) { return; }
  let place = index / p.width;
  let row = indices[place];
  if (row < 0 || row >= p.R) {
    y[index] = 0u;
    report(row, p.start + place);
    return;
  }
  if (row < p.first || row >= p.first + p.count) { return; }
  let at = u32(row - p.first) * p.width + index % p.width;
  ${
    stored === 'words'
      ? 'y[index] = table[at];'
      : `let h = (table[at >> 1u] >> ((at & 1u) * 16u)) & 0xffffu;
  ${halfBits(stored)}
  y[index] = bits;`
  }`,
  }));

// A workgroup for each row, which first looks whether a later one goes to the same place.
const scatterKernel = () =>
  kernel('scatterRows', [], () => ({
    params: { n: 'u32', width: 'u32', R: 'i32', first: 'i32', count: 'i32' },
    read: { indices: 'i32', rows: 'u32' },
    write: { table: 'u32' },
    faults: true,
    outside: 'var<workgroup> later: atomic<u32>;',
    body: `if (group >= p.n) { return; }
  let row = indices[group];
  if (row < 0 || row >= p.R) {
    if (lane == 0u && row != -1) { report(row, group); }
    return;
  }
  for (var i = group + 1u + lane; i < p.n; i += 64u) {
    if (indices[i] == row) { atomicStore(&later, 1u); }
  }
  workgroupBarrier();
  if (atomicLoad(&later) == 1u || row < p.first || row >= p.first + p.count) { return; }
  for (var c = lane; c < p.width; c += 64u) { table[u32(row - p.first) * p.width + c] = rows[group * p.width + c]; }`,
  }));

export const gatherRowsOp = defineOp<null>({
  name: 'gatherRows',
  weight: 0,
  infer(inputs) {
    const [table, index] = inputs as [Spec, Spec];
    expectDTypes('gatherRows', [table, index], [table.dtype, 'i32'], 0);
    if (table.shape.length === 0) throw new ShapeError(`gatherRows: the table needs rows; got ${showShape(table.shape)}`);
    return [{ shape: [...index.shape, ...table.shape.slice(1)], dtype: isWeightFormat(table.dtype) ? 'f32' : table.dtype }];
  },
  reference([table, index], _, [out]) {
    const width = sizeOf(table!.shape.slice(1));
    for (let i = 0; i < index!.data.length; i++) {
      for (let c = 0; c < width; c++) out!.data[i * width + c] = table!.data[index!.data[i]! * width + c]!;
    }
  },
  cpu(c, [table, index], _, [out]) {
    const at = c.at(index!);
    const { shape, dtype } = table!;
    const width = sizeOf(shape.slice(1));
    const [from, to, n, R] = [c.at(table!), c.at(out!), index!.size, c.rows(table!)];
    const { kernels } = c;
    let bad: number;
    if (isQuantized(dtype)) {
      const scales = from + weightParts(dtype, shape)[1]!.offset;
      bad = kernels.gatherQuantized(from, scales, at, to, n, R, width, dtype === 'q8' ? 8 : 4);
    } else if (isWeightFormat(dtype)) {
      const halves = c.scratch(n * width * 2);
      bad = kernels.gatherRows(from, at, halves, n, R, width * 2);
      c.check(bad, (place) => outside('gatherRows', c.integerAt(at, place), place, shape));
      (dtype === 'f16' ? kernels.f16ToF32 : kernels.bf16ToF32)(halves, to, n * width);
      return;
    } else bad = kernels.gatherRows(from, at, to, n, R, width * 4);
    c.check(bad, (place) => outside('gatherRows', c.integerAt(at, place), place, shape));
  },
  wgsl([table, index], _, [out], traits) {
    if (out!.size === 0) return [];
    const R = table!.shape[0]!;
    const width = sizeOf(table!.shape.slice(1));
    const fault = outsideFault('gatherRows', table!.shape);
    const { dtype } = table!;
    if (isQuantized(dtype)) return quantizedRowsWgsl(table!, index!, out!, fault, traits);
    const stored = dtype === 'f16' || dtype === 'bf16' ? dtype : 'words';
    const rowBytes = width * (stored === 'words' ? 4 : 2);
    return rowRanges('gatherRows', index!.size, [width * 4, 4], traits).flatMap((places) =>
      rowRanges('gatherRows', R, [rowBytes], traits).map((seen) =>
        perThread(gatherKernel(stored), places.rows * width, traits, {
          bind: [seen.part(table!, rowBytes), places.part(index!, 4), places.part(out!, width * 4)],
          params: { n: places.rows * width, width, R, first: seen.start, count: seen.rows, start: places.start },
          fault,
        }),
      ),
    );
  },
  saves: { inputs: [1] },
  vjp: ({ inputs: [table, index], grads: [g] }, o) => [o.scatterAddRows(index!, g!, table!.shape[0]!)],
  samples(g) {
    const R = g.int(1, 9);
    const shapes = [[g.int(1, 7)], [2, 3], [0], []];
    return [
      ...shapes.map((shape) => ({ inputs: [g.f32([R, g.int(1, 9)]), g.i32(shape, 0, R - 1)], attrs: null })),
      { inputs: [g.f32([R, 2, 3]), g.i32([4], 0, R - 1)], attrs: null },
      { inputs: [g.f32([R, 0]), g.i32([4], 0, R - 1)], attrs: null },
      { inputs: [g.i32([R, 2], -5, 5), g.i32([4], 0, R - 1)], attrs: null },
      ...weightFormats.flatMap((format) => [
        { inputs: [g.weight([R + 8, 33], format), g.i32([5], 0, R + 7)], attrs: null, relative: 1e-6 },
        { inputs: [g.weight([R, g.int(1, 70)], format), g.i32([2, 2], 0, R - 1)], attrs: null, relative: 1e-6 },
      ]),
    ];
  },
});

/** Rows of table (R, ...) named by index (...) i32 -> (..., ...), as an embedding does; f32 of a table in a weight format. Throws RangeOpError for a row that does not exist. */
export function gatherRows<T extends DType>(table: Tensor<T>, index: Tensor): Tensor<T extends 'i32' ? 'i32' : 'f32'> {
  return apply1(gatherRowsOp, [table, index], null) as Tensor<T extends 'i32' ? 'i32' : 'f32'>;
}

export const scatterRowsOp = defineOp<null>({
  name: 'scatterRows',
  mutates: [0],
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
    const at = c.at(index!);
    const { shape } = table!;
    const bad = c.kernels.scatterRows(c.at(table!), at, c.at(rows!), index!.size, c.rows(table!), width);
    c.check(bad, (place) => outside('scatterRows', c.integerAt(at, place), place, shape));
  },
  wgsl([table, index, rows], _, __, traits) {
    if (rows!.size === 0 || table!.size === 0) return [];
    const width = sizeOf(table!.shape.slice(1));
    const fault = outsideFault('scatterRows', table!.shape);
    return rowRanges('scatterRows', table!.shape[0]!, [width * 4], traits).map((seen) =>
      perGroup(scatterKernel(), index!.size, traits, {
        bind: [index!, rows!, seen.part(table!, width * 4)],
        params: { n: index!.size, width, R: table!.shape[0]!, first: seen.start, count: seen.rows },
        fault,
      }),
    );
  },
  vjp: 'it writes in place',
  samples(g) {
    const width = g.int(1, 9);
    return [
      { inputs: [g.f32([5, width]), given([4, -1, 0], [3], 'i32'), g.f32([3, width])], attrs: null },
      { inputs: [g.f32([5, 2, 3]), given([1, 2], [2, 1], 'i32'), g.f32([2, 1, 2, 3])], attrs: null },
      { inputs: [g.f32([5, 2]), given([], [0], 'i32'), g.f32([0, 2])], attrs: null },
      // Of equal rows the last one counts.
      { inputs: [g.f32([5, width]), given([3, 1, 3, -1, 3], [5], 'i32'), g.f32([5, width])], attrs: null },
    ];
  },
});

/** table[index[i]] = rows[i], in place; an index of -1 writes nothing, of equal ones the last counts. Throws RangeOpError, with nothing written, for a row that does not exist. */
export function scatterRows(table: Tensor, index: Tensor, rows: Tensor): void {
  apply(scatterRowsOp, [table, index, rows], null);
}
