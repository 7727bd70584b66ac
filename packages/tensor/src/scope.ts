import type { Device } from './device.js';
import { UnrollError } from './errors.js';
import { Tensor } from './tensor.js';
import { forEachTensor } from './tree.js';

/** The nested scopes of one device: each remembers the tensors made while it was the innermost. */
export class ScopeStack {
  readonly #scopes: Tensor[][] = [];

  get depth(): number {
    return this.#scopes.length;
  }

  add(tensor: Tensor): void {
    this.#scopes[this.#scopes.length - 1]?.push(tensor);
  }

  open(): void {
    this.#scopes.push([]);
  }

  /** Disposes what the innermost scope holds but for `kept`, one tensor or several, which move to the scope around it. */
  close(kept: Tensor | ReadonlySet<Tensor> | undefined): void {
    const scope = this.#scopes.pop();
    if (scope === undefined) throw new UnrollError('scope: closed more often than opened');
    const around = this.#scopes[this.#scopes.length - 1];
    const several = kept instanceof Set ? (kept as ReadonlySet<Tensor>) : undefined;
    for (const tensor of scope) {
      if (tensor === kept || several?.has(tensor)) around?.push(tensor);
      else tensor.dispose();
    }
  }

  /** Takes the tensor out of all scopes: its caller owns it from now on. */
  forget(tensor: Tensor): void {
    for (const scope of this.#scopes) {
      const at = scope.lastIndexOf(tensor);
      if (at >= 0) scope.splice(at, 1);
    }
  }
}

/**
 * Runs `f` and frees every tensor made in it but for those it returns (a tensor, or arrays, objects and Maps of them). Weights and
 * KV memory have owners and are not touched. If `f` throws, all is freed. An `f` that returns a Promise is refused: what it makes
 * after its first `await` would belong to whichever scope is open by then.
 */
export function tidy<R>(device: Device, f: () => R): R {
  device.scopes.open();
  let kept: Tensor | Set<Tensor> | undefined;
  try {
    const result = f();
    if (result instanceof Tensor) {
      kept = result;
      return result;
    }
    if (isThenable(result)) {
      result.then(undefined, () => {});
      throw new UnrollError('tidy: f returned a Promise; await outside of tidy, or dispose by hand in asynchronous code');
    }
    const all = new Set<Tensor>();
    forEachTensor(result, (tensor) => all.add(tensor));
    kept = all;
    return result;
  } finally {
    device.scopes.close(kept);
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

/** Takes a tensor out of all open scopes; the caller must dispose it. */
export function keep<T extends Tensor>(tensor: T): T {
  tensor.device.scopes.forget(tensor);
  return tensor;
}
