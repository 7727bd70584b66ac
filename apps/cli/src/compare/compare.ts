import { UsageError } from '../errors.js';
import { encodeAll, type Problem } from '../eval/evaluate.js';
import type { Io } from '../io.js';
import type { LoadedModel } from '../model/load.js';
import { type Measured, type Measurement, type MeasureOptions, measure } from './measure.js';
import { measureRows, predictedTotal, type RowCost } from './rows.js';
import { exitStrategy, oneLoopPolicy, plainName, type Strategy, strategiesFor } from './strategies.js';
import { bestExit, budgetVerdict, exitVerdict, holdsExit, thresholdsFor, type Verdict } from './verdict.js';

const ROW_REPEATS = 10;

export interface CompareOptions extends MeasureOptions {
  /** Depth of every strategy that has one. */
  readonly depth: number;
  readonly limit: number;
  /** Problems for the choice of thresholds. */
  readonly tune: number;
}

export interface Row extends Omit<Measured, 'reports'> {
  /** Tokens per second against plain decoding at the same depth. */
  readonly speedUp: number;
  /** What the counts and the measured cost of passes say of it; null where they say nothing. */
  readonly predictedSpeedUp: number | null;
}

export interface Comparison {
  readonly depth: number;
  readonly rows: readonly Row[];
  /** Strategies that refuse this model, with the reason. */
  readonly refused: readonly { readonly name: string; readonly reason: string }[];
  readonly verdicts: readonly Verdict[];
  /** Where thresholds came from; undefined when none was chosen. */
  readonly tuning: string | undefined;
  readonly rowCosts: readonly RowCost[];
  /** Predicted speed-up of strategies on a machine and model with these costs of passes. */
  readonly predict: (costs: readonly RowCost[]) => readonly { readonly name: string; readonly speedUp: number | null }[];
}

/** Seeds no draws: the same part of the problems at every run, from all over the file. */
function spread(problems: readonly Problem[], limit: number): { main: Problem[]; others: Problem[] } {
  const n = Math.min(limit, problems.length);
  const taken = new Set(Array.from({ length: n }, (_, i) => Math.floor((i * problems.length) / n)));
  return { main: problems.filter((_, i) => taken.has(i)), others: problems.filter((_, i) => !taken.has(i)) };
}

interface Done {
  readonly strategy: Strategy;
  readonly measured: Measured;
  /** Plain decoding at the same depth, measured in turns with this one. */
  readonly base: Measured;
}

type Run = (strategies: readonly Strategy[], on: 'main' | 'tuning', label: string) => Promise<Measurement>;

/** Looks on other problems for thresholds of the rules that do not hold with their own, and measures the best of each on the main ones. */
async function tuneExits(failing: readonly Strategy[], depth: number, plain: Strategy, run: Run): Promise<Done[]> {
  const candidates = failing.map(({ exit }) => {
    const { rule, threshold } = exit!;
    return [threshold, ...thresholdsFor(rule)].map((one) => exitStrategy(rule, one, depth));
  });
  const [base, ...tried] = (await run([plain, ...candidates.flat()], 'tuning', 'looking for thresholds')).measured;
  const chosen = failing.flatMap(({ exit }) => {
    const { rule, threshold } = exit!;
    const best = bestExit(
      tried.filter((row) => row.exit?.rule === rule),
      base!,
    )!.exit!;
    return best.threshold === threshold ? [] : [exitStrategy(rule, best.threshold, depth, `${rule}:${best.threshold} (chosen)`)];
  });
  const [again, ...measured] = (await run([plain, ...chosen], 'main', 'measuring them')).measured;
  return chosen.map((strategy, i) => ({ strategy, measured: measured[i]!, base: again! }));
}

/** Runs every strategy over the problems. Throws UsageError for problems that the model cannot read. */
export async function compare(
  loaded: LoadedModel,
  problems: readonly Problem[],
  options: CompareOptions,
  io: Io,
  onProgress: (fraction: number, label: string) => void = () => undefined,
): Promise<Comparison> {
  const { depth } = options;
  const { main, others } = spread(problems, options.limit);
  const tune = others.length >= options.tune / 2 ? spread(others, options.tune).main : main;
  const sets = { main: encodeAll(loaded, main), tuning: encodeAll(loaded, tune) };
  const strategies = strategiesFor(depth, loaded.config.coreLayers);
  const plainStrategy = strategies.find(({ name }) => name === plainName(depth))!;
  const run: Run = (list, on, label) => measure(loaded, sets[on], list, options, io, (fraction) => onProgress(fraction, label));

  const rowCosts = await measureRows(loaded.model, ROW_REPEATS, io);
  // Buffers and code grow warm on the first problems; no strategy should be charged for that.
  await measure(loaded, { ...sets.main, encoded: sets.main.encoded.slice(0, 2) }, strategies, options, io);
  const { measured, refused } = await run(strategies, 'main', `${strategies.length} strategies in turn`);
  const find = (name: string): Measured | undefined => measured.find((row) => row.name === name);
  const base = find(plainName(depth));
  if (base === undefined) throw new UsageError(`compare: plain decoding at depth ${depth} is refused: ${refused[0]?.reason ?? 'unknown'}`);
  const of = (row: Measured): Strategy => strategies.find(({ name }) => name === row.name)!;
  const done: Done[] = measured.map((row) => ({ strategy: of(row), measured: row, base }));
  const failing = measured.filter((row) => row.kind === 'exit' && !holdsExit(row, base)).map(of);
  const tuned = failing.length === 0 ? [] : await tuneExits(failing, depth, plainStrategy, run);
  const afterExits = done.findIndex(({ strategy }) => strategy.kind !== 'plain' && strategy.kind !== 'exit');
  done.splice(afterExits < 0 ? done.length : afterExits, 0, ...tuned);

  const ofKind = (kind: Strategy['kind']) => done.filter(({ strategy }) => strategy.kind === kind).map((one) => one.measured);
  const oneLoop = find(oneLoopPolicy(loaded.config.coreLayers));
  // By token, since other texts may have other lengths.
  const predicted = ({ strategy, measured: row }: Done, costs: readonly RowCost[]): number | null => {
    const ms = predictedTotal(row.reports, strategy, costs);
    if (ms === null || row.newTokens === 0) return null;
    return predictedTotal(base.reports, plainStrategy, costs)! / base.newTokens / (ms / row.newTokens);
  };
  const whichProblems = tune === main ? 'problems that are among these: take them with care' : 'other problems';
  return {
    depth,
    rows: done.map((one) => {
      const { reports: _, ...row } = one.measured;
      return { ...row, speedUp: row.tokensPerSecond / one.base.tokensPerSecond, predictedSpeedUp: predicted(one, rowCosts) };
    }),
    refused,
    verdicts: [exitVerdict(ofKind('exit'), base, ofKind('plain')), ...(oneLoop === undefined ? [] : [budgetVerdict(oneLoop, base)])],
    tuning: tuned.length === 0 ? undefined : `thresholds marked as chosen were chosen on ${sets.tuning.encoded.length} ${whichProblems}`,
    rowCosts,
    predict: (costs) =>
      done
        .filter(({ strategy }) => strategy.kind === 'speculative' || strategy.kind === 'wavefront')
        .map((one) => ({ name: one.measured.name, speedUp: predicted(one, costs) })),
  };
}
