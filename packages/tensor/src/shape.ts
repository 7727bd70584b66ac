import { ShapeError } from './errors.js';

export type Shape = readonly number[];

export function sizeOf(shape: Shape): number {
  let size = 1;
  for (const dim of shape) size *= dim;
  return size;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

export function showShape(shape: Shape): string {
  return `[${shape.join(',')}]`;
}

/** Throws ShapeError unless every dim is a whole number from 0 to 2^31 - 1 and the size stays below 2^31 values. */
export function checkShape(who: string, shape: Shape): void {
  if (!Array.isArray(shape)) throw new ShapeError(`${who}: a shape is a list of dims, such as [2, 3]; got ${JSON.stringify(shape)}`);
  for (const dim of shape) {
    if (!Number.isInteger(dim) || dim < 0 || dim > 0x7fffffff) {
      throw new ShapeError(`${who}: dims must be whole numbers from 0 to 2147483647; got ${showShape(shape)}`);
    }
  }
  // Kernels count values in 32-bit signed integers. Not `>`: the product of absurd dims with a 0 among them is NaN.
  if (!(sizeOf(shape) <= 0x7fffffff)) throw new ShapeError(`${who}: ${showShape(shape)} has more than 2147483647 values; split it`);
}

/** -1 is the last axis. Throws ShapeError when there is no such axis. */
export function normalizeAxis(who: string, axis: number, rank: number): number {
  const at = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(at) || at < 0 || at >= rank)
    throw new ShapeError(`${who}: axis ${axis} does not exist in a tensor of rank ${rank}`);
  return at;
}

/** Numpy's rule: aligned at the last axis, dims are equal or 1. */
export function broadcastShapes(who: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const da = a[a.length - rank + i] ?? 1;
    const db = b[b.length - rank + i] ?? 1;
    if (da !== db && da !== 1 && db !== 1) {
      throw new ShapeError(`${who}: ${showShape(a)} and ${showShape(b)} do not broadcast; dims, aligned at the end, must be equal or 1`);
    }
    out[i] = da === 1 ? db : da;
  }
  return out;
}

/** Steps, in values, of a contiguous tensor. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i]!;
  }
  return strides;
}

/** Steps of an operand read along the broadcast shape `out`: 0 where it repeats. */
export function broadcastStrides(shape: Shape, out: Shape): number[] {
  const own = stridesOf(shape);
  const offset = out.length - shape.length;
  return out.map((_, i) => (i < offset || shape[i - offset] === 1 ? 0 : own[i - offset]!));
}
