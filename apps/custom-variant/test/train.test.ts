import { ignoreTarget } from '@unroll/recurrent';
import { forEachTensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { lossByDepth, packProblems, parity, Random, type Trainer } from '@unroll/train';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { taskTokenizer } from '../src/files.js';
import { heldOutGroups, measureDepths, measureExits } from '../src/measure.js';
import { mostBits, variantNames, variants } from '../src/recipes.js';
import { trainerOf, trainVariant } from '../src/train.js';

const device = createCpuDevice({ threads: 1 });
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

const bitsOf = (trainer: Trainer) => {
  const all: number[] = [];
  forEachTensor(trainer.model.params, (tensor) => all.push(...new Int32Array(device.readSync(tensor).buffer)));
  return all;
};

// The loss of guessing one of two digits and the sure newline behind it is log(2) / 2.
const guessing = Math.log(2) / 2;

describe.each(variantNames)('training of %s', (name) => {
  it('learns to read one bit in sixty steps', async () => {
    const problems = Array.from({ length: 8 }, (_, i) => [parity.generate(new Random(i, 'task', 0), 1)[0]]);
    const { data } = packProblems(problems, 64);
    const untrained = trainerOf(device, name, { steps: 60, seed: 1 });
    const depths = [...variants[name].depths.slice(0, 4)];
    const before = await lossByDepth(untrained.model, data, depths);
    untrained.dispose();
    const losses: number[] = [];
    const trainer = await trainVariant(device, name, { steps: 60, seed: 1 }, ({ tasks }) => losses.push(tasks.parity!));
    const after = await lossByDepth(trainer.model, data, depths);
    expect(before.every(({ loss }) => loss > 1.5)).toBe(true);
    // Behind the last of these depths; the first may be too shallow yet.
    expect(after[after.length - 1]!.loss).toBeLessThan(0.5 * guessing);
    expect(losses).toHaveLength(60);
    trainer.dispose();
  });

  it('is a function of the seed, bit for bit', async () => {
    const run = async (seed: number) => {
      const trainer = await trainVariant(device, name, { steps: 3, seed });
      const bits = bitsOf(trainer);
      trainer.dispose();
      return bits;
    };
    const first = await run(1);
    expect(await run(1)).toEqual(first);
    expect(await run(2)).not.toEqual(first);
  });
});

it('the gate is trained with the model', async () => {
  const trainer = await trainVariant(device, 'ouro', { steps: 20, seed: 1 });
  const { exit_gate } = trainer.model.params.transformer;
  expect(device.readSync(exit_gate!.bias)[0]).not.toBe(0);
  trainer.dispose();
});

describe('what a trained variant is measured on', () => {
  const groups = heldOutGroups(12);

  it('was not trained on, and nothing in it twice', () => {
    const all = groups.flatMap(({ problems }) => problems);
    expect(new Set(all.map(({ key }) => key)).size).toBe(all.length);
    expect(groups.map(({ problems }) => problems.length)).toEqual([12, 12, 12, 12, 12]);
    expect(groups.map(({ title }) => title.includes('not trained on'))).toEqual([false, false, false, false, true]);
    for (const { key, answer } of all) expect(answer).toBe(String([...key].filter((bit) => bit === '1').length % 2));
    for (const { level } of groups[4]!.problems) expect(level).toBeGreaterThan(mostBits);
    // The trainer draws from the other side alone.
    const trainer = trainerOf(device, 'add', { steps: 400, seed: 1 });
    trainer.curriculum = { level: [mostBits], loss: [0] };
    const seen = new Set(
      [1, 2, 3].flatMap((step) =>
        trainer.families(step).flatMap((batch) => batch.flatMap(({ problems }) => problems.map(({ key }) => key))),
      ),
    );
    expect(seen.size).toBeGreaterThan(200);
    expect(all.filter(({ key }) => seen.has(key))).toEqual([]);
    trainer.dispose();
  });

  it('an exit that never comes is the full depth, and counts as decoding does', async () => {
    const trainer = await trainVariant(device, 'ouro', { steps: 30, seed: 1 });
    const { model } = trainer;
    const tokenizer = taskTokenizer(model.contextLength);
    const { solved } = await measureDepths(model, groups, [1, 8]);
    const late = await measureExits(model, tokenizer, groups[0]!, 1);
    expect(late).toEqual({ loops: 8, solved: solved[0]![1] });
    const early = await measureExits(model, tokenizer, groups[0]!, 1e-6);
    expect(early.loops).toBe(1);
    trainer.dispose();
  });
});

it('the answers are what counts', () => {
  const { data } = packProblems([[parity.generate(new Random(1, 'task', 0), 5)[0]]], 64);
  expect(data.targets.filter((target) => target !== ignoreTarget)).toHaveLength(2);
});
