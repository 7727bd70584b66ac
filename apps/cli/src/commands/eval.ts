import { type Flags, readDepths, readFlag, readNumber, readText, readWhole } from '../args.js';
import type { Command } from '../command.js';
import { EXIT, UsageError } from '../errors.js';
import { accuracyOf, type DepthResult, evaluate } from '../eval/evaluate.js';
import { groupedTable } from '../eval/grouped.js';
import { readProblems } from '../eval/problems.js';
import { batchStrategyArgs, modelArgs } from '../flags.js';
import { interruptible } from '../interrupt.js';
import type { Io } from '../io.js';
import { loadModel, modelChoice } from '../model/load.js';
import { createProgress } from '../progress.js';
import { batchStrategyOptions } from '../strategy.js';
import { percent, styleFor, table } from '../style.js';

const DEFAULT_DEPTHS = [1, 2, 4, 8, 16, 32];
const DEFAULT_BATCH = 32;

export const command: Command = {
  name: 'eval',
  description: 'exact-match accuracy on a file of problems, by depth',
  args: {
    file: {
      type: 'positional',
      required: true,
      description: 'JSONL file: {"prompt": "12+30=", "answer": "042"} on each line; - reads standard input',
    },
    ...modelArgs,
    depths: { type: 'string', valueHint: 'R,R,…', description: `depths to measure (default: ${DEFAULT_DEPTHS.join(',')})` },
    by: {
      type: 'string',
      valueHint: 'FIELD,…',
      description: 'a table by these fields of the lines, such as task or task,level; with --exit, also the mean recurrences',
    },
    limit: { type: 'string', valueHint: 'N', description: 'only the first N problems' },
    'batch-size': {
      type: 'string',
      valueHint: 'B',
      description: `problems in one pass; the answers do not depend on it (default: ${DEFAULT_BATCH})`,
    },
    'max-new-tokens': {
      type: 'string',
      valueHint: 'N',
      description: 'most tokens of an answer (default: the longest right answer and two more)',
    },
    ...batchStrategyArgs,
    seed: { type: 'string', valueHint: 'N', description: 'keys the initial state, where --init-scale is not 0 (default: 0)' },
    'init-scale': { type: 'string', valueHint: 'X', description: 'multiplies the random initial state; 0 starts from zeros (default: 0)' },
    json: { type: 'boolean', description: 'one JSON object a line and depth: depth, accuracy, n; with --exit, meanRecurrences' },
  },
  notes: [
    'Decoding is greedy. An answer is right when the text up to the stop token is the expected one; white space around it does not count.',
    'The initial state is zero unless --init-scale says otherwise, so that the figures are the same at every run.',
  ],
  examples: [
    'unroll eval problems.jsonl',
    'unroll eval problems.jsonl --by task,level --depths 1,4,16',
    'unroll eval problems.jsonl --model ./checkpoint --depths 1,2,4 --json',
  ],
  run,
};

async function run(flags: Flags, io: Io): Promise<number> {
  const depths = readDepths(flags) ?? DEFAULT_DEPTHS;
  if (new Set(depths).size < depths.length) throw new UsageError(`--depths names a depth twice; got ${depths.join(',')}`);
  const options = {
    depths,
    batchSize: readWhole(flags, 'batch-size', 1, 4096) ?? DEFAULT_BATCH,
    maxNewTokens: readWhole(flags, 'max-new-tokens', 1),
    seed: readWhole(flags, 'seed', 0) ?? 0,
    initScale: readNumber(flags, 'init-scale', 0, 1e6) ?? 0,
    strategy: batchStrategyOptions(flags),
  };
  const by = readText(flags, 'by')?.split(',');
  const exits = options.strategy.exit !== undefined;
  const json = readFlag(flags, 'json');
  if (json && by !== undefined) throw new UsageError('--by makes a table; leave out --json, or take the lines apart beforehand');
  const limit = readWhole(flags, 'limit', 1);
  const problems = (await readProblems(readText(flags, 'file')!, io)).slice(0, limit);
  const loaded = await loadModel(modelChoice(flags), io);
  const progress = createProgress(io);
  const work = async (signal: AbortSignal): Promise<number> => {
    const style = styleFor(io);
    const rows: string[][] = [];
    const results: DepthResult[] = [];
    for await (const result of evaluate(loaded, problems, { ...options, signal }, io, (fraction, at) =>
      progress.update(fraction, `depth ${at}`),
    )) {
      results.push(result);
      const { depth, correct, meanRecurrences } = result;
      const accuracy = accuracyOf(correct);
      const right = `${correct.filter(Boolean).length} of ${correct.length}`;
      rows.push([String(depth), percent(accuracy), right, ...(exits ? [meanRecurrences.toFixed(2)] : [])]);
      if (!json) continue;
      progress.done();
      io.stdout.write(`${JSON.stringify({ depth, accuracy, n: correct.length, ...(exits ? { meanRecurrences } : {}) })}\n`);
    }
    progress.done();
    if (by !== undefined)
      io.stdout.write(`${loaded.name}, ${problems.length} problems\n\n${groupedTable(problems, by, results, exits, style)}`);
    else if (!json)
      io.stdout.write(
        `${loaded.name}, ${problems.length} problems\n\n${table([[...['depth', 'accuracy', 'right'], ...(exits ? ['recurrences'] : [])].map(style.bold), ...rows], { left: [] })}`,
      );
    return EXIT.ok;
  };
  try {
    return await interruptible(io, work);
  } finally {
    progress.done();
    await loaded.dispose();
  }
}
