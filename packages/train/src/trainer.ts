import { accumulateMean, clipByGlobalNorm, Ema, learningRateAt, Optimizer } from '@unroll/nn/optim';
import {
  ignoreTarget,
  initModel,
  type ModelFamily,
  meanOfCounted,
  parseRecurrentConfig,
  type RecurrentModel,
  sandwich,
  type TrainingBatch,
} from '@unroll/recurrent';
import {
  affine,
  type Device,
  disposeTree,
  forEachTensor,
  OptionError,
  refuseUnknownOptions,
  type Tensor,
  UnrollError,
  valueAndGrad,
} from '@unroll/tensor';
import { drawFamilies, drawHeldOut, type Family, type PackedProblems, packProblems } from './batch.js';
import { groupsOf, parseTrainingConfig, type TrainingConfig } from './config.js';
import { advance, beginCurriculum, type CurriculumState, plannedLevels, weightScale } from './curriculum.js';
import { depthAt } from './depth.js';
import { crossEntropyObjective, type Objective } from './objective.js';
import { Random } from './random.js';
import { TextRows } from './rows.js';

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
  /** Highest level of each task that is trained on, with a curriculum. */
  readonly levels?: Readonly<Record<string, number>>;
  /** Mean of -log p(answer) of each task's problems in the step. */
  readonly tasks: Readonly<Record<string, number>>;
}

/** What a run has besides its config. */
export interface TrainerOptions {
  /** Tokens of the text, where the config has one. */
  readonly documents?: readonly (readonly number[])[];
  /** The model's parts and parameters; Huginn's when absent. */
  readonly family?: ModelFamily;
  /** What a step makes smaller; the cross-entropy behind the last recurrence when absent. */
  readonly objective?: Objective;
}

/**
 * A training run: the model, its optimiser and the place in the data. It owns them, never the device. All that a step draws is a
 * function of (seed, step, curriculum), so that weights, optimiser, `step` and `curriculum` are the whole state of a run.
 */
export class Trainer {
  readonly config: TrainingConfig;
  readonly model: RecurrentModel;
  /** Whose parts the model has. */
  readonly family: ModelFamily;
  readonly objective: Objective;
  readonly optimizer: Optimizer;
  readonly ema: Ema | undefined;
  /** Steps taken. */
  step = 0;
  /** Tokens seen. */
  tokens = 0;
  /** Where the levels stand. */
  curriculum: CurriculumState | undefined;
  /** The text of a run that is not on tasks. */
  readonly text: TextRows | undefined;

  /** Throws OptionError or ConfigError for a config, options or documents that do not fit. */
  constructor(
    readonly device: Device,
    config: TrainingConfig,
    options: TrainerOptions = {},
  ) {
    refuseUnknownOptions('training', options, ['documents', 'family', 'objective']);
    const { documents, family = sandwich, objective = crossEntropyObjective } = options;
    this.config = parseTrainingConfig(config);
    this.family = family;
    this.objective = objective;
    if ((this.config.text === undefined) !== (documents === undefined))
      throw new OptionError(
        `training: ${documents === undefined ? 'the config has a text; give its documents, in tokens' : 'documents were given; the config has no text'}`,
      );
    this.text = this.config.text && new TextRows(this.config.text, documents!);
    const lowest = config.tasks.map(({ levels, start }) => start ?? levels[0]);
    const plan = config.curriculum?.plan;
    this.curriculum = config.curriculum && beginCurriculum(plan === undefined ? lowest : plannedLevels(plan, 1));
    this.model = initModel(device, parseRecurrentConfig(config.model), { seed: config.seed, family });
    let optimizer: Optimizer | undefined;
    try {
      optimizer = new Optimizer(this.model.params, groupsOf(config));
      this.ema = config.ema === undefined ? undefined : new Ema(this.model.params, config.ema);
    } catch (error) {
      optimizer?.dispose();
      this.model.dispose();
      throw error;
    }
    this.optimizer = optimizer;
  }

  /** The problems of a step, counted from 1, micro-batch by micro-batch. */
  families(step: number): Family[][] {
    const { tasks, seed, microBatch, accumulate = 1, curriculum } = this.config;
    const highest = tasks.map(({ levels }) => levels[1]);
    const reach = curriculum &&
      this.curriculum && {
        level: this.curriculum.level,
        focus: curriculum.focus,
        scale: weightScale(curriculum, this.curriculum, highest),
      };
    return Array.from({ length: accumulate }, (_, i) =>
      drawFamilies(tasks, seed, ((step - 1) * accumulate + i) * microBatch, microBatch, reach),
    );
  }

