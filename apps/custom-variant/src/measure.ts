import type { RecurrentModel } from '@unroll/recurrent';
import { generateBatch } from '@unroll/sampler';
import type { Tokenizer } from '@unroll/tokenizer';
import { lossByDepth, type Problem, packProblems, parity, problemFor, Random, solvedByDepth } from '@unroll/train';
import { gateExit } from './gate-exit.js';
import { mostBits } from './recipes.js';

/** Problems of like difficulty. */
export interface Group {
  readonly title: string;
  readonly problems: readonly Problem[];
}

const ranges: readonly (readonly [number, number])[] = [
  [6, 8],
  [9, 11],
  [12, 14],
  [15, 16],
  [17, 20],
];

/** Held-out problems by their number of bits, at most `count` of each range and each once; the last range is longer than any trained on. */
export const heldOutGroups = (count: number): Group[] =>
  ranges.map(([low, high]) => {
    const found = new Map<string, Problem>();
    for (let i = 0; found.size < count && i < 40 * count; i++) {
      const problem = problemFor(parity, new Random(low, 'validation', i), low + (i % (high - low + 1)), true);
      found.set(problem.key, problem);
    }
    return { title: `${low} to ${high} bits${low > mostBits ? ', not trained on' : ''}`, problems: [...found.values()] };
  });

const pack = (problems: readonly Problem[], model: RecurrentModel) =>
  packProblems(
    problems.map((problem) => [problem]),
    model.contextLength,
  );
const shareOf = (solved: readonly boolean[]) => solved.filter(Boolean).length / solved.length;

export interface DepthTable {
  /** Mean cross-entropy of the answers, in nats, at each depth; the last group left out. */
  readonly losses: readonly number[];
  /** Share of right answers, `[group][depth]`. */
  readonly solved: readonly (readonly number[])[];
}

// #region depth
/** How held-out problems are answered at each depth, from the zero state. */
export async function measureDepths(model: RecurrentModel, groups: readonly Group[], depths: readonly number[]): Promise<DepthTable> {
  const trained = groups.slice(0, -1).flatMap(({ problems }) => problems);
  const losses = await lossByDepth(model, pack(trained, model).data, depths);
  const solved: number[][] = [];
  for (const { problems } of groups) solved.push((await solvedByDepth(model, pack(problems, model), depths)).map(shareOf));
  return { losses: losses.map(({ loss }) => loss), solved };
}
// #endregion depth

export interface ExitResult {
  /** Loops behind which the answer was given, in the mean. */
  readonly loops: number;
  /** Share of right answers. */
  readonly solved: number;
}

// #region exits
/** The same problems, each ended by the gate. */
export async function measureExits(
  model: RecurrentModel,
  tokenizer: Tokenizer,
  { problems }: Group,
  threshold: number,
): Promise<ExitResult> {
  const answers = problems.map(() => ({ text: '', loops: 0 }));
  const prompts = problems.map(({ prompt }) => prompt);
  for await (const { prompt, text, recurrences } of generateBatch({
    model,
    tokenizer,
    prompts,
    recurrences: model.meanRecurrence,
    maxNewTokens: 2,
    exit: gateExit(model, threshold),
  })) {
    const answer = answers[prompt]!;
    // The answer is one token, behind it comes the newline.
    if (answer.text === '') answer.loops = recurrences;
    answer.text += text;
  }
  return {
    loops: answers.reduce((sum, { loops }) => sum + loops, 0) / answers.length,
    solved: shareOf(answers.map(({ text }, i) => text.trim() === problems[i]!.answer)),
  };
}
// #endregion exits
