import type { Finish, GeneratedToken } from './emit.js';
import type { RunReport } from './run.js';

/** A text that has ended. */
export interface Collected<Item extends GeneratedToken = GeneratedToken> {
  /** '' without a tokenizer. */
  readonly text: string;
  readonly tokens: readonly number[];
  /** Depth of each token. */
  readonly recurrences: readonly number[];
  /** Sum of the tokens' log-probabilities; NaN where the run gives none. */
  readonly logprob: number;
  /** Everything that came with each token. */
  readonly items: readonly Item[];
  /** Missing where no token was asked for, as is the report. */
  readonly finish?: Finish;
  readonly report?: RunReport;
}

/**
 * Waits for one text: that of `generate`, `Session.generate`, `Scheduler.add` or `generateRecovering`. Throws what the run throws.
 *
 * @example
 * const { text, report } = await collect(generate({ model, tokenizer, prompt }));
 */
export async function collect<Item extends GeneratedToken>(run: AsyncIterable<Item>): Promise<Collected<Item>> {
  const items: Item[] = [];
  for await (const item of run) items.push(item);
  const last = items[items.length - 1];
  return {
    text: items.map(({ text }) => text).join(''),
    tokens: items.map(({ token }) => token),
    recurrences: items.map(({ recurrences }) => recurrences),
    logprob: items.reduce((sum, { logprob }) => sum + logprob, 0),
    items,
    ...(last?.finish === undefined ? {} : { finish: last.finish }),
    ...(last?.report === undefined ? {} : { report: last.report }),
  };
}
