import type { Problem } from '@unroll/pretrained';
import { parameterShapes } from '@unroll/recurrent';
import { CommandError } from '../errors.js';
import { accuracyOf, type DepthResult, evaluate } from '../eval/evaluate.js';
import type { Io } from '../io.js';
import { loadModel } from '../model/load.js';
import { createProgress } from '../progress.js';
import { grouped, percent, type Style, styleFor, table } from '../style.js';

const MODEL = 'reckoner';
const DEPTHS = [1, 2, 4, 8, 16] as const;
/** Problems counted of each task, evenly from its levels; of so many, those to show are picked. */
const COUNTED = 60;
const SHOWN = 2;

/** Problems by task, evenly from its levels: the first, and every so many from there. */
function byTask(problems: readonly Problem[]): [string, Problem[]][] {
  const groups = new Map<string, Problem[]>();
  for (const problem of problems) {
    const task = String(problem.task);
    groups.set(task, [...(groups.get(task) ?? []), problem]);
  }
  return [...groups].map(([task, all]) => [task, Array.from({ length: COUNTED }, (_, i) => all[Math.floor((i * all.length) / COUNTED)]!)]);
}

/** How the tasks are written, for who sees them the first time. */
const TASKS = table(
  [
    ['#0110=', 'is the number of ones odd'],
    ['@07.74.40.…=0**', 'arrows from 0 to 7, 7 to 4, 4 to 0 and five more: three steps from node 0'],
    ['%314=', 'of 12345, swap places 3 and 4, then 1 and 2, then 4 and 5'],
    ['12+07=', 'a sum, with as many digits in each number'],
    ['&3142=', 'the sum of the digits modulo 5'],
  ],
  { left: [0, 1] },
);

type Groups = ReturnType<typeof byTask>;

/** Of each task, the first problems that depth 1 gets wrong and the greatest depth right: those that depth is good for. */
function pick(groups: Groups, results: readonly DepthResult[]): number[] {
  const [first, last] = [results[0]!, results[results.length - 1]!];
  let start = 0;
  return groups.flatMap(([, group]) => {
    const places = group.map((_, i) => start + i);
    start += group.length;
    return places.filter((i) => !first.correct[i] && last.correct[i]).slice(0, SHOWN);
  });
}

const verdict = (style: Style, answer: string, right: boolean): string => (right ? style.green(`${answer} ✓`) : style.red(`${answer} ✗`));

function showProblems(counted: readonly Problem[], shown: readonly number[], results: readonly DepthResult[], io: Io, style: Style): void {
  const rows = shown.map((i) => [
    counted[i]!.prompt,
    style.dim(counted[i]!.answer),
    ...results.map(({ answers, correct }) => verdict(style, answers[i]!.trim(), correct[i]!)),
  ]);
  io.stdout.write(
    `\n${style.bold('The same problems at growing depth')}: of each task, the first that depth 1 gets wrong and depth ${DEPTHS[DEPTHS.length - 1]} right\n\n` +
      table([['', style.dim('right'), ...DEPTHS.map((depth) => style.bold(`depth ${depth}`))], ...rows]),
  );
}

function showAccuracy(groups: Groups, results: readonly DepthResult[], io: Io, style: Style): string {
  let start = 0;
  const rows = groups.map(([task, group]) => {
    const [from, to] = [start, start + group.length];
    start = to;
    return [task, ...results.map(({ correct }) => percent(accuracyOf(correct.slice(from, to))))];
  });
  const all = results.map(({ correct }) => accuracyOf(correct));
  io.stdout.write(
    `\n${style.bold('Right answers')}, by task, among ${start} problems from easy to harder than it was trained on\n\n` +
      table([
        ['', ...DEPTHS.map((depth) => style.bold(`depth ${depth}`))],
        ...rows,
        ['all', ...all.map((share) => style.bold(percent(share)))],
      ]),
  );
  return `The same weights answer ${percent(all[0]!)} at depth 1 and ${percent(all[all.length - 1]!)} at depth ${DEPTHS[DEPTHS.length - 1]}.`;
}

/** What the program does without arguments: shows that depth is a dial, on the embedded model, and how to go on. */
export async function runDemo(io: Io): Promise<number> {
  const started = performance.now();
  const style = styleFor(io);
  const loaded = await loadModel({ model: MODEL }, io);
  const progress = createProgress(io);
  try {
    if (loaded.problems === undefined) throw new CommandError('the default model has no problems to show');
    const values = grouped([...parameterShapes(loaded.config).values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0));
    io.stdout.write(
      `\n${style.bold('Unroll')} runs language models whose depth is a dial: one block of layers is repeated before each token, as often as you like.\n` +
        `Below, a model of ${values} parameters solves problems that it never saw in training, here on your CPU.\n${TASKS}\n`,
    );
    const groups = byTask(loaded.problems);
    const counted = groups.flatMap(([, group]) => group);
    const results: DepthResult[] = [];
    const label = `answering ${counted.length} problems at ${DEPTHS.length} depths`;
    const options = { depths: DEPTHS, seed: 0, initScale: 0, batchSize: 60 };
    for await (const result of evaluate(loaded, counted, options, io, (fraction) => progress.update(fraction, label))) results.push(result);
    progress.done();
    showProblems(counted, pick(groups, results), results, io, style);
    const conclusion = showAccuracy(groups, results, io, style);
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
    ['npm start -- generate "#1011011011=" --depth 1', 'a parity, thought about once'],
    ['npm start -- generate "#1011011011=" --depth 16', 'the same, sixteen times'],
    ['npm start -- chat', 'type problems, change the depth with /depth'],
    ['npm start -- inspect', 'parameters, cost and memory by depth'],
    ['npm start -- --help', 'all commands'],
  ];
  return `\n${style.bold('Go on with')}\n${table(
    commands.map(([command, what]) => [style.cyan(command!), style.dim(what!)]),
    { left: [0, 1] },
  )}\n`;
}
