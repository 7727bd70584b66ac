// What depth buys at equal data: trains a recipe on a quarter of its steps, and beside it two models without recurrence on the very same
// problems: its fixed-depth twin (the same parameters, one pass) and its compute-matched twin (as many layers of its own as the recurrent
// model runs at its mean depth, one pass). Prints how each answers held-out problems of the recipe's tasks. The twins train
// side by side.
//
//   node apps/cli/scripts/twins.mjs packages/train/recipes/scratch.json --out runs/twins [--steps N] [--threads N] [--problems FILE] [--depths 1,8,16] [--deep-rate X]
//
// A run that was killed goes on where it was: the folders are those of `unroll train`.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { aligned, program, readRecipe, shortened, trained } from './lib/runs.mjs';

/** @typedef {import('./lib/runs.mjs').Recipe} Recipe */
/** @typedef {import('./lib/runs.mjs').Unroll} Unroll */

const SHARE = 0.25;
const PROBLEMS = fileURLToPath(new URL('../../../packages/pretrained/models/reckoner/problems.jsonl', import.meta.url));

/**
 * The levels that a run has logged, as a curriculum's plan: only where they change.
 *
 * @param {{ step: number, levels: Record<string, number> }[]} log
 */
export const planOf = (log) =>
  log.flatMap(({ step, levels }, i) => {
    const level = Object.values(levels);
    return i > 0 && String(level) === String(Object.values(log[i - 1]?.levels ?? {})) ? [] : [{ step, level }];
  });

/**
 * The two models without recurrence, on the same problems.
 *
 * @param {Recipe} recipe @param {{ step: number, level: number[] }[] | undefined} plan
 * @param {number} [deepRate] multiplies the learning rate of the compute-matched twin, which may not bear that of the recipe
 * @returns {{ fixed: Recipe, deep: Recipe }}
 */
export function twinsOf(recipe, plan, deepRate = 1) {
  const { model, depth } = recipe;
  const once = { ...model, mean_recurrence: 1, mean_backprop_depth: 1 };
  const core = model.n_layers_in_recurrent_block * Math.round(depth.mean);
  const same = {
    ...recipe,
    depth: { kind: 'fixed', mean: 1, gradient: 1 },
    ...(plan === undefined ? {} : { curriculum: { ...recipe.curriculum, plan } }),
  };
  const layers = model.n_layers_in_prelude + core + model.n_layers_in_coda;
  return {
    fixed: { ...same, model: once },
    deep: {
      ...same,
      schedule: { ...recipe.schedule, peak: recipe.schedule.peak * deepRate },
      model: { ...once, n_layers_in_recurrent_block: core, n_layers: layers },
    },
  };
}

/**
 * The cells of a table by task that `unroll eval` has printed: task -> [problems, accuracy at each depth].
 *
 * @param {string} text @returns {Map<string, string[]>}
 */
export function cellsOf(text) {
  const rows = text.trimEnd().split('\n').slice(3);
  return new Map(rows.map((line) => line.trim().split(/ {2,}/)).map(([task = '', ...cells]) => [task, cells]));
}

/**
 * @param {Recipe} recipe
 * @param {{ out: string, steps: number, problems: string, depths: string[], deepRate?: number, more: string[], unroll: Unroll }} options
 * @returns {Promise<string>} the comparison, as text
 */
export async function compareTwins(recipe, { out, steps, problems, depths, deepRate, more, unroll }) {
  const train = (/** @type {string} */ name, /** @type {Recipe} */ config) => trained(config, { out, name, more, unroll });
  const short = shortened(recipe, steps);
  const log = await train('recurrent', short);
  const { fixed, deep } = twinsOf(short, recipe.curriculum && planOf(log), deepRate);
  const [fixedLog, deepLog] = await Promise.all([train('fixed', fixed), train('deep', deep)]);
  const logs = { recurrent: log, fixed: fixedLog, deep: deepLog };
  const asked = join(out, 'problems.jsonl');
  const known = new Set(recipe.tasks.map((/** @type {{ task: string }} */ { task }) => task));
  const lines = readFileSync(problems, 'utf8').split('\n');
  writeFileSync(asked, lines.filter((line) => line !== '' && known.has(JSON.parse(line).task)).join('\n'));
  const evaluate = async (/** @type {string} */ name, /** @type {string[]} */ at) =>
    cellsOf(await unroll(['eval', asked, '--model', join(out, name, 'model'), '--by', 'task', '--depths', at.join(',')]));
  const [recurrent, one, many] = [await evaluate('recurrent', depths), await evaluate('fixed', ['1']), await evaluate('deep', ['1'])];
  const tokens = (/** @type {{ tokens: number }[]} */ lines) => lines.reduce((sum, line) => sum + line.tokens, 0);
  const counts = Object.values(logs).map(tokens);
  if (new Set(counts).size > 1) throw new Error(`twins: the three runs saw ${counts.join(', ')} tokens; they must see the same`);
  const rows = [
    ['', 'problems', ...depths.map((depth) => `depth ${depth}`), 'fixed-depth twin', 'compute-matched twin'],
    ...[...recurrent].map(([task, cells]) => [task, ...cells, one.get(task)?.[1] ?? '', many.get(task)?.[1] ?? '']),
  ];
  return [`${steps} steps, ${counts[0]} tokens each`, '', ...aligned(rows), ''].join('\n');
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      out: { type: 'string', default: 'runs/twins' },
      steps: { type: 'string' },
      threads: { type: 'string' },
      problems: { type: 'string', default: PROBLEMS },
      depths: { type: 'string', default: '1,8,16' },
      'deep-rate': { type: 'string', default: '1' },
    },
  });
  const recipe = readRecipe(positionals[0]);
  const { out, problems, depths, threads } = values;
  console.log(
    await compareTwins(recipe, {
      out,
      problems,
      steps: Number(values.steps ?? Math.round(recipe.steps * SHARE)),
      depths: depths.split(','),
      deepRate: Number(values['deep-rate']),
      more: threads === undefined ? [] : ['--threads', threads],
      unroll: program,
    }),
  );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
