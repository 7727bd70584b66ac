import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import type { TaskShare } from './batch.js';

/** Easy problems first: a task's next level enters the mixture when the highest so far is mostly solved. */
export interface CurriculumConfig {
  /** Mean of -log p(answer) below which a level counts as solved, in nats. */
  readonly solved: number;
  /** Share of the problems that are of the highest level so far; the rest are of any up to it. */
  readonly focus: number;
  /** Decay of the moving average of that mean, per step; 0.9 when absent. */
  readonly decay?: number;
  /** Multiplies the weight of a task whose last level is solved, so that the others get more of a step; 1 when absent. */
  readonly rest?: number;
  /**
   * The levels from each step on, in place of all that is learned, one for each share of the mixture: what another run has logged, so that
   * this one sees the same problems.
   */
  readonly plan?: readonly PlannedLevels[];
}

export interface PlannedLevels {
  readonly step: number;
  readonly level: readonly number[];
}

/** Throws OptionError for unknown fields and values that do not fit. */
export function checkCurriculum(config: CurriculumConfig, shares: readonly TaskShare[]): void {
  refuseUnknownOptions('curriculum', config, ['solved', 'focus', 'decay', 'rest', 'plan']);
  const { solved, focus, decay = 0.9, rest = 1, plan } = config;
  if (!(solved > 0 && solved <= 100)) throw new OptionError(`curriculum: solved must be from above 0 to 100 nats; got ${solved}`);
  if (!(focus >= 0 && focus <= 1)) throw new OptionError(`curriculum: focus must be from 0 to 1; got ${focus}`);
  if (!(rest > 0 && rest <= 1)) throw new OptionError(`curriculum: rest must be from above 0 to 1; got ${rest}`);
  if (!(decay >= 0 && decay < 1)) throw new OptionError(`curriculum: decay must be from 0 to below 1; got ${decay}`);
  if (plan === undefined) return;
  if (rest !== 1) throw new OptionError('curriculum: a plan says nothing of what is solved; leave out rest');
  if (!Array.isArray(plan) || plan[0]?.step !== 1) throw new OptionError('curriculum: plan must be a list that begins with step 1');
  plan.forEach(({ step, level }, i) => {
    if (!Number.isInteger(step) || (i > 0 && step <= plan[i - 1]!.step))
      throw new OptionError(`curriculum: the steps of a plan must be whole numbers that rise; got ${step} at place ${i}`);
    const fits = level.length === shares.length && shares.every(({ levels: [low, high] }, k) => low <= level[k]! && level[k]! <= high);
    if (!fits) throw new OptionError(`curriculum: at step ${step} the plan must have a level of each task; got ${level.join(', ')}`);
  });
}

/** Levels of a step, counted from 1, by a plan. */
export const plannedLevels = (plan: readonly PlannedLevels[], step: number): readonly number[] =>
  plan[plan.filter((entry) => entry.step <= step).length - 1]!.level;

/** Where each task of a mixture stands. Plain data, saved with a run: it depends on what the model has learned. */
export interface CurriculumState {
  /** Highest level that is trained on, by share of the mixture. */
  readonly level: readonly number[];
  /** Moving average of -log p(answer) at that level. */
  readonly loss: readonly number[];
}

// An average that starts here has to be earned: with decay 0.9 it takes some 18 steps without any loss to fall to 0.3.
const unknown = 2;

export const beginCurriculum = (lowest: readonly number[]): CurriculumState => ({ level: lowest, loss: lowest.map(() => unknown) });

/**
 * After a step: `measured` has the mean of -log p(answer) at each share's level, undefined where the step had no such problem. Shares whose
 * average falls below what counts as solved go one level up, to `highest` at most.
 */
export function advance(
  { solved, decay = 0.9 }: CurriculumConfig,
  state: CurriculumState,
  measured: readonly (number | undefined)[],
  highest: readonly number[],
): CurriculumState {
  const level = [...state.level];
  const loss = state.loss.map((average, i) => (measured[i] === undefined ? average : decay * average + (1 - decay) * measured[i]));
  loss.forEach((average, i) => {
    if (average >= solved || level[i]! >= highest[i]!) return;
    level[i] = level[i]! + 1;
    loss[i] = unknown;
  });
  return { level, loss };
}

/** What multiplies the weight of each share: `rest` where the last level is solved. */
export const weightScale = ({ solved, rest = 1 }: CurriculumConfig, state: CurriculumState, highest: readonly number[]): number[] =>
  state.level.map((level, i) => (level >= highest[i]! && state.loss[i]! < solved ? rest : 1));
