import { type RecurrentModel, type TrainingBatch, type TrainingLossOptions, tokenLosses } from '@unroll/recurrent';
import type { Tensor } from '@unroll/tensor';

/** Losses at each token, in the shape of the batch on the device, 0 where the target is ignored. */
export interface ObjectiveLosses {
  /** What a step makes smaller, in the mean over the targets that count. */
  readonly minimised: Tensor;
  /** -log p of each target: what tasks are reported by, and what a curriculum goes by. */
  readonly crossEntropy: Tensor;
}

/** What a run makes smaller; `unrollBatch` of `@unroll/recurrent` runs the model for it. */
export interface Objective {
  /** Kept with a saved run, which goes on with an objective of the same name alone. Name its numbers too: "elbo 0.1". */
  readonly name: string;
  /** Called under the gradient, with n and k of the step. */
  losses(model: RecurrentModel, batch: TrainingBatch, options: TrainingLossOptions): ObjectiveLosses;
}

/** The paper's: cross-entropy behind the last recurrence. */
export const crossEntropyObjective: Objective = {
  name: 'cross-entropy',
  losses(model, batch, options) {
    const losses = tokenLosses(model, batch, options);
    return { minimised: losses, crossEntropy: losses };
  },
};
