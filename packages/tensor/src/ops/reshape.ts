import { isWeightFormat } from '../dtype.js';
import { DisposedError, ShapeError } from '../errors.js';
import { storedRefusal } from '../op.js';
import { checkShape, type Shape, showShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';

/** The same values in another shape; shares the memory. One dim may be -1 and is computed. Throws ShapeError when the sizes differ. */
export function reshape<T extends Tensor>(x: T, shape: Shape): T {
  if (x.disposed)
    throw new DisposedError(`reshape: the tensor ${x.dtype}${showShape(x.shape)} was disposed; keep it out of the scope that freed it`);
  if (isWeightFormat(x.dtype)) throw storedRefusal('reshape', 0, x);
  const open = shape.indexOf(-1);
  let dims = [...shape];
  if (open >= 0) {
    const rest = sizeOf(shape.filter((_, i) => i !== open));
    if (!(rest > 0) || x.size % rest !== 0) throw new ShapeError(`reshape: ${showShape(x.shape)} does not fit ${showShape(shape)}`);
    dims = shape.map((dim, i) => (i === open ? x.size / rest : dim));
  }
  checkShape('reshape', dims);
  if (sizeOf(dims) !== x.size) {
    throw new ShapeError(`reshape: ${showShape(x.shape)} has ${x.size} values, ${showShape(shape)} needs ${sizeOf(dims)}`);
  }
  const view = x.device.view(x, dims) as T;
  x.device.tape?.recordView(x, view);
  return view;
}
