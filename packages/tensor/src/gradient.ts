import type { Calculus } from './calculus.js';
import { type Shape, sameShape, sizeOf } from './shape.js';
import type { Tensor } from './tensor.js';

/** What the gradient of one call of an operation is computed from. */
export interface VjpCall<A> {
  /** Those that `saves` does not name are disposed: only their shape and dtype are there. */
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  readonly attrs: A;
  /** dL/doutput for every output. */
  readonly grads: readonly Tensor[];
  /** Of each input: is its gradient asked for. */
  readonly wants: readonly boolean[];
}

/**
 * The product of a gradient with the operation's Jacobian: dL/dinput for every input, undefined for those that have none or are not
 * wanted. Written in other operations, which are handed in: files of operations would import each other in circles otherwise.
 */
export type Vjp<A> = (call: VjpCall<A>, ops: Calculus) => readonly (Tensor | undefined)[];

/** The gradient of a value that was repeated to a broadcast shape: the sum over its repetitions. */
export function unbroadcast(g: Tensor, shape: Shape, o: Calculus): Tensor {
  let x = g;
  let dims: readonly number[] = g.shape;
  const offset = dims.length - shape.length;
  const repeated = (axis: number) => axis < offset || (shape[axis - offset] === 1 && dims[axis] !== 1);
  for (let end = dims.length; end > 0; ) {
    let start = end - 1;
    const reduce = repeated(start);
    while (start > 0 && repeated(start - 1) === reduce) start--;
    if (reduce) {
      const [outer, n, inner] = [dims.slice(0, start), dims.slice(start, end), dims.slice(end)].map(sizeOf) as [number, number, number];
      dims = dims.map((dim, axis) => (axis >= start && axis < end ? 1 : dim));
      x = o.sum(o.reshape(x, [outer, n, inner]), { axis: 1 });
    }
    end = start;
  }
  return sameShape(x.shape, shape) ? x : o.reshape(x, shape);
}
