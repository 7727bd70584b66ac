// How much of a loss is chance: trains a recipe from scratch with several seeds on a short budget, and compares the losses at the end with
// the noise within each run.
//
//   node apps/cli/scripts/seeds.mjs packages/train/recipes/scratch.json --out runs/seeds [--seeds 1,2] [--steps 400] [--threads N]
//
// A run that was killed goes on where it was: the folders are those of `unroll train`.
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { aligned, program, readRecipe, shortened, trained } from './lib/runs.mjs';

/** @typedef {{ loss: number, tasks: Record<string, number>, levels?: Record<string, number> }} Line */

// Neighbouring steps are alike in their levels, so that the error of a mean comes from means of blocks.
const BLOCKS = 8;
const WITHIN = 3;

/** @param {number[]} values */
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/**
 * The mean of the last quarter of the values and its standard error.
 *
 * @param {number[]} all @returns {{ mean: number, error: number }}
 */
export function endOf(all) {
  const values = all.slice(-Math.max(BLOCKS, Math.floor(all.length / 4)));
  const size = Math.floor(values.length / BLOCKS);
  const means = Array.from({ length: BLOCKS }, (_, i) => mean(values.slice(i * size, (i + 1) * size)));
  const centre = mean(means);
  const variance = means.reduce((sum, value) => sum + (value - centre) ** 2, 0) / (BLOCKS - 1);
  return { mean: centre, error: Math.sqrt(variance / BLOCKS) };
}

/**
 * The comparison as text, and whether every pair of runs differs by less than three standard errors of the difference.
 *
 * @param {Map<number, Line[]>} logs seed -> log
 */
export function comparison(logs) {
  const ends = [...logs].map(([seed, log]) => ({ seed, log, ...endOf(log.map(({ loss }) => loss)) }));
  const names = [...new Set([...logs.values()].flatMap((log) => log.flatMap(({ tasks }) => Object.keys(tasks))))];
  const rows = [
    ['seed', 'loss', 'standard error', ...names],
    ...ends.map(({ seed, log, mean: centre, error }) => [
      String(seed),
      centre.toFixed(3),
      error.toFixed(3),
      ...names.map((name) => {
        const values = log.slice(-Math.max(BLOCKS, Math.floor(log.length / 4))).flatMap(({ tasks }) => tasks[name] ?? []);
        const level = log[log.length - 1]?.levels?.[name];
        return `${values.length === 0 ? '-' : mean(values).toFixed(2)}${level === undefined ? '' : ` (level ${level})`}`;
      }),
    ]),
  ];
  const pairs = ends.flatMap((a, i) =>
    ends.slice(i + 1).map((b) => ({ a, b, apart: Math.abs(a.mean - b.mean) / Math.hypot(a.error, b.error) })),
  );
  const within = pairs.every(({ apart }) => apart < WITHIN);
  const lines = pairs.map(
    ({ a, b, apart }) =>
      `seeds ${a.seed} and ${b.seed}: ${Math.abs(a.mean - b.mean).toFixed(3)} apart, ${apart.toFixed(1)} standard errors: ${apart < WITHIN ? 'within' : 'NOT within'} noise`,
  );
  return { text: [...aligned(rows), '', ...lines, ''].join('\n'), within };
}

/**
 * @param {import('./lib/runs.mjs').Recipe} recipe
 * @param {{ out: string, seeds: number[], steps: number, more: string[], unroll: import('./lib/runs.mjs').Unroll }} options
 */
export async function compareSeeds(recipe, { out, seeds, steps, more, unroll }) {
  const logs = new Map();
  for (const seed of seeds)
    logs.set(seed, await trained({ ...shortened(recipe, steps), seed }, { out, name: `seed-${seed}`, more, unroll }));
  const { text, within } = comparison(logs);
  return { text: `${steps} steps from scratch with each seed; means of the last quarter\n\n${text}`, within };
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      out: { type: 'string', default: 'runs/seeds' },
      seeds: { type: 'string', default: '1,2' },
      steps: { type: 'string', default: '400' },
      threads: { type: 'string' },
    },
  });
  const { out, seeds, steps, threads } = values;
  const more = threads === undefined ? [] : ['--threads', threads];
  const options = { out, seeds: seeds.split(',').map(Number), steps: Number(steps), more, unroll: program };
  const { text, within } = await compareSeeds(readRecipe(positionals[0]), options);
  console.log(text);
  process.exitCode = within ? 0 : 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
