import { parameterShapes } from '@unroll/recurrent';
import { CommandError } from '../errors.js';
import { accuracyOf, type DepthResult, evaluate, type Problem } from '../eval/evaluate.js';
import type { Io } from '../io.js';
import { loadModel } from '../model/load.js';
import { createProgress, type Progress } from '../progress.js';
import { grouped, percent, type Style, styleFor, table } from '../style.js';

const DEPTHS = [1, 2, 3, 4, 8] as const;
/** Problems counted of each number of digits; of the first so many, those to show are picked. */
const COUNTED = 100;
const LOOKED_THROUGH = 24;

/** Digits of the longest number of "12+345=". */
const digitsOf = ({ prompt }: Problem): number => Math.max(...(prompt.match(/\d+/g) ?? ['']).map((number) => number.length));

/** Problems by number of digits, where there are enough of them to count. */
function byDigits(problems: readonly Problem[]): [number, Problem[]][] {
  const groups = new Map<number, Problem[]>();
  for (const problem of problems) groups.set(digitsOf(problem), [...(groups.get(digitsOf(problem)) ?? []), problem]);
  return [...groups].filter(([, group]) => group.length >= LOOKED_THROUGH).sort(([a], [b]) => a - b);
}

type Groups = ReturnType<typeof byDigits>;
type Answerer = (problems: readonly Problem[], depths: readonly number[], bar?: Progress) => Promise<DepthResult[]>;

/** Of each number of digits, the first problem and the first that a depth of 1 gets wrong: where depth does nothing, and where it may. */
async function pick(groups: Groups, answer: Answerer): Promise<Problem[]> {
  const early = groups.flatMap(([, group]) => group.slice(0, LOOKED_THROUGH));
  const [{ correct }] = (await answer(early, [1])) as [DepthResult];
  return groups.flatMap(([digits, group]) => {
    const wrong = early.find((problem, i) => digitsOf(problem) === digits && !correct[i] && problem !== group[0]);
    return wrong === undefined ? [group[0]!] : [group[0]!, wrong];
  });
}

const verdict = (style: Style, answer: string, right: boolean): string => (right ? style.green(`${answer} ✓`) : style.red(`${answer} ✗`));

async function showProblems(groups: Groups, answer: Answerer, io: Io, style: Style): Promise<void> {
  const shown = await pick(groups, answer);
  const columns = await answer(shown, DEPTHS);
  const rows = shown.map(({ prompt, answer: right }, i) => [
    prompt,
    style.dim(right),
    ...columns.map((column) => verdict(style, column.answers[i]!, column.correct[i]!)),
  ]);
  io.stdout.write(
    `\n${style.bold('The same problems at growing depth')}: of each length, the first problem and the first that depth 1 gets wrong\n\n` +
      table([['', style.dim('right'), ...DEPTHS.map((depth) => style.bold(`depth ${depth}`))], ...rows]),
  );
}

async function showAccuracy(groups: Groups, answer: Answerer, progress: Progress, io: Io, style: Style): Promise<string> {
  const counted = groups.flatMap(([, group]) => group.slice(0, COUNTED));
  const results = await answer(counted, DEPTHS, progress);
  progress.done();
  const rows = groups.map(([digits]) => {
    const own = counted.flatMap((problem, i) => (digitsOf(problem) === digits ? [i] : []));
    return [`${digits} digits`, ...results.map(({ correct }) => percent(accuracyOf(own.map((i) => correct[i]!))))];
  });
  const all = results.map(({ correct }) => accuracyOf(correct));
  io.stdout.write(
    `\n${style.bold('Right answers')} among ${counted.length} problems, by number of digits\n\n` +
      table([
        ['', ...DEPTHS.map((depth) => style.bold(`depth ${depth}`))],
        ...rows,
        ['all', ...all.map((share) => style.bold(percent(share)))],
      ]),
  );
  const enough = DEPTHS[all.findIndex((share) => share >= Math.max(...all) - 0.01)];
  return `The same weights answer ${percent(all[0]!)} at depth 1 and ${percent(all[all.length - 1]!)} at depth ${DEPTHS[DEPTHS.length - 1]}; from depth ${enough} on, at most a point more is gained.`;
}

/** What the program does without arguments: shows that depth is a dial, on the embedded model, and how to go on. */
export async function runDemo(io: Io): Promise<number> {
  const started = performance.now();
  const style = styleFor(io);
  const loaded = await loadModel({}, io);
  const progress = createProgress(io);
  try {
    if (loaded.problems === undefined) throw new CommandError('the default model has no problems to show');
    const values = grouped([...parameterShapes(loaded.config).values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0));
    io.stdout.write(
      `\n${style.bold('Unroll')} runs language models whose depth is a dial: one block of layers is repeated before each token, as often as you like.\n` +
        `Below, a model of ${values} parameters adds numbers that it never saw in training, here on your CPU.\n`,
    );
    const groups = byDigits(loaded.problems);
    const answer: Answerer = async (problems, depths, bar) => {
      const options = { depths, seed: 0, initScale: 0, batchSize: 32 };
      const results: DepthResult[] = [];
      const label = `answering ${problems.length} problems at ${depths.length} depths`;
      for await (const result of evaluate(loaded, problems, options, io, (fraction) => bar?.update(fraction, label))) results.push(result);
      return results;
    };
    await showProblems(groups, answer, io, style);
    const conclusion = await showAccuracy(groups, answer, progress, io, style);
    io.stdout.write(`\n${conclusion}\n${style.dim(`(${((performance.now() - started) / 1000).toFixed(1)} s)`)}\n`);
    io.stdout.write(nextSteps(style));
    return 0;
  } finally {
    progress.done();
    await loaded.dispose();
  }
}

function nextSteps(style: Style): string {
  const commands = [
    ['npm start -- generate "731+94=" --depth 1', 'your own sum, thought about once'],
    ['npm start -- generate "731+94=" --depth 8', 'the same, eight times'],
    ['npm start -- chat', 'type sums, change the depth with /depth'],
    ['npm start -- inspect', 'parameters, cost and memory by depth'],
    ['npm start -- --help', 'all commands'],
  ];
  return `\n${style.bold('Go on with')}\n${table(
    commands.map(([command, what]) => [style.cyan(command!), style.dim(what!)]),
    { left: [0, 1] },
  )}\n`;
}
