import type { Device } from './device.js';
import { DTypeError, GradientError, ShapeError } from './errors.js';
import { copy } from './ops/layout.js';
import { tidy } from './scope.js';
import { showShape } from './shape.js';
import { Tape } from './tape.js';
import { Tensor } from './tensor.js';
import { forEachTensor, mapTensors } from './tree.js';

/** What a function under a gradient gives: the loss, one f32 value, alone or beside other results. */
export type LossResult = Tensor | { readonly loss: Tensor };

export interface ValueAndGrad<P, R> {
  /** What f returned. */
  readonly value: R;
  /** A tree like the parameters, with dL/dp in place of each p; zeros where the loss does not depend on it. */
  readonly grads: P;
}

/**
 * Runs f(params) and takes the gradient of its loss, one f32 value, by every f32 tensor of the tree `params`. All that f makes is freed
 * but for what it returns; the caller owns value and grads. Inside f, tensors of `params` may also be reached otherwise (a model that
 * holds them): a tensor is followed as an object, and views of it that were made before are not.
 *
 * Throws GradientError where there is no gradient: an operation without one, a write into a value that is needed, a loss that does not
 * depend on the parameters, a gradient inside f; DTypeError for parameters that are not f32; ShapeError for a loss of several values.
 *
 * @example
 * const { value, grads } = valueAndGrad(({ w }) => mean(square(sub(matmul(x, w), y))), { w });
 */
export function valueAndGrad<P, R extends LossResult>(f: (params: P) => R, params: P): ValueAndGrad<P, R> {
  const leaves = new Set<Tensor>();
  forEachTensor(params, (leaf, path) => {
    if (leaf.dtype !== 'f32')
      throw new DTypeError(`grad: the parameter ${path || 'given'} is ${leaf.dtype}; only f32 tensors have gradients`);
    leaves.add(leaf);
  });
  const [first] = leaves;
  if (first === undefined) throw new GradientError('grad: the parameters hold no tensor');
  const { device } = first;
  if (device.tape !== null) throw new GradientError('grad: a gradient is being taken on this device already; gradients do not nest');
  const tape = new Tape(device);
  try {
    return tidy(device, () => {
      for (const leaf of leaves) tape.watch(leaf);
      device.tape = tape;
      const value = tidy(device, () => f(params));
      const loss: unknown = value instanceof Tensor ? value : (value as { loss?: unknown } | null | undefined)?.loss;
      if (!(loss instanceof Tensor)) throw new GradientError('grad: f must return the loss as a tensor, or an object with it as "loss"');
      if (loss.size !== 1 || loss.dtype !== 'f32')
        throw new ShapeError(`grad: the loss must be one f32 value; got ${loss.dtype}${showShape(loss.shape)}`);
      const found = tape.gradients(loss);
      device.tape = null;
      const used = new Set<Tensor>();
      const gradOf = (leaf: Tensor): Tensor => {
        const grad = found.get(tape.idOf(leaf)!) ?? device.zeros(leaf.shape);
        // Two results may not share memory: who scales one in place would scale both.
        const own = used.has(grad) || grad.storage.refs > 1 ? copy(grad) : grad;
        used.add(grad);
        return own;
      };
      return { value, grads: mapTensors(params, gradOf) };
    });
  } finally {
    device.tape = null;
    tape.dispose();
  }
}

/** The gradient alone: `valueAndGrad` whose value is freed. */
export function grad<P>(f: (params: P) => LossResult, params: P): P {
  const { value, grads } = valueAndGrad(f, params);
  forEachTensor(value, (tensor) => tensor.dispose());
  return grads;
}

/** The same values, through which no gradient goes; shares the memory. */
export function stopGradient<T extends Tensor>(x: T): T {
  return x.device.view(x, x.shape) as T;
}

/** Runs f and lets no gradient through it: nothing that it makes is kept for later, so its memory does not grow with its length. */
export function withoutGradient<R>(device: Device, f: () => R): R {
  return device.tape === null ? f() : device.tape.pause(f);
}

/**
 * f(...inputs), of which only the inputs are kept for the gradient: what happens between is computed again when the gradient comes by.
 * Besides its inputs, f may use parameters, but no other tensor that a gradient goes through, nor anything that it would find changed.
 */
export function checkpoint<I extends readonly Tensor[]>(f: (...inputs: I) => Tensor, ...inputs: I): Tensor {
  const device = inputs[0]?.device;
  if (device === undefined) throw new GradientError('checkpoint: needs an input tensor');
  return device.tape === null || device.tape.paused ? f(...inputs) : device.tape.checkpoint(f, inputs);
}
