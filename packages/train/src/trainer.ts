import { accumulateMean, clipByGlobalNorm, Ema, learningRateAt, Optimizer } from '@unroll/nn/optim';
import { initParams, parseRecurrentConfig, RecurrentModel, type TrainingBatch, trainingLoss } from '@unroll/recurrent';
import { type Device, disposeTree, forEachTensor, type Tensor, UnrollError, valueAndGrad } from '@unroll/tensor';
import { batchOf, drawProblems } from './batch.js';
import { groupsOf, parseTrainingConfig, type TrainingConfig } from './config.js';
import { depthAt } from './depth.js';
import { Random } from './random.js';

/** The numbers of a run became NaN or infinite. */
export class DivergedError extends UnrollError {}

export interface StepResult {
  /** Counted from 1. */
  readonly step: number;
  readonly loss: number;
  /** Norm of the gradient before clipping. */
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Recurrences without and with gradient. */
  readonly n: number;
  readonly k: number;
  /** Tokens of the step. */
  readonly tokens: number;
}

/**
 * A training run: the model, its optimiser and the place in the data. It owns them, never the device. All that a step draws is a
 * function of (seed, step), so that weights, optimiser and `step` are the whole state of a run.
 */
export class Trainer {
  readonly config: TrainingConfig;
  readonly model: RecurrentModel;
  readonly optimizer: Optimizer;
  readonly ema: Ema | undefined;
  /** Steps taken. */
  step = 0;
  /** Tokens seen. */
  tokens = 0;

  /** Throws OptionError or ConfigError for a config that does not fit. */
  constructor(
    readonly device: Device,
    config: TrainingConfig,
  ) {
    this.config = parseTrainingConfig(config);
    const shape = parseRecurrentConfig(config.model);
    this.model = new RecurrentModel(device, shape, initParams(device, shape, { seed: config.seed }));
    this.optimizer = new Optimizer(this.model.params, groupsOf(config));
    this.ema = config.ema === undefined ? undefined : new Ema(this.model.params, config.ema);
  }

  /** The micro-batches of a step, counted from 1. */
  batches(step: number): TrainingBatch[] {
    const { tasks, seed, microBatch, accumulate = 1 } = this.config;
    return Array.from({ length: accumulate }, (_, i) => {
      const first = ((step - 1) * accumulate + i) * microBatch;
      return batchOf(drawProblems(tasks, seed, first, microBatch), this.model.contextLength);
    });
  }

  /** Held-out problems as one batch: the same ones for every run of these tasks. */
  validation(count: number): TrainingBatch {
    return batchOf(drawProblems(this.config.tasks, 0, 0, count, true), this.model.contextLength);
  }

  /** One step of the optimiser. Throws DivergedError, with the weights as they were, when loss or gradient are not finite. */
  async train(): Promise<StepResult> {
    const { config, model } = this;
    const step = this.step + 1;
    const depth = depthAt(config.depth, config.seed, step);
    const stateSeed = new Random(config.seed, 'state', step).word();
    const owned: unknown[] = [];
    try {
      let loss = 0;
      let tokens = 0;
      let grads: typeof model.params | undefined;
      const batches = this.batches(step);
      for (const [i, batch] of batches.entries()) {
        const seeds = Array.from({ length: batch.batch }, (_, row) => (stateSeed + i * batch.batch + row) % 2 ** 32);
        const options = { ...depth, initialState: { seed: seeds }, recompute: config.recompute ?? false };
        const result = valueAndGrad(() => trainingLoss(model, batch, options), model.params);
        owned.push(result);
        loss += (await result.value.data())[0]! / batches.length;
        tokens += batch.tokens.length;
        if (grads === undefined) grads = result.grads;
        else {
          accumulateMean(grads, result.grads, i);
          disposeTree(result.grads);
        }
      }
      const clipped = clipByGlobalNorm(grads!, config.clip ?? 1);
      owned.push(clipped);
      const gradNorm = (await clipped.norm.data())[0]!;
      if (!Number.isFinite(loss) || !Number.isFinite(gradNorm)) {
        throw new DivergedError(
          `training: step ${step} has loss ${loss} and gradient norm ${gradNorm}; lower the learning rate or lengthen the warmup`,
        );
      }
      const learningRate = learningRateAt(config.schedule, step);
      this.optimizer.step(clipped.grads, { learningRate, peakRate: config.schedule.peak });
      this.ema?.update();
      this.step = step;
      this.tokens += tokens;
      return { step, loss, gradNorm, learningRate, ...depth, tokens };
    } finally {
      disposeTree(owned);
    }
  }

  /** Every tensor that a run goes on from, by name: `params/…`, `optimizer/…/slot`, `ema/…`. */
  tensors(): Map<string, Tensor> {
    const named = new Map<string, Tensor>();
    forEachTensor(this.model.params, (tensor, path) => named.set(`params/${path}`, tensor));
    for (const [path, slots] of Object.entries(this.optimizer.state))
      for (const [slot, tensor] of Object.entries(slots)) named.set(`optimizer/${path}/${slot}`, tensor);
    for (const [path, tensor] of Object.entries(this.ema?.averages ?? {})) named.set(`ema/${path}`, tensor);
    return named;
  }

  dispose(): void {
    this.model.dispose();
    this.optimizer.dispose();
    this.ema?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
