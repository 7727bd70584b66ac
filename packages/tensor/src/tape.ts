import { calculus } from './calculus.js';
import type { Device } from './device.js';
import { isWeightFormat } from './dtype.js';
import { GradientError } from './errors.js';
import type { OpDef } from './op.js';
import { tidy } from './scope.js';
import { type Shape, showShape } from './shape.js';
import { type Storage, Tensor } from './tensor.js';

/** One call that was noted down: which values it made, and how gradients go back through it. */
interface Entry {
  readonly outputs: readonly { readonly id: number; readonly shape: Shape }[];
  /** dL/dinput by the id of the input. */
  backward(grads: readonly Tensor[]): readonly (readonly [id: number, grad: Tensor])[];
  dispose(): void;
}

/**
 * What a device notes down while a gradient is taken: the calls that depend on a parameter, with the values that their gradients need.
 * Those values are held beyond the scopes that made them and given back as the gradient passes them, at the latest by `dispose()`.
 */
export class Tape {
  readonly #ids = new WeakMap<Tensor, number>();
  readonly #pinned = new Map<Storage, number>();
  #entries: Entry[] = [];
  #next = 0;
  #pauses = 0;

  constructor(readonly device: Device) {}

  get paused(): boolean {
    return this.#pauses > 0;
  }

  /** Follows a parameter; its values may not change until the gradient is there. */
  watch(leaf: Tensor): number {
    const known = this.#ids.get(leaf);
    if (known !== undefined) return known;
    this.#pin(leaf.storage, 1);
    return this.#follow(leaf);
  }

  idOf(tensor: Tensor): number | undefined {
    return this.#ids.get(tensor);
  }

  /** Throws GradientError unless paused: recorded operations run later, when the gradient has passed. */
  refuseRecording(): void {
    if (!this.paused) throw new GradientError('record: called while a gradient is taken; record before, or in withoutGradient');
  }

  /** Runs `f` and notes nothing down. */
  pause<R>(f: () => R): R {
    this.#pauses++;
    try {
      return f();
    } finally {
      this.#pauses--;
    }
  }

