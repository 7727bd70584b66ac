import { availableParallelism, cpus, loadavg } from 'node:os';
import { type Flags, readDepth, readFlag, readNumber, readText, readWhole } from '../args.js';
import type { Command } from '../command.js';
import { type Comparison, compare, type Row } from '../compare/compare.js';
import { LARGE_CONFIG, type Large, largeModel, measureLarge } from '../compare/large.js';
import { EXIT, UsageError } from '../errors.js';
import { readProblems } from '../eval/problems.js';
import { modelArgs } from '../flags.js';
import { partSizes } from '../inspect/cost.js';
import type { Io } from '../io.js';
import { type LoadedModel, loadModel, modelChoice } from '../model/load.js';
import { createProgress, type Progress } from '../progress.js';
import { percent, type Style, short, styleFor, table } from '../style.js';

const DEFAULT_LIMIT = 200;
const DEFAULT_TUNE = 40;

export const command: Command = {
  name: 'compare',
  description: 'strategies side by side: accuracy, recurrences, core passes, memory, speed',
  args: {
    file: {
      type: 'positional',
      description: 'JSONL file: {"prompt": "12+30=", "answer": "042"} on each line; an embedded model\'s held-out problems when absent',
    },
    ...modelArgs,
    depth: { type: 'string', valueHint: 'R', short: 'd', description: "recurrences of every strategy (default: the model's mean)" },
    limit: { type: 'string', valueHint: 'N', description: `most problems, taken from all over the file (default: ${DEFAULT_LIMIT})` },
    tune: {
      type: 'string',
      valueHint: 'N',
      description: `other problems, on which thresholds are chosen (default: ${DEFAULT_TUNE})`,
    },
    rows: { type: 'boolean', description: 'also the cost of a pass over 1 to 16 rows on a random model of about 100 M parameters' },
    seed: { type: 'string', valueHint: 'N', description: 'keys the initial state, where --init-scale is not 0 (default: 0)' },
    'init-scale': { type: 'string', valueHint: 'X', description: 'multiplies the random initial state; 0 starts from zeros (default: 0)' },
    json: {
      type: 'boolean',
      description: 'one JSON object a line and strategy, and a last line with verdicts, machine and costs of passes',
    },
  },
  notes: [
    'Each problem is a run by itself, decoded greedily. Figures per token are per new token and count the prompt. Exit rules stop in the',
    'prompt too. A rule whose own threshold does not give 60 % of the recurrences at equal accuracy also gets the best of other thresholds.',
  ],
  examples: ['unroll compare', 'unroll compare problems.jsonl --model ./checkpoint --limit 50 --json', 'unroll compare --rows'],
  run,
};

/** Where the figures come from, with how busy it was. */
function machine(device: string): { device: string; processor: string; cores: number; node: string; load: number } {
  const processor = cpus()[0]?.model.trim();
  const load = Number(loadavg()[0]!.toFixed(2));
  return { device, processor: processor || 'unknown processor', cores: availableParallelism(), node: process.versions.node, load };
}

async function problemsOf(flags: Flags, loaded: LoadedModel, io: Io) {
  const file = readText(flags, 'file');
  if (file !== undefined) return readProblems(file, io);
  if (loaded.problems !== undefined) return loaded.problems;
  throw new UsageError(
    `compare: "${loaded.name}" has no problems of its own; give FILE, with {"prompt": "12+30=", "answer": "042"} on each line`,
  );
}

interface LargeCosts extends Large {
  readonly parameters: number;
}

async function largeCosts({ device }: LoadedModel, io: Io, progress: Progress): Promise<LargeCosts> {
  const parameters = partSizes(LARGE_CONFIG).total;
  progress.update(0, 'making a random model');
  await io.breathe();
  const model = largeModel(device);
  try {
    return { parameters, ...(await measureLarge(model, io, (fraction) => progress.update(fraction, 'cost of passes'))) };
  } finally {
    model.dispose();
  }
}

async function run(flags: Flags, io: Io): Promise<number> {
  const limit = readWhole(flags, 'limit', 1) ?? DEFAULT_LIMIT;
  const tune = readWhole(flags, 'tune', 1) ?? DEFAULT_TUNE;
  const seed = readWhole(flags, 'seed', 0) ?? 0;
  const initScale = readNumber(flags, 'init-scale', 0, 1e6) ?? 0;
  const asked = readDepth(flags);
  const loaded = await loadModel(modelChoice(flags), io);
  const progress = createProgress(io);
  try {
    const problems = await problemsOf(flags, loaded, io);
    const options = { depth: asked ?? loaded.model.meanRecurrence, limit, tune, seed, initScale };
    const before = machine(loaded.device.kind);
    const comparison = await compare(loaded, problems, options, io, progress.update);
    const large = readFlag(flags, 'rows') ? await largeCosts(loaded, io, progress) : undefined;
    progress.done();
    if (readFlag(flags, 'json')) writeJson(comparison, before, large, io);
    else io.stdout.write(show(loaded.name, comparison, before, large, styleFor(io)));
    return EXIT.ok;
  } finally {
    progress.done();
    await loaded.dispose();
  }
}

