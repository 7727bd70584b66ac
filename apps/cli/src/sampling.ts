import type { GenerateOptions } from '@unroll/sampler';
import { type Flags, readDepth, readList, readNumber, readText, readWhole } from './args.js';
import { UsageError } from './errors.js';

/** The sampling and state flags as options of `generate`; absent flags are absent. Throws UsageError. */
export function samplingOptions(flags: Flags): Partial<GenerateOptions> {
  const options: { readonly [K in keyof GenerateOptions]?: GenerateOptions[K] | undefined } = {
    recurrences: readDepth(flags),
    maxNewTokens: readWhole(flags, 'max-new-tokens', 0),
    temperature: readNumber(flags, 'temperature', 0, 1e6),
    topK: readWhole(flags, 'top-k', 1),
    topP: readNumber(flags, 'top-p', Number.MIN_VALUE, 1, 'a number above 0, at most 1'),
    minP: readNumber(flags, 'min-p', 0, 1),
    repetitionPenalty: readNumber(flags, 'repetition-penalty', 0.01, 100),
    presencePenalty: readNumber(flags, 'presence-penalty', -100, 100),
    frequencyPenalty: readNumber(flags, 'frequency-penalty', -100, 100),
    alternatives: readWhole(flags, 'alternatives', 0, 1000),
    stopStrings: readList(flags, 'stop'),
    seed: readWhole(flags, 'seed', 0),
    initScale: readNumber(flags, 'init-scale', 0, 1e6),
  };
  if (options.stopStrings?.includes('')) throw new UsageError('--stop must be a text of at least one character; got ""');
  if (options.temperature === undefined) {
    const alone = ['top-k', 'top-p', 'min-p'].find((name) => readText(flags, name) !== undefined);
    if (alone !== undefined)
      throw new UsageError(
        `--${alone} says what is sampled from, and without --temperature the most likely token is taken; give --temperature X with it, such as 1`,
      );
  }
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
