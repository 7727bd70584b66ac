import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import { type ScoredToken, type ScoreOptions, score } from './score.js';

export interface AgreementOptions extends Omit<ScoreOptions, 'seed'> {
  /** Seeds of the initial states to compare; 8 when a number or absent: 0, 1, ... */
  readonly seeds?: number | readonly number[];
}

export interface TokenAgreement {
  readonly token: number;
  /** Share of the initial states from which the token is the most likely one. */
  readonly agreement: number;
  /** Mean and standard deviation of its log-probability over the initial states. */
  readonly meanLogprob: number;
  readonly deviation: number;
}

/**
 * How much a continuation depends on where its recurrences start: the same text is scored from several random initial states, and each
 * token gets the share of them that agree with it. A model that has made up its mind agrees with itself. Throws OptionError.
 */
export async function agreement(options: AgreementOptions): Promise<TokenAgreement[]> {
  const { seeds: asked = 8, ...rest } = options;
  refuseUnknownOptions('agreement', rest, [
    'model',
    'tokenizer',
    'prompt',
    'continuation',
    'recurrences',
    'initScale',
    'chunk',
    'policy',
    'signal',
  ]);
  const seeds = typeof asked === 'number' ? Array.from({ length: Number.isInteger(asked) && asked > 0 ? asked : 0 }, (_, i) => i) : asked;
  if (seeds.length === 0) throw new OptionError(`agreement: seeds must be a count from 1 or a list of seeds; got ${JSON.stringify(asked)}`);
  const runs: (readonly ScoredToken[])[] = [];
  for (const seed of seeds) runs.push((await score({ ...rest, seed })).tokens);
  return runs[0]!.map(({ token }, i) => {
    const logprobs = runs.map((tokens) => tokens[i]!.logprob);
    const meanLogprob = logprobs.reduce((sum, x) => sum + x, 0) / logprobs.length;
    const deviation = Math.sqrt(logprobs.reduce((sum, x) => sum + (x - meanLogprob) ** 2, 0) / logprobs.length);
    return { token, agreement: runs.filter((tokens) => tokens[i]!.best).length / runs.length, meanLogprob, deviation };
  });
}