function writeJson(comparison: Comparison, where: ReturnType<typeof machine>, large: LargeCosts | undefined, io: Io): void {
  const { rows, depth, refused, verdicts, tuning, rowCosts, predict } = comparison;
  for (const row of rows) io.stdout.write(`${JSON.stringify(row)}\n`);
  const more = large === undefined ? {} : { large: { ...large, config: LARGE_CONFIG, predicted: predict(large.costs) } };
  io.stdout.write(`${JSON.stringify({ depth, verdicts, tuning: tuning ?? null, refused, machine: where, rowCosts, ...more })}\n`);
}

/** A strategy under which nothing settled has no figures per token. */
const figure = (value: number, digits: number): string => (Number.isNaN(value) ? '-' : value.toFixed(digits));
const times = (value: number | null): string => (value === null || Number.isNaN(value) ? '-' : `${value.toFixed(2)}x`);

function showRow(row: Row): string[] {
  return [
    row.name,
    percent(row.accuracy),
    figure(row.meanRecurrences, 2),
    figure(row.corePassesPerToken, 2),
    figure(row.corePositionsPerToken, 1),
    row.acceptance === null ? '-' : percent(row.acceptance),
    figure(row.kvBytesPerToken, 0),
    figure(row.tokensPerSecond, 0),
    times(row.speedUp),
    times(row.predictedSpeedUp),
  ];
}

const HEAD = ['strategy', 'accuracy', 'recurrences', 'core passes', 'positions', 'accepted', 'KV bytes', 'tokens/s', 'speed', 'predicted'];

function showCosts({ parameters, costs, runs }: LargeCosts, comparison: Comparison, style: Style): string {
  const [one] = costs;
  const rows = costs.map(({ rows, coreMs, outerMs }) =>
    [rows, coreMs.toFixed(1), times(coreMs / one!.coreMs), outerMs.toFixed(1), times(outerMs / one!.outerMs)].map(String),
  );
  const real = runs.map(({ name, msPerToken, speedUp, predictedSpeedUp }) => [
    name,
    msPerToken.toFixed(0),
    times(speedUp),
    times(predictedSpeedUp),
  ]);
  const predicted = comparison.predict(costs).map(({ name, speedUp }) => [name, times(speedUp)]);
  const head = ['rows', 'recurrence ms', 'of one row', 'outside the loop ms', 'of one row'].map(style.bold);
  return [
    `\n${style.bold('Cost of a pass')}, random model of ${short(parameters)} parameters\n${table([head, ...rows], { left: [] })}`,
    `\n${style.bold('Whole runs there')}, by their own counts and in fact\n${table([['strategy', 'ms a token', 'speed', 'predicted'].map(style.bold), ...real])}`,
    `\n${style.bold('Predicted speed there')}, with the counts of passes and the acceptance above\n${table(predicted)}`,
  ].join('');
}

function show(
  name: string,
  comparison: Comparison,
  where: ReturnType<typeof machine>,
  large: LargeCosts | undefined,
  style: Style,
): string {
  const { rows, depth, refused, verdicts, tuning } = comparison;
  const { device, processor, cores, node, load } = where;
  const n = rows[0]!.n;
  return [
    `${name}, ${n} problems, depth ${depth}; ${device}, ${processor}, ${cores} cores, Node ${node}, load ${load.toFixed(1)}\n\n`,
    table([HEAD.map(style.bold), ...rows.map(showRow)]),
    ...rows.flatMap((row) =>
      row.unsettled === 0 ? [] : [`  ${row.name}: ${row.unsettled} of ${row.n} answers never settled; they count as wrong\n`],
    ),
    ...refused.map((one) => `  ${one.name} is refused: ${one.reason}\n`),
    tuning === undefined ? '' : `\n  ${tuning}\n`,
    '\n',
    table(
      verdicts.map(({ claim, holds, evidence }) => [holds ? style.green('holds') : style.red('does not hold'), `${claim}: ${evidence}`]),
      {
        left: [0, 1],
      },
    ),
    large === undefined ? '' : showCosts(large, comparison, style),
  ].join('');
}
