import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import type { DepthByToken } from './run.js';

export interface TargetDepthOptions {
  /** Tokens per second to keep up. Give this or `budgetMs`. */
  readonly tokensPerSecond?: number;
  /** Milliseconds for `tokens` tokens in all. */
  readonly budgetMs?: number;
  /** How many tokens the budget is for; as an option of a run, its most new tokens when absent. */
  readonly tokens?: number;
  /** Least and most recurrences; 1 and 64 when absent. */
  readonly least?: number;
  readonly most?: number;
  /** The first token's depth, before anything is measured; a quarter of `most` when absent. */
  readonly start?: number;
  /** Milliseconds since some moment; `performance.now` when absent. */
  readonly now?: () => number;
}

/**
 * A depth by token that holds a speed: measures what a token of a given depth costs and picks the deepest recurrence that the time left
 * per token allows. Time that a token did not use is there for the next ones. Its cost model is fixed + depth times slope, fitted to the
 * last tokens. For `recurrences`, which takes the target itself as well and then makes a controller for each run; each token reports its depth. Use a
 * new one for each run. Throws OptionError.
 */
export function targetDepth(options: TargetDepthOptions): DepthByToken {
  refuseUnknownOptions('targetDepth', options, ['tokensPerSecond', 'budgetMs', 'tokens', 'least', 'most', 'start', 'now']);
  const { tokensPerSecond, budgetMs, tokens, least = 1, most = 64, now = () => performance.now() } = options;
  if ((tokensPerSecond === undefined) === (budgetMs === undefined))
    throw new OptionError('targetDepth: give tokensPerSecond, or budgetMs and tokens');
  if (budgetMs !== undefined && !(Number.isInteger(tokens) && tokens! >= 1))
    throw new OptionError(`targetDepth: budgetMs needs tokens, a whole number from 1; got ${tokens}`);
  if (!((tokensPerSecond ?? budgetMs)! > 0))
    throw new OptionError(`targetDepth: the target must be above 0; got ${tokensPerSecond ?? budgetMs}`);
  if (!Number.isInteger(least) || !Number.isInteger(most) || least < 1 || most < least)
    throw new OptionError(`targetDepth: least and most must be whole numbers, 1 <= least <= most; got ${least} and ${most}`);
  const perToken = tokensPerSecond === undefined ? budgetMs! / tokens! : 1000 / tokensPerSecond;
  const clamp = (depth: number) => Math.max(least, Math.min(most, Math.floor(depth)));
  const samples: { depth: number; ms: number }[] = [];
  let began = 0;
  let last = { depth: clamp(options.start ?? most / 4), at: 0 };
  return (index) => {
    const at = now();
    if (index === 0) {
      last = { ...last, at };
      return last.depth;
    }
    // The first token is the prompt: its time says nothing about the others.
    if (index === 1) began = at;
    else samples.push({ depth: last.depth, ms: at - last.at });
    if (samples.length > 16) samples.shift();
    const spare = perToken * (index - 1) - (at - began);
    last = { depth: samples.length === 0 ? last.depth : clamp(affordable(samples, perToken + spare / 4)), at };
    return last.depth;
  };
}

/** A controller for a run of at most `longest` new tokens. */
export const controllerFor = (target: TargetDepthOptions, longest: number): DepthByToken =>
  targetDepth(target.budgetMs === undefined ? target : { tokens: Math.max(1, longest), ...target });

/** The depth whose cost, by least squares over the samples, is `ms`. */
function affordable(samples: readonly { depth: number; ms: number }[], ms: number): number {
  const mean = (of: (sample: { depth: number; ms: number }) => number) =>
    samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  const [d, t] = [mean(({ depth }) => depth), mean(({ ms: time }) => time)];
  const variance = mean(({ depth }) => (depth - d) ** 2);
  const slope = variance > 0 ? mean(({ depth, ms: time }) => (depth - d) * (time - t)) / variance : t / d;
  // One depth only, or noise that gives deeper tokens less time: take all cost as proportional to depth.
  const fixed = slope > 0 ? Math.max(0, t - slope * d) : 0;
  return (ms - fixed) / (slope > 0 ? Math.min(slope, t / d) : Math.max(t / d, 1e-6));
}
