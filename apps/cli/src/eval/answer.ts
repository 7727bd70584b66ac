import { leftPaddedPositions } from '@unroll/nn';
import type { RecurrentModel } from '@unroll/recurrent';
import { argmax, reshape, type Tensor, tidy } from '@unroll/tensor';
import { CommandError } from '../errors.js';
import type { Io } from '../io.js';

export interface AnswerOptions {
  readonly recurrences: number;
  readonly maxNewTokens: number;
  readonly seed: number;
  readonly initScale: number;
  readonly stopTokens: ReadonlySet<number>;
}

/**
 * Greedy continuations of a batch of prompts, each up to a stop token (left out) or `maxNewTokens`. A row is what it would be alone:
 * prompts are padded on the left, and rows that have ended are padding from there on.
 */
export async function answerBatch(model: RecurrentModel, prompts: readonly (readonly number[])[], options: AnswerOptions, io: Io): Promise<number[][]> {
  const B = prompts.length;
  const answers: number[][] = prompts.map(() => []);
  const running = new Set(prompts.keys());
  const cache = model.createCache({ batch: B });
  try {
    let rows: readonly (readonly number[])[] = prompts;
    let start = prompts.map(() => 0);
    for (let n = 0; n < options.maxNewTokens && running.size > 0; n++) {
      const best = await nextTokens(model, cache, rows, start, options);
      await io.breathe();
      start = start.map((length, b) => length + rows[b]!.length);
      for (const b of [...running]) {
        if (options.stopTokens.has(best[b]!)) running.delete(b);
        else answers[b]!.push(best[b]!);
      }
      rows = prompts.map((_, b) => (running.has(b) ? [best[b]!] : []));
    }
    return answers;
  } finally {
    cache.dispose();
  }
}

/** The most likely next token of each row (B), whose new tokens stand at `start` and on. */
async function nextTokens(
  model: RecurrentModel,
  cache: ReturnType<RecurrentModel['createCache']>,
  rows: readonly (readonly number[])[],
  start: readonly number[],
  { recurrences, seed, initScale }: AnswerOptions,
): Promise<Int32Array> {
  const lengths = rows.map((row) => row.length);
  const T = Math.max(...lengths);
  const tokens = new Int32Array(rows.length * T);
  rows.forEach((row, b) => tokens.set(row, b * T + T - row.length));
  const [best, logits] = tidy(model.device, () => {
    const pass = cache.begin(leftPaddedPositions(lengths, start));
    try {
      const e = model.prelude(model.device.tensor(tokens, [rows.length, T], { dtype: 'i32' }), pass);
      let state = model.initialState(pass, { seed, scale: initScale });
      for (let loop = 0; loop < recurrences; loop++) {
        const next = model.step(e, state, loop, pass);
        state.dispose();
        state = next;
      }
      const logits = reshape(model.readout(state, pass, { positions: 'last' }), [rows.length, model.vocabularySize]);
      return [argmax(logits), logits] as [Tensor<'i32'>, Tensor];
    } finally {
      pass.dispose();
    }
  });
  const [values, all] = await Promise.all([best.data(), logits.data()]);
  best.dispose();
  logits.dispose();
  if (all.some(Number.isNaN)) throw new CommandError('the logits are not numbers: the state diverged; lower --init-scale or the depth');
  return values;
}
