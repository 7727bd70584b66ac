import { assign, disposeTree, forEachTensor, OptionError, refuseUnknownOptions, type Tensor, tidy } from '@unroll/tensor';
import { emptySlot, type UpdateRule } from './rules.js';

/** Which rule moves which parameters. The first group that takes a parameter moves it. */
export interface ParameterGroup {
  /** Takes all when absent. */
  readonly match?: (path: string, param: Tensor) => boolean;
  /** null: these parameters stay as they are. */
  readonly rule: UpdateRule | null;
  /** Multiplies the learning rate; 1 when absent. */
  readonly rateScale?: number;
}

export interface OptimizerStep {
  readonly learningRate: number;
  /** The schedule's highest rate; the rate itself when absent. */
  readonly peakRate?: number;
}

interface Entry {
  readonly param: Tensor;
  readonly rule: UpdateRule;
  readonly rateScale: number;
  readonly slots: Readonly<Record<string, Tensor>>;
}

/**
 * Moves the parameters of a tree in place and owns what the rules remember. `state` is a plain tree, parameter path -> slot -> tensor,
 * which together with `stepCount` is all there is to save. The parameters stay their owner's.
 */
export class Optimizer {
  /** Steps taken; set it together with `state` when going on from a saved run. */
  stepCount = 0;
  readonly state: Readonly<Record<string, Readonly<Record<string, Tensor>>>>;
  readonly #entries = new Map<string, Entry>();

  /** Throws OptionError for a parameter that no group takes or that its rule cannot move. */
  constructor(params: unknown, groups: readonly ParameterGroup[]) {
    const chosen: [path: string, param: Tensor, group: ParameterGroup][] = [];
    forEachTensor(params, (param, path) => {
      const group = groups.find(({ match }) => match === undefined || match(path, param));
      if (group === undefined) throw new OptionError(`Optimizer: no group takes ${path}; end the list with a group that matches all`);
      refuseUnknownOptions('Optimizer: group', group, ['match', 'rule', 'rateScale']);
      group.rule?.check?.(path, param.shape);
      chosen.push([path, param, group]);
    });
    const state: Record<string, Record<string, Tensor>> = {};
    this.state = state;
    try {
      for (const [path, param, { rule, rateScale = 1 }] of chosen) {
        if (rule === null) continue;
        const slots: Record<string, Tensor> = {};
        state[path] = slots;
        for (const slot of rule.slots) slots[slot] = emptySlot(param.device, param.shape);
        this.#entries.set(path, { param, rule, rateScale, slots });
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** One step along the gradients, a tree like the parameters. Throws OptionError when it lacks one. */
  step(grads: unknown, { learningRate, peakRate = learningRate }: OptimizerStep): void {
    if (!(learningRate >= 0 && Number.isFinite(learningRate)))
      throw new OptionError(`Optimizer: learningRate must be a number from 0; got ${learningRate}`);
    const found = new Map<string, Tensor>();
    forEachTensor(grads, (grad, path) => found.set(path, grad));
    const missing = [...this.#entries.keys()].find((path) => !found.has(path));
    if (missing !== undefined) throw new OptionError(`Optimizer: the gradients lack ${missing}; give a tree like the parameters`);
    this.stepCount++;
    const relativeRate = peakRate === 0 ? 0 : learningRate / peakRate;
    for (const [path, { param, rule, rateScale, slots }] of this.#entries) {
      tidy(param.device, () => {
        const next = rule.update(param, found.get(path)!, slots, {
          step: this.stepCount,
          learningRate: learningRate * rateScale,
          relativeRate,
        });
        assign(param, next.param);
        for (const [slot, value] of Object.entries(next.slots)) assign(slots[slot]!, value);
      });
    }
  }

  dispose(): void {
    disposeTree(this.state);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
