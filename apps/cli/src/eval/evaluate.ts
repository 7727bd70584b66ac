import { type CommonOptions, generateBatch } from '@unroll/sampler';
import { CommandError, UsageError } from '../errors.js';
import type { Io } from '../io.js';
import type { LoadedModel } from '../model/load.js';

export interface Problem {
  /** Where it is from, such as `"file", line 3`. */
  readonly where?: string;
  readonly prompt: string;
  readonly answer: string;
  /** Of a line of a file, other fields. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** A problem in tokens, with its place in the file. */
export interface Encoded {
  readonly index: number;
  readonly tokens: readonly number[];
  readonly answer: string;
}

export interface EvaluateOptions {
  readonly depths: readonly number[];
  readonly seed: number;
  readonly initScale: number;
  readonly batchSize: number;
  /** Ends the work, also inside a token; its reason is thrown. */
  readonly signal?: AbortSignal;
  /** Most tokens of an answer; the longest right answer and two more when absent. */
  readonly maxNewTokens?: number | undefined;
  /** How the recurrences of each token run; to the full depth when absent. */
  readonly strategy?: Pick<CommonOptions, 'exit' | 'warmStart' | 'policy'>;
}

export interface DepthResult {
  readonly depth: number;
  /** Of each problem: was the answer exactly right. */
  readonly correct: readonly boolean[];
  readonly answers: readonly string[];
  /** Over all generated tokens. */
  readonly meanRecurrences: number;
  /** Of each problem, over the tokens generated for it. */
  readonly recurrences: readonly number[];
}

/** Problems in tokens, the shortest first, and the tokens of the longest right answer. Throws UsageError without a tokenizer, CommandError. */
export function encodeAll(loaded: LoadedModel, problems: readonly Problem[]): { encoded: Encoded[]; longestAnswer: number } {
  const { tokenizer, model } = loaded;
  if (tokenizer === undefined)
    throw new UsageError(`"${loaded.name}" has no tokenizer.json; eval works on text, so give a model that has one`);
  let longestAnswer = 0;
  const encoded = problems.map(({ prompt, answer, where }, index) => {
    let field = 'prompt';
    try {
      const tokens = tokenizer.encode(prompt);
      if (tokens.length === 0) throw new CommandError('it has no tokens');
      if (tokens.length >= model.contextLength)
        throw new CommandError(`it has ${tokens.length} tokens, the context ${model.contextLength}`);
      field = 'answer';
      longestAnswer = Math.max(longestAnswer, tokenizer.encode(answer.trim(), { addSpecialTokens: false }).length);
      return { index, tokens, answer };
    } catch (error) {
      throw new CommandError(`${where ?? `problem ${index + 1}`}, ${field}: ${(error as Error).message}`);
    }
  });
  // Prompts of one length need no padding.
  return { encoded: encoded.sort((a, b) => a.tokens.length - b.tokens.length || a.index - b.index), longestAnswer };
}

/**
 * Answers all problems at each depth, greedily, and compares exactly, but for white space around the answer. Yields the depths in the
 * order given. Throws CommandError for problems that the model cannot read.
 */
export async function* evaluate(
  loaded: LoadedModel,
  problems: readonly Problem[],
  options: EvaluateOptions,
  io: Io,
  onProgress: (fraction: number, depth: number) => void = () => undefined,
): AsyncGenerator<DepthResult> {
  const { encoded, longestAnswer } = encodeAll(loaded, problems);
  const { model, tokenizer } = loaded;
  const total = options.depths.reduce((sum, depth) => sum + depth, 0) * encoded.length;
  let done = 0;
  for (const depth of options.depths) {
    const correct: boolean[] = new Array<boolean>(problems.length).fill(false);
    const answers: string[] = new Array<string>(problems.length).fill('');
    const spent = problems.map(() => ({ tokens: 0, recurrences: 0 }));
    for (let start = 0; start < encoded.length; start += options.batchSize) {
      const batch = encoded.slice(start, start + options.batchSize);
      const room = model.contextLength - Math.max(...batch.map(({ tokens }) => tokens.length));
      const texts = batch.map(() => '');
      const run = generateBatch({
        model,
        tokenizer: tokenizer!,
        prompts: batch.map(({ tokens }) => tokens),
        recurrences: depth,
        maxNewTokens: Math.min(options.maxNewTokens ?? longestAnswer + 2, room),
        seed: options.seed,
        initScale: options.initScale,
        ...options.strategy,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      });
      for await (const { prompt, text, recurrences } of run) {
        texts[prompt] += text;
        const own = spent[batch[prompt]!.index]!;
        own.tokens++;
        own.recurrences += recurrences;
        // Once for each step of the batch.
        if (prompt === 0) await io.breathe();
      }
      await io.breathe();
      batch.forEach(({ index, answer }, b) => {
        answers[index] = texts[b]!;
        correct[index] = texts[b]!.trim() === answer.trim();
      });
      done += batch.length * depth;
      onProgress(done / total, depth);
    }
    const sum = (pick: (own: { tokens: number; recurrences: number }) => number) => spent.reduce((total, own) => total + pick(own), 0);
    yield {
      depth,
      correct,
      answers,
      meanRecurrences: sum((own) => own.recurrences) / sum((own) => own.tokens),
      recurrences: spent.map((own) => own.recurrences / own.tokens),
    };
  }
}

export const accuracyOf = (correct: readonly boolean[]): number => correct.filter(Boolean).length / correct.length;
