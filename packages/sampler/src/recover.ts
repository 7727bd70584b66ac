import { DeviceLostError, OptionError, refuseUnknownOptions, UnrollError } from '@unroll/tensor';
import type { GeneratedToken } from './emit.js';
import { type GenerateOptions, generate } from './generate.js';
import type { LanguageModel } from './language-model.js';
import { commonNames } from './options.js';
import type { DepthByToken } from './run.js';
import { controllerFor } from './target-depth.js';

export interface RecoveringOptions extends Omit<GenerateOptions, 'cache'> {
  /** Makes the model again, on a new device, after the device of `lost` was lost. What it gives is the caller's to dispose. */
  readonly recover: (lost: LanguageModel, error: DeviceLostError) => Promise<LanguageModel>;
  /** Most losses to recover from; beyond it, the loss is thrown. 3 unless given. */
  readonly maxLosses?: number;
}

/**
 * As `generate`, but goes on after the loss of a device: `recover` makes the model on a new one, the run is repeated there up to the token
 * that came last, and the tokens behind it follow. All randomness is keyed by seed and position, so that any strategy repeats itself.
 * Throws UnrollError when the repetition leaves the tokens that were given already, and what `recover` throws.
 *
 * @example
 * for await (const { text } of generateRecovering({ model, tokenizer, prompt, recover: () => load() })) process.stdout.write(text);
 */
export async function* generateRecovering(options: RecoveringOptions): AsyncGenerator<GeneratedToken, void, void> {
  refuseUnknownOptions('generateRecovering', options, [...commonNames, 'prompt', 'recover', 'maxLosses']);
  const { recover, maxLosses = 3, ...rest } = options;
  if (!Number.isInteger(maxLosses) || maxLosses < 0)
    throw new OptionError(`generateRecovering: maxLosses must be a whole number from 0; got ${maxLosses}`);
  const given: GeneratedToken[] = [];
  const { recurrences } = rest;
  const ask = typeof recurrences === 'object' ? controllerFor(recurrences, rest.maxNewTokens ?? 256) : recurrences;
  // What was asked by token, or held a speed, is repeated as it was.
  const asked = new Map<number, number>();
  const remembered = (index: number): number => {
    const depth = asked.get(index) ?? (ask as DepthByToken)(index);
    asked.set(index, depth);
    return depth;
  };
  const depth = typeof ask === 'function' ? { recurrences: remembered } : {};
  let { model } = options;
  for (let losses = 0; ; losses++) {
    try {
      let at = 0;
      for await (const item of generate({ ...rest, ...depth, model })) {
        const before = given[at++];
        if (before === undefined) {
          given.push(item);
          yield item;
        } else if (before.token !== item.token) {
          throw new UnrollError(
            `generateRecovering: after the loss of the device, token ${at} came out as ${item.token}; it was ${before.token}. The new device or its model differs from the lost one`,
          );
        }
      }
      return;
    } catch (error) {
      if (!(error instanceof DeviceLostError) || losses >= maxLosses) throw error;
      model = await recover(model, error);
    }
  }
}
