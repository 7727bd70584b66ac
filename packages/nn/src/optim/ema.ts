import { add, affine, assign, copy, disposeTree, forEachTensor, OptionError, type Tensor, tidy } from '@unroll/tensor';

/** An exponential moving average of a tree of parameters: average = decay average + (1 - decay) parameter. It owns its tensors. */
export class Ema {
  /** Parameter path -> average; begins as the parameters are. */
  readonly averages: Readonly<Record<string, Tensor>>;
  readonly #params = new Map<string, Tensor>();

  constructor(
    params: unknown,
    readonly decay: number,
  ) {
    if (!(decay >= 0 && decay < 1)) throw new OptionError(`Ema: decay must be from 0 to below 1; got ${decay}`);
    const averages: Record<string, Tensor> = {};
    this.averages = averages;
    try {
      forEachTensor(params, (param, path) => {
        this.#params.set(path, param);
        averages[path] = param.device.zeros(param.shape, { memory: 'weights' });
        assign(averages[path], param);
      });
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** Begins again with the parameters as they are. */
  restart(): void {
    for (const [path, param] of this.#params) assign(this.averages[path]!, param);
  }

  update(): void {
    for (const [path, param] of this.#params) {
      const average = this.averages[path]!;
      tidy(param.device, () => assign(average, add(affine(average, { scale: this.decay }), affine(param, { scale: 1 - this.decay }))));
    }
  }

  /** Runs `f` with the averages in place of the parameters, and puts these back. */
  async swapped<R>(f: () => Promise<R>): Promise<R> {
    const saved = new Map<Tensor, Tensor>();
    try {
      for (const [path, param] of this.#params) {
        saved.set(param, copy(param));
        assign(param, this.averages[path]!);
      }
      return await f();
    } finally {
      for (const [param, before] of saved) {
        assign(param, before);
        before.dispose();
      }
    }
  }

  dispose(): void {
    disposeTree(this.averages);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
