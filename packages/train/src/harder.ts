import type { RecurrentModel } from '@unroll/recurrent';
import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import { packProblems, type TaskShare } from './batch.js';
import { solvedByDepth } from './metrics.js';
import { Random } from './random.js';
import { isHeldOut, type Problem } from './tasks/task.js';
import { tasks } from './tasks/tasks.js';

/** Train easy, test hard: problems of higher levels than any that is trained on, at more recurrences than a step has on average. */
export interface HarderConfig {
  /** Levels by task, both included, each above the task's highest in the mixture. */
  readonly levels: Readonly<Record<string, readonly [least: number, most: number]>>;
  /** Recurrences, rising. */
  readonly depths: readonly number[];
  /** Problems of each level; 30 when absent. */
  readonly problems?: number;
}

/** How the problems of one level were answered. */
export interface HarderResult {
  readonly task: string;
  readonly level: number;
  readonly problems: number;
  /** Share that is right, at each depth. */
  readonly solved: readonly number[];
}

/** Throws OptionError for unknown fields, levels that are not harder, and depths that do not rise. */
export function checkHarder(config: HarderConfig, shares: readonly TaskShare[]): void {
  refuseUnknownOptions('harder', config, ['levels', 'depths', 'problems']);
  const { levels, depths, problems = 30 } = config;
  if (typeof levels !== 'object' || levels === null || Object.keys(levels).length === 0)
    throw new OptionError('harder: levels must name one task at least, such as {"parity": [18, 24]}');
  for (const [name, range] of Object.entries(levels)) {
    const trained = shares.filter(({ task }) => task === name).map(({ levels: [, high] }) => high);
    if (trained.length === 0) throw new OptionError(`harder: ${name} is not one of the tasks that are trained on`);
    const least = Math.max(...trained) + 1;
    const most = tasks[name]!.levels[1];
    const [low, high]: readonly number[] = Array.isArray(range) && range.length === 2 ? range : [Number.NaN, Number.NaN];
    if (!(Number.isInteger(low) && Number.isInteger(high) && least <= low! && low! <= high! && high! <= most))
      throw new OptionError(
        `harder: the levels of ${name} must be from ${least}, above those trained on, to ${most}; got ${low} to ${high}`,
      );
  }
  const rising = Array.isArray(depths) && depths.every((depth, i) => Number.isInteger(depth) && depth > (depths[i - 1] ?? 0));
  if (!rising || depths.length === 0) throw new OptionError(`harder: depths must be whole numbers from 1 that rise; got ${String(depths)}`);
  if (!Number.isInteger(problems) || problems < 1) throw new OptionError(`harder: problems must be a whole number from 1; got ${problems}`);
}

/** Each once, where the level has so many. None was trained on, since its level was not. */
function problemsOf(name: string, level: number, count: number): Problem[] {
  const found = new Map<string, Problem>();
  const task = tasks[name]!;
  for (let i = 0; found.size < count && i < 40 * count; i++) {
    const [problem] = task.generate(new Random(level, 'validation', i), level);
    if (isHeldOut(task, problem)) found.set(problem.key, problem);
  }
  return [...found.values()];
}

/** Answers the harder problems from the zero state, level by level; `breathe` is awaited now and then. */
export async function testHarder(
  model: RecurrentModel,
  { levels, depths, problems = 30 }: HarderConfig,
  breathe: () => Promise<void> = async () => {},
): Promise<HarderResult[]> {
  const results: HarderResult[] = [];
  for (const [task, [low, high]] of Object.entries(levels)) {
    for (let level = low; level <= high; level++) {
      const drawn = problemsOf(task, level, problems);
      const packed = packProblems(
        drawn.map((problem) => [problem]),
        model.contextLength,
      );
      const byDepth = await solvedByDepth(model, packed, depths, breathe);
      results.push({ task, level, problems: drawn.length, solved: byDepth.map((each) => each.filter(Boolean).length / drawn.length) });
    }
  }
  return results;
}
