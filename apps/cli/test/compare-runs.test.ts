import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseTrainingConfig } from '@unroll/train';
import { expect, it } from 'vitest';
import { shortened } from '../scripts/lib/runs.mjs';
import { compareSeeds, comparison, endOf } from '../scripts/seeds.mjs';
import { compareTwins, planOf, twinsOf } from '../scripts/twins.mjs';
import { temporaryFolder, unroll } from './support.js';

const recipe = {
  model: {
    n_embd: 16,
    num_attention_heads: 2,
    intermediate_size: 24,
    vocab_size: 24,
    block_size: 32,
    n_layers: 4,
    n_layers_in_prelude: 1,
    n_layers_in_recurrent_block: 2,
    n_layers_in_coda: 1,
    mean_recurrence: 3,
    mean_backprop_depth: 2,
    norm_eps: 1e-6,
    tie_embeddings: true,
    qk_bias: true,
  },
  seed: 3,
  steps: 60,
  tasks: ['parity', 'chain'].map((task) => ({ task, weight: 1, levels: [1, 6] })),
  // Met by any model, so that levels rise and a twin without the plan would see other problems.
  curriculum: { solved: 10, focus: 0.5, rest: 0.5 },
  microBatch: 4,
  depth: { kind: 'lognormal-poisson', mean: 3, gradient: 2 },
  schedule: { kind: 'warmup-stable-decay', peak: 0.003, warmup: 6, total: 60, decay: 20, floor: 0.1 },
  optimizer: { name: 'adamw' },
};

it('derives the twins of a recipe: the same problems, one pass, the same or as many layers', () => {
  const short = shortened(recipe, 15);
  expect(short).toMatchObject({ steps: 15, schedule: { warmup: 2, total: 15, decay: 5 } });
  const log = [1, 1, 2].map((level, i) => ({ step: i + 1, levels: { parity: level, chain: 1 } }));
  const plan = planOf(log);
  expect(plan).toEqual([
    { step: 1, level: [1, 1] },
    { step: 3, level: [2, 1] },
  ]);
  const { fixed, deep } = twinsOf(short, plan, 0.5);
  expect([fixed, deep].map(({ schedule }) => schedule.peak)).toEqual([0.003, 0.0015]);
  for (const twin of [fixed, deep]) {
    expect(() => parseTrainingConfig(twin)).not.toThrow();
    expect(twin).toMatchObject({ depth: { kind: 'fixed', mean: 1 }, seed: 3, tasks: recipe.tasks, curriculum: { plan } });
  }
  expect(fixed.model).toMatchObject({ n_layers_in_recurrent_block: 2, n_layers: 4 });
  expect(deep.model).toMatchObject({ n_layers_in_recurrent_block: 6, n_layers: 8 });
});

const run = async (argv: string[]) => {
  const { code, out, err } = await unroll(argv);
  if (code !== 0) throw new Error(err);
  return out;
};

it('trains all three on the same tokens and prints how each answers', async () => {
  const folder = temporaryFolder();
  const problems = join(folder, 'problems.jsonl');
  const lines = ['#01=', '#11=', '&12=', '1+1='].map((prompt, i) => ({
    prompt,
    answer: '1',
    task: ['parity', 'parity', 'chain', 'addition'][i],
  }));
  writeFileSync(problems, lines.map((line) => JSON.stringify(line)).join('\n'));
  const options = { out: join(folder, 'twins'), steps: 12, problems, depths: ['1', '4'], more: ['--eval-problems', '4'], unroll: run };
  const text = await compareTwins(recipe, options);
  const rows = text.trimEnd().split('\n').slice(2);
  expect(text).toMatch(/^12 steps, \d+ tokens each\n\n/);
  expect(rows.map((row) => row.split(/ {2,}/)[0])).toEqual(['', 'parity', 'chain', 'all']);
  for (const row of rows.slice(1)) expect(row.match(/\d+\.\d %/g)).toHaveLength(4);
}, 60_000);

it('tells chance from a difference', () => {
  const log = (level: number, phase: number) =>
    Array.from({ length: 160 }, (_, i) => ({
      loss: level + 0.1 * Math.sin(1.7 * (i + phase)),
      tasks: { parity: level },
      levels: { parity: 3 },
    }));
  const { mean, error } = endOf(log(2, 0).map(({ loss }) => loss));
  expect(Math.abs(mean - 2)).toBeLessThan(0.03);
  expect(error).toBeGreaterThan(0);
  expect(error).toBeLessThan(0.05);
  const same = comparison(new Map([1, 2].map((seed) => [seed, log(2, 5 * seed)])));
  expect(same.within).toBe(true);
  expect(same.text).toMatch(/seeds 1 and 2: 0\.0\d\d apart, [\d.]+ standard errors: within noise/);
  const other = comparison(new Map([1, 2].map((seed) => [seed, log(1.5 + seed / 2, 5 * seed)])));
  expect(other.within).toBe(false);
  expect(other.text).toContain('NOT within noise');
});

it('trains a recipe with each seed and prints the losses', async () => {
  const { text } = await compareSeeds(recipe, {
    out: join(temporaryFolder(), 'seeds'),
    seeds: [5, 6],
    steps: 16,
    more: ['--eval-problems', '4'],
    unroll: run,
  });
  const rows = text
    .split('\n')
    .slice(2, 5)
    .map((row) => row.split(/ {2,}/));
  expect(rows.map(([seed]) => seed)).toEqual(['seed', '5', '6']);
  expect(rows[1]![1]).not.toBe(rows[2]![1]);
}, 60_000);
