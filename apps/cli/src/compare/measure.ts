import { generate, type RunReport } from '@unroll/sampler';
import { OptionError, UnrollError } from '@unroll/tensor';
import type { encodeAll } from '../eval/evaluate.js';
import type { Io } from '../io.js';
import type { LoadedModel } from '../model/load.js';
import type { Strategy } from './strategies.js';

export type EncodedProblems = ReturnType<typeof encodeAll>;

/** What a strategy did on a set of problems. "Per token" is per new token, prefill included. */
export interface Measured {
  readonly name: string;
  readonly kind: Strategy['kind'];
  readonly n: number;
  readonly right: number;
  readonly accuracy: number;
  readonly newTokens: number;
  /** Depth behind a new token. */
  readonly meanRecurrences: number;
  /** Calls of the core. */
  readonly corePassesPerToken: number;
  /** Positions through the core: the work, where passes are the latency. */
  readonly corePositionsPerToken: number;
  /** Drafts accepted of those made; null without drafts. */
  readonly acceptance: number | null;
  /** Bytes of keys and values of a token in the cache, at the end of a text. */
  readonly kvBytesPerToken: number;
  readonly tokensPerSecond: number;
  readonly exit?: Strategy['exit'];
  /** Problems whose wavefront never settled: wrong, and without a part in the other figures. */
  readonly unsettled: number;
  /** One report for each problem that ended. */
  readonly reports: readonly RunReport[];
}

export interface MeasureOptions {
  readonly seed: number;
  readonly initScale: number;
}

/** Counts of one strategy as they grow. */
interface Tally {
  readonly strategy: Strategy;
  readonly reports: RunReport[];
  right: number;
  ms: number;
}

function summary({ strategy, reports, right, ms }: Tally, n: number): Measured {
  const sum = (of: (report: RunReport) => number) => reports.reduce((total, report) => total + of(report), 0);
  const newTokens = sum((report) => report.newTokens);
  const drafted = sum((report) => report.speculation?.drafted ?? 0);
  return {
    name: strategy.name,
    kind: strategy.kind,
    n,
    right,
    accuracy: right / n,
    newTokens,
    meanRecurrences: sum((report) => report.meanRecurrences * report.newTokens) / newTokens,
    corePassesPerToken: sum((report) => report.corePasses) / newTokens,
    corePositionsPerToken: sum((report) => report.corePositions) / newTokens,
    acceptance: drafted === 0 ? null : sum((report) => report.speculation?.accepted ?? 0) / drafted,
    kvBytesPerToken: sum((report) => report.cache.logicalBytes) / sum((report) => report.cache.tokens),
    tokensPerSecond: (1000 * newTokens) / ms,
    unsettled: n - reports.length,
    ...(strategy.exit === undefined ? {} : { exit: strategy.exit }),
    reports,
  };
}

export interface Measurement {
  readonly measured: readonly Measured[];
  /** Strategies that refuse this model, with the reason. */
  readonly refused: readonly { readonly name: string; readonly reason: string }[];
}

/**
 * Answers each problem by itself, greedily, with every strategy in turn: when the machine is busy with something else, that falls on
 * all of them.
 */
export async function measure(
  loaded: LoadedModel,
  { encoded, longestAnswer }: EncodedProblems,
  strategies: readonly Strategy[],
  { seed, initScale }: MeasureOptions,
  io: Io,
  onProgress: (fraction: number) => void = () => undefined,
): Promise<Measurement> {
  const { model, tokenizer } = loaded;
  const refused: { name: string; reason: string }[] = [];
  let tallies: readonly Tally[] = strategies.map((strategy) => ({ strategy, reports: [], right: 0, ms: 0 }));
  for (const [i, { tokens, answer }] of encoded.entries()) {
    const maxNewTokens = Math.min(longestAnswer + 2, model.contextLength - tokens.length);
    for (const tally of tallies) {
      const { strategy } = tally;
      let text = '';
      let report: RunReport | undefined;
      const started = performance.now();
      const run = generate({ model, tokenizer: tokenizer!, prompt: tokens, maxNewTokens, seed, initScale, ...strategy.options });
      try {
        for await (const item of run) {
          text += item.text;
          report = item.report;
        }
      } catch (error) {
        if (error instanceof OptionError) refused.push({ name: strategy.name, reason: error.message });
        else if (strategy.kind !== 'wavefront' || !UnrollError.is(error)) throw error;
      }
      if (report !== undefined) {
        tally.ms += performance.now() - started;
        tally.reports.push(report);
        if (text.trim() === answer.trim()) tally.right++;
      }
      await io.breathe();
    }
    tallies = tallies.filter(({ strategy }) => !refused.some(({ name }) => name === strategy.name));
    onProgress((i + 1) / encoded.length);
  }
  return { measured: tallies.map((tally) => summary(tally, encoded.length)), refused };
}