  /** Throws GradientError when a write into `target` would change a value that a gradient needs, or lose the gradient of what is written. */
  guard(who: string, target: Tensor, operands: readonly Tensor[]): void {
    if (this.#pinned.has(target.storage)) {
      throw new GradientError(
        `${who}: ${target.dtype}${showShape(target.shape)} is needed as it is by a gradient; write to a copy, or after the gradient`,
      );
    }
    if (!this.paused && operands.some((operand) => this.#ids.has(operand))) {
      throw new GradientError(
        `${who}: writing in place has no gradient; use operations that give a new tensor (without a cache: uncachedPass), or withoutGradient`,
      );
    }
  }

  record<A>(op: OpDef<A>, inputs: readonly Tensor[], attrs: A, outputs: readonly Tensor[]): void {
    if (this.paused || op.mutates !== undefined || !outputs.some(({ dtype }) => dtype === 'f32')) return;
    const ids = inputs.map((input) => this.#ids.get(input));
    if (ids.every((id) => id === undefined)) return;
    const weight = inputs.find(({ dtype }) => isWeightFormat(dtype));
    if (weight !== undefined) {
      throw new GradientError(
        `${op.name}: there is no gradient through ${weight.dtype}${showShape(weight.shape)}, a rounded weight; load the model as f32 to train it, or call this in withoutGradient`,
      );
    }
    const { vjp } = op;
    if (typeof vjp !== 'function') {
      throw new GradientError(
        `${op.name}: has no gradient${vjp === undefined ? '' : `: ${vjp}`}; call it in withoutGradient, or on stopGradient(x)`,
      );
    }
    const constant = op.constants?.find((i) => ids[i] !== undefined);
    if (constant !== undefined)
      throw new GradientError(
        `${op.name}: there is no gradient for input ${constant}, which depends on a parameter here; use stopGradient on it`,
      );
    const read = op.saves?.inputs;
    const saved = inputs.map((input, i) => this.#save(input, read === undefined || read.includes(i)));
    const results = outputs.map((output) => this.#save(output, op.saves?.outputs === true));
    const wants = ids.map((id) => id !== undefined);
    this.#entries.push({
      outputs: outputs.map((output) => ({ id: this.#follow(output), shape: output.shape })),
      backward: (grads) =>
        vjp({ inputs: saved, outputs: results, attrs, grads, wants }, calculus).flatMap((grad, i) =>
          grad === undefined || ids[i] === undefined ? [] : [[ids[i], grad] as const],
        ),
      dispose: () => this.#drop([...saved, ...results]),
    });
  }

  recordView(x: Tensor, view: Tensor): void {
    const id = this.#ids.get(x);
    if (this.paused || id === undefined) return;
    const { shape } = x;
    this.#entries.push({
      outputs: [{ id: this.#follow(view), shape: view.shape }],
      backward: ([grad]) => [[id, this.device.view(grad!, shape)]],
      dispose: () => {},
    });
  }

  /** Runs `f` without notes, and again, with notes, when the gradient comes by. */
  checkpoint<I extends readonly Tensor[]>(f: (...inputs: I) => Tensor, inputs: I): Tensor {
    const made = this.pause(() => tidy(this.device, () => f(...inputs)));
    // What f handed through already has an id of its own.
    const output = this.#ids.has(made) || inputs.includes(made) ? this.device.view(made, made.shape) : made;
    const id = this.#follow(output);
    const saved = inputs.map((input) => {
      const again = this.#save(input, true);
      const known = this.#ids.get(input);
      if (known !== undefined) this.#ids.set(again, known);
      return again;
    }) as unknown as I;
    this.#entries.push({
      outputs: [{ id, shape: output.shape }],
      backward: ([grad]) => {
        const around = this.#entries;
        const pauses = this.#pauses;
        this.#entries = [];
        this.#pauses = 0;
        let result: Tensor;
        let inner: Entry[];
        try {
          result = tidy(this.device, () => f(...saved));
        } finally {
          inner = this.#entries;
          this.#entries = around;
          this.#pauses = pauses;
          if (result! === undefined) for (const entry of inner) entry.dispose();
        }
        const end = this.#ids.get(result);
        if (end === undefined) {
          for (const entry of inner) entry.dispose();
          return [];
        }
        const found = new Map([[end, this.device.view(grad!, grad!.shape)]]);
        this.#back(inner, found);
        return [...found];
      },
      dispose: () => this.#drop(saved),
    });
    return output;
  }

  /** dL/dx by id, for every watched or noted x that the loss (one value) depends on and that nothing noted made. */
  gradients(loss: Tensor): Map<number, Tensor> {
    const found = new Map<number, Tensor>();
    const id = this.#ids.get(loss);
    if (id === undefined)
      throw new GradientError('grad: the loss does not depend on the parameters; compute it from the tensors that f is called with');
    found.set(id, this.device.tensor(new Float32Array([1]), loss.shape));
    this.pause(() => this.#back(this.#entries, found));
    return found;
  }

  dispose(): void {
    for (const entry of this.#entries) entry.dispose();
    this.#entries = [];
    this.#pinned.clear();
  }

  #back(entries: Entry[], found: Map<number, Tensor>): void {
    try {
      for (let entry = entries.pop(); entry !== undefined; entry = entries.pop()) this.#through(entry, found);
    } finally {
      for (const entry of entries) entry.dispose();
      entries.length = 0;
    }
  }

  #through(entry: Entry, found: Map<number, Tensor>): void {
    const given = entry.outputs.map(({ id }) => found.get(id));
    try {
      if (given.every((grad) => grad === undefined)) return;
      const parts = tidy(this.device, () => {
        const grads = given.map((grad, i) => grad ?? this.device.zeros(entry.outputs[i]!.shape));
        // A gradient that is handed on as it is gets a handle of its own: the old one ends here.
        return entry.backward(grads).map(([id, grad]) => [id, grads.includes(grad) ? this.device.view(grad, grad.shape) : grad] as const);
      });
      for (const [id, part] of parts) {
        const before = found.get(id);
        found.set(id, before === undefined ? part : calculus.add(before, part));
        if (before === undefined) continue;
        before.dispose();
        part.dispose();
      }
      for (const { id } of entry.outputs) found.delete(id);
      for (const grad of given) grad?.dispose();
    } finally {
      entry.dispose();
    }
  }

  #follow(tensor: Tensor): number {
    const id = this.#next++;
    this.#ids.set(tensor, id);
    return id;
  }

  /** A handle on a tensor's values that no scope frees; without them, one that has shape and dtype only. */
  #save(tensor: Tensor, values: boolean): Tensor {
    const handle = new Tensor(tensor.device, tensor.shape, tensor.dtype, tensor.storage);
    if (values) this.#pin(tensor.storage, 1);
    else handle.dispose();
    return handle;
  }

  #drop(handles: readonly Tensor[]): void {
    for (const handle of handles) {
      if (handle.disposed) continue;
      this.#pin(handle.storage, -1);
      handle.dispose();
    }
  }

  #pin(storage: Storage, by: number): void {
    const count = (this.#pinned.get(storage) ?? 0) + by;
    if (count > 0) this.#pinned.set(storage, count);
    else this.#pinned.delete(storage);
  }
}
