import type { ExitRuleName } from '@unroll/sampler';
import { percent } from '../style.js';
import type { Measured } from './measure.js';
import { DEFAULT_THRESHOLDS } from './strategies.js';

export const MOST_RECURRENCES = 0.6;
export const MOST_POINTS = 2;

/** A claim, whether the data bear it out, and the figures. */
export interface Verdict {
  readonly claim: string;
  readonly holds: boolean;
  readonly evidence: string;
}

/** Thresholds to try after a rule's own, strictest first. */
export function thresholdsFor(rule: ExitRuleName): readonly number[] {
  if (rule === 'argmax-stability') return [4, 3, 2, 1];
  const own = DEFAULT_THRESHOLDS[rule];
  return [1 / 30, 1 / 10, 1 / 3, 3, 10, 30, 100].map((factor) => Number((own * factor).toPrecision(2)));
}

/** Whether a run loses nothing against the base; every problem counts. */
const equal = (row: Measured, base: Measured): boolean => row.accuracy >= base.accuracy;
const share = (row: Measured, base: Measured): number => row.meanRecurrences / base.meanRecurrences;
const short = (value: number): string => value.toFixed(2);

export function holdsExit(row: Measured, base: Measured): boolean {
  return equal(row, base) && share(row, base) <= MOST_RECURRENCES;
}

/** The best of several: of those that lose nothing the shallowest, else the most accurate. */
export function bestExit(rows: readonly Measured[], base: Measured): Measured | undefined {
  const order = (a: Measured, b: Measured) =>
    Number(equal(b, base)) - Number(equal(a, base)) ||
    (equal(a, base) ? a.meanRecurrences - b.meanRecurrences : b.accuracy - a.accuracy || a.meanRecurrences - b.meanRecurrences);
  return [...rows].sort(order)[0];
}

/** The first claim: adaptive exit needs at most 60 % of the recurrences at equal accuracy. `base` is plain at the exits' full depth. */
export function exitVerdict(exits: readonly Measured[], base: Measured, plain: readonly Measured[]): Verdict {
  const claim = 'adaptive exit at equal accuracy needs at most 60 % of the recurrences';
  const best = bestExit(exits, base)!;
  const holding = exits.filter((row) => holdsExit(row, base)).length;
  const figures = (row: Measured) =>
    `${row.name} needs ${short(row.meanRecurrences)} of ${short(base.meanRecurrences)} recurrences (${percent(share(row, base))}) at ${percent(row.accuracy)} against ${percent(base.accuracy)}`;
  const shallow = [...plain].sort((a, b) => a.meanRecurrences - b.meanRecurrences).find((row) => equal(row, base))!;
  const fixed = `without a rule, ${shallow.name} is the shallowest that is as accurate`;
  return {
    claim,
    holds: holding > 0,
    evidence: `${figures(best)}; ${holding} of ${exits.length} settings hold; ${fixed}`,
  };
}

/** The second claim: one loop's modulo budget costs at most 2 points. */
export function budgetVerdict(row: Measured, base: Measured): Verdict {
  const points = 100 * (base.accuracy - row.accuracy);
  const bytes = (one: Measured) => `${Math.round(one.kvBytesPerToken)} bytes`;
  const cost = points > 0 ? `costs ${points.toFixed(1)} points` : points < 0 ? `gains ${(-points).toFixed(1)} points` : 'costs nothing';
  return {
    claim: "one loop's modulo budget costs at most 2 points",
    holds: points <= MOST_POINTS + 1e-9,
    evidence: `${row.name} ${cost}: ${percent(row.accuracy)} against ${percent(base.accuracy)}, with ${bytes(row)} of ${bytes(base)} a token`,
  };
}
