import { CommandError } from '../errors.js';
import { accuracyOf, type DepthResult, evaluate, type Problem } from '../eval/evaluate.js';
import type { Io } from '../io.js';
import { loadModel } from '../model/load.js';
import { createProgress } from '../progress.js';
import { grouped, percent, type Style, styleFor, table } from '../style.js';

const DEPTHS = [1, 2, 3, 4, 8] as const;
/** Problems shown one by one, and problems counted, of each number of digits. */
const SHOWN = 2;
const COUNTED = 100;

/** Digits of the longest number of "12+345=". */
const digitsOf = ({ prompt }: Problem): number => Math.max(...(prompt.match(/\d+/g) ?? ['']).map((number) => number.length));

function byDigits(problems: readonly Problem[]): [number, Problem[]][] {
  const groups = new Map<number, Problem[]>();
  for (const problem of problems) groups.set(digitsOf(problem), [...(groups.get(digitsOf(problem)) ?? []), problem]);
  return [...groups].sort(([a], [b]) => a - b);
}

const verdict = (style: Style, answer: string, right: boolean): string => (right ? style.green(`${answer} ✓`) : style.red(`${answer} ✗`));

/** What the program does without arguments: shows that depth is a dial, on the embedded model, and how to go on. */
export async function runDemo(io: Io): Promise<number> {
  const started = performance.now();
  const style = styleFor(io);
  const loaded = await loadModel({}, io);
  const progress = createProgress(io);
  try {
    if (loaded.problems === undefined) throw new CommandError('the default model has no problems to show');
    const { config, checkpoint } = loaded;
    const values = checkpoint.totalBytes / 4;
    io.stdout.write(
      `\n${style.bold('Unroll')} runs language models whose depth is a dial: one block of layers is repeated as often as you like before each token.\n` +
        `Below, a model of ${grouped(values)} parameters (${config.coreLayers} layers in its loop) adds numbers that it never saw in training, here on your CPU.\n`,
    );
    const groups = byDigits(loaded.problems);
    const shown = groups.flatMap(([, group]) => group.slice(0, SHOWN));
    const evaluation = { depths: DEPTHS, seed: 0, initScale: 0, batchSize: 32 };

    const columns: DepthResult[] = [];
    for await (const column of evaluate(loaded, shown, evaluation, io)) columns.push(column);
    const depthHead = DEPTHS.map((depth) => style.bold(`depth ${depth}`));
    io.stdout.write(`\n${style.bold('The same problems at growing depth')} (repetitions of the loop per token)\n\n`);
    const answers = shown.map(({ prompt, answer }, i) => [
      prompt,
      style.dim(answer),
      ...columns.map((column) => verdict(style, column.answers[i]!, column.correct[i]!)),
    ]);
    io.stdout.write(table([['', style.dim('right'), ...depthHead], ...answers]));

    const counted = groups.flatMap(([, group]) => group.slice(0, COUNTED));
    const results: DepthResult[] = [];
    for await (const result of evaluate(loaded, counted, evaluation, io, (fraction) => progress.update(fraction, `answering ${counted.length} problems at ${DEPTHS.length} depths`))) {
      results.push(result);
    }
    progress.done();
    io.stdout.write(`\n${style.bold('Right answers')} among ${counted.length} problems, by number of digits\n\n`);
    const rows = groups.map(([digits]) => {
      const own = counted.flatMap((problem, i) => (digitsOf(problem) === digits ? [i] : []));
      return [`${digits} digits`, ...results.map(({ correct }) => percent(accuracyOf(own.map((i) => correct[i]!))))];
    });
    const all = ['all', ...results.map(({ correct }) => style.bold(percent(accuracyOf(correct))))];
    io.stdout.write(table([['', ...depthHead], ...rows, all]));

    const seconds = (performance.now() - started) / 1000;
    io.stdout.write(`\nShort sums need one repetition, longer ones need more; past four there is nothing left to gain. (${seconds.toFixed(1)} s)\n`);
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
