import {
  add,
  affine,
  assign,
  div,
  forEachTensor,
  mapTensors,
  minimum,
  mul,
  OptionError,
  reciprocal,
  sqrt,
  square,
  sum,
  type Tensor,
  tidy,
} from '@unroll/tensor';

/** L2 norm of all tensors of a tree together, as one value on the device. Throws OptionError for a tree without tensors. */
export function globalNorm(tree: unknown): Tensor {
  const tensors: Tensor[] = [];
  forEachTensor(tree, (tensor) => tensors.push(tensor));
  const [first] = tensors;
  if (first === undefined) throw new OptionError('globalNorm: the tree holds no tensor');
  return tidy(first.device, () => sqrt(tensors.map((tensor) => sum(square(tensor)) as Tensor).reduce((a, b) => add(a, b))));
}

/**
 * Gradients scaled, all by one factor, to a global norm of at most `maxNorm`; the given ones are not changed. `norm` is that before. No
 * value leaves the device. The caller owns both.
 */
export function clipByGlobalNorm<P>(grads: P, maxNorm: number): { readonly grads: P; readonly norm: Tensor } {
  if (!(maxNorm > 0)) throw new OptionError(`clipByGlobalNorm: maxNorm must be above 0; got ${maxNorm}`);
  const norm = globalNorm(grads);
  try {
    return tidy(norm.device, () => {
      const factor = minimum(affine(reciprocal(affine(norm, { shift: 1e-12 })), { scale: maxNorm }), norm.device.tensor([1], []));
      return { norm, grads: mapTensors(grads, (grad) => mul(grad, factor)) };
    });
  } catch (error) {
    norm.dispose();
    throw error;
  }
}

/** target = (target n + source) / (n + 1), tensor by tensor, in place: the mean of gradients that come one after the other. */
export function accumulateMean(target: unknown, source: unknown, n: number): void {
  const sources = new Map<string, Tensor>();
  forEachTensor(source, (tensor, path) => sources.set(path, tensor));
  forEachTensor(target, (tensor, path) => {
    const other = sources.get(path);
    if (other === undefined) throw new OptionError(`accumulateMean: the source lacks ${path}`);
    tidy(tensor.device, () => assign(tensor, add(affine(tensor, { scale: n / (n + 1) }), div(other, tensor.device.tensor([n + 1], [])))));
  });
}