  /** What a step trains on, micro-batch by micro-batch; text has no families and no answers. */
  #batches(step: number): (PackedProblems & { families: Family[] })[] {
    const { text, model } = this;
    const { seed, microBatch, accumulate = 1 } = this.config;
    if (text === undefined)
      return this.families(step).map((families) => ({
        families,
        ...packProblems(
          families.map(({ problems }) => problems),
          model.contextLength,
        ),
      }));
    const starts = Array.from({ length: accumulate }, (_, i) => ((step - 1) * accumulate + i) * microBatch);
    return starts.map((start) => ({ families: [], answers: [], data: text.training(seed, start, microBatch) }));
  }

  /** Held-out problems, or rows of the text, as one batch: the same ones for every run of these tasks. */
  validation(count: number): TrainingBatch {
    if (this.text !== undefined) return this.text.heldOut(count);
    return packProblems(
      drawHeldOut(this.config.tasks, 0, count).map((problem) => [problem]),
      this.model.contextLength,
    ).data;
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
      const record = new StepRecord(this);
      const batches = this.#batches(step);
      const counts = batches.map(({ data }) => data.targets.reduce((count, target) => count + Number(target !== ignoreTarget), 0));
      for (const [i, { families, data, answers }] of batches.entries()) {
        // Families differ in size: the mean over a step is of its targets, not of its micro-batches' means.
        const scale = (counts[i]! * counts.length) / counts.reduce((sum, count) => sum + count);
        const seeds = Array.from({ length: data.batch }, (_, row) => (stateSeed + i * config.microBatch + row) % 2 ** 32);
        const initialState = { seed: seeds, scale: config.stateScale ?? 1 };
        const options = { ...depth, initialState, recompute: config.recompute ?? false };
        const result = valueAndGrad(() => {
          const { minimised, crossEntropy: each } = this.objective.losses(model, data, options);
          const loss = meanOfCounted(minimised, data);
          return { loss: scale === 1 ? loss : affine(loss, { scale }), each };
        }, model.params);
        owned.push(result);
        loss += (await result.value.loss.data())[0]! / batches.length;
        record.add(families, answers, (await result.value.each.data()) as Float32Array);
        tokens += data.tokens.length;
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
      const levels = record.levels();
      const plan = config.curriculum?.plan;
      if (plan !== undefined) this.curriculum = beginCurriculum(plannedLevels(plan, step + 1));
      // A shallow pass says little about whether a level can be solved.
      else if (depth.n + depth.k >= config.depth.mean) this.curriculum = record.advanced();
      return { step, loss, gradNorm, learningRate, ...depth, tokens, ...levels, tasks: record.tasks() };
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

/** What the problems of a step cost, by task and at the highest levels. */
class StepRecord {
  readonly #all: number[][];
  readonly #highest: number[][];

  constructor(private readonly trainer: Trainer) {
    this.#all = trainer.config.tasks.map(() => []);
    this.#highest = trainer.config.tasks.map(() => []);
  }

  add(families: readonly Family[], answers: readonly (readonly number[])[], losses: Float32Array): void {
    let i = 0;
    for (const { share, problems } of families) {
      for (const { level } of problems) {
        const loss = answers[i++]!.reduce((sum, at) => sum + losses[at]!, 0);
        this.#all[share]!.push(loss);
        if (level === this.trainer.curriculum?.level[share]) this.#highest[share]!.push(loss);
      }
    }
  }

  tasks(): Record<string, number> {
    const { tasks } = this.trainer.config;
    return Object.fromEntries(tasks.flatMap(({ task }, i) => (this.#all[i]!.length === 0 ? [] : [[task, mean(this.#all[i]!)]])));
  }

  levels(): { levels?: Record<string, number> } {
    const { config, curriculum } = this.trainer;
    return curriculum === undefined ? {} : { levels: Object.fromEntries(config.tasks.map(({ task }, i) => [task, curriculum.level[i]!])) };
  }

  advanced(): CurriculumState | undefined {
    const { config, curriculum } = this.trainer;
    if (config.curriculum === undefined || curriculum === undefined) return undefined;
    const measured = this.#highest.map((losses) => (losses.length === 0 ? undefined : mean(losses)));
    return advance(
      config.curriculum,
      curriculum,
      measured,
      config.tasks.map(({ levels }) => levels[1]),
    );
  }
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
