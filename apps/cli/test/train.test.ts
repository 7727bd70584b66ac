import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { problemFor, Random, tasks as trainTasks } from '@unroll/train';
import { build } from 'tsup';
import { beforeAll, describe, expect, it } from 'vitest';
import { jsonLines, temporaryFolder, unroll } from './support.js';

const config = {
  model: {
    n_embd: 32,
    num_attention_heads: 2,
    intermediate_size: 48,
    vocab_size: 24,
    block_size: 32,
    n_layers_in_prelude: 1,
    n_layers_in_recurrent_block: 1,
    n_layers_in_coda: 1,
    mean_recurrence: 3,
    mean_backprop_depth: 2,
    norm_eps: 1e-6,
    tie_embeddings: true,
    qk_bias: true,
  },
  seed: 4,
  steps: 40,
  tasks: [{ task: 'addition', weight: 1, levels: [1, 2] }],
  microBatch: 16,
  depth: { kind: 'lognormal-poisson', mean: 3, gradient: 2 },
  schedule: { kind: 'warmup-constant', peak: 0.005, warmup: 5 },
  optimizer: { name: 'ellisAdam' },
};

const folder = temporaryFolder();
const recipe = join(folder, 'recipe.json');
writeFileSync(recipe, JSON.stringify(config));
const log = (run: string) =>
  jsonLines(readFileSync(join(run, 'log.jsonl'), 'utf8')) as { step: number; validation?: Record<string, number> }[];
const state = (run: string) => readFileSync(join(run, 'training.safetensors'));

describe('train', () => {
  it('makes a model that the other commands take, and a log', async () => {
    const run = join(folder, 'plain');
    const { code, out } = await unroll(['train', recipe, '--out', run, '--steps', '6', '--eval-every', '3', '--eval-problems', '8']);
    expect([code, out]).toEqual([0, `done after step 6; the model is in ${join(run, 'model')}\n`]);
    const lines = log(run);
    expect(lines.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(lines.flatMap(({ step, validation }) => (validation === undefined ? [] : [step]))).toEqual([3, 6]);
    expect(Object.keys(lines[2]!.validation!)).toEqual(['1', '2', '4']);
    const report = readFileSync(join(run, 'report.html'), 'utf8');
    // Whole by itself: neither a script nor an address.
    expect(report).not.toMatch(/<script|src=|href=|https?:/);
    for (const title of ['Training loss', 'Held-out loss by depth', 'Correlation of token states', 'Gradient norm', 'Tokens per second'])
      expect(report).toContain(`<figcaption>${title}`);
    expect(report).toContain('6 steps');
    expect(report.match(/<polyline/g)!.length).toBe(11);
    expect(report).not.toContain('NaN');
    expect((await unroll(['generate', '12+30=', '--model', join(run, 'model'), '-n', '2'])).code).toBe(0);
  });

  it('removes what killed runs left of files that were being saved, and nothing else', async () => {
    const run = join(folder, 'left-behind');
    mkdirSync(join(run, 'model'), { recursive: true });
    const left = ['.training.safetensors.0123456789ab.tmp', '.log.jsonl.0123456789ab.tmp', 'model/.model.safetensors.0123456789ab.tmp'];
    const others = ['.notes.0123456789ab.tmp', 'training.safetensors.tmp'];
    for (const file of [...left, ...others]) writeFileSync(join(run, file), 'half');
    expect((await unroll(['train', recipe, '--out', run, '--steps', '1', '--eval-problems', '8'])).code).toBe(0);
    expect(left.filter((file) => existsSync(join(run, file)))).toEqual([]);
    expect(others.filter((file) => existsSync(join(run, file)))).toEqual(others);
    expect(log(run).map(({ step }) => step)).toEqual([1]);
  });

  it('begins with the weights of a checkpoint', async () => {
    const [first, second] = [join(folder, 'first'), join(folder, 'second')];
    await unroll(['train', recipe, '--out', first, '--steps', '30', '--eval-problems', '8']);
    const rest = ['--steps', '1', '--eval-problems', '8'];
    expect((await unroll(['train', recipe, '--out', second, '--from', join(first, 'model'), ...rest])).code).toBe(0);
    const losses = jsonLines(readFileSync(join(first, 'log.jsonl'), 'utf8')) as { loss: number }[];
    const begun = (jsonLines(readFileSync(join(second, 'log.jsonl'), 'utf8')) as { loss: number }[])[0]!.loss;
    // Step 1 again, of the same problems.
    expect(begun).toBeLessThan(0.8 * losses[0]!.loss);
    const other = join(folder, 'wider.json');
    writeFileSync(other, JSON.stringify({ ...config, model: { ...config.model, n_embd: 48 } }));
    expect(await unroll(['train', other, '--out', join(folder, 'third'), '--from', join(first, 'model')])).toMatchObject({
      code: 1,
      err: expect.stringContaining('in other shapes'),
    });
  });

  it('tests a run that was trained on easy problems on harder ones, at more recurrences', async () => {
    const run = join(folder, 'hard');
    const file = join(folder, 'hard.json');
    const harder = { levels: { parity: [7, 8], chain: [6, 6] }, depths: [2, 8], problems: 12 };
    const tasks = ['parity', 'chain'].map((task) => ({ task, weight: 1, levels: [1, 5] }));
    writeFileSync(file, JSON.stringify({ ...config, tasks, harder, ema: 0.5 }));
    const args = ['train', file, '--out', run, '--eval-problems', '4', '--eval-every', '100'];
    const { code, out } = await unroll([...args, '--steps', '3']);
    expect(code).toBe(0);
    const rows = out.trimEnd().split('\n').slice(2);
    expect(rows.map((row) => row.trim().split(/ {2,}/)[0])).toEqual(['harder than trained', 'parity 7', 'parity 8', 'chain 6']);
    const logged = jsonLines(readFileSync(join(run, 'log.jsonl'), 'utf8')) as {
      harder?: { task: string; level: number; solved: number[] }[];
    }[];
    expect(logged.map(({ harder }) => harder === undefined)).toEqual([true, true, false]);
    // What it prints is what decoding with the model that it has written finds.
    const problems = logged[2]!.harder!.flatMap(({ task, level }) =>
      [
        ...new Map(
          Array.from({ length: 500 }, (_, i) => problemFor(trainTasks[task]!, new Random(level, 'validation', i), level, true)).map(
            (one) => [one.key, one],
          ),
        ).values(),
      ]
        .slice(0, 12)
        .map(({ prompt, answer }) => JSON.stringify({ prompt, answer, task, level })),
    );
    const list = join(folder, 'hard.jsonl');
    writeFileSync(list, problems.join('\n'));
    const evaluated = await unroll(['eval', list, '--model', join(run, 'model'), '--by', 'task,level', '--depths', '2,8']);
    const cells = (lines: readonly string[]) => lines.map((row) => row.trim().split(/ {2,}/));
    expect(cells(evaluated.out.trimEnd().split('\n').slice(3, 6))).toEqual(cells(rows.slice(1)));
    expect(await unroll([...args, '--steps', '4'])).toMatchObject({ code: 0 });
  }, 60_000);

  it('refuses what is no config', async () => {
    expect(await unroll(['train', join(folder, 'none.json')])).toMatchObject({ code: 1, err: expect.stringContaining('there is no file') });
    const bad = join(folder, 'bad.json');
    writeFileSync(bad, JSON.stringify({ ...config, steps: 0 }));
    expect(await unroll(['train', bad])).toMatchObject({
      code: 2,
      err: expect.stringContaining('steps must be a whole number from 1; got 0'),
    });
    writeFileSync(bad, '{');
    expect(await unroll(['train', bad])).toMatchObject({ code: 1, err: expect.stringContaining('is not JSON') });
  });
});

const textRecipe = fileURLToPath(new URL('../../../packages/train/recipes/text.json', import.meta.url));

describe('a run on text', () => {
  it('goes from a book to a model that writes: the recipe, cut short', async () => {
    const run = join(folder, 'book');
    const { code, out, err } = await unroll([
      'train',
      textRecipe,
      '--out',
      run,
      '--steps',
      '2',
      '--eval-every',
      '2',
      '--eval-problems',
      '4',
    ]);
    expect([code, out, err]).toEqual([0, `done after step 2; the model is in ${join(run, 'model')}\n`, '']);
    const lines = jsonLines(readFileSync(join(run, 'log.jsonl'), 'utf8')) as { loss: number; tokens: number }[];
    expect(lines.map(({ tokens }) => tokens)).toEqual([1024, 1024]);
    // Nothing is known of 512 tokens yet.
    expect(Math.abs(lines[0]!.loss - Math.log(512))).toBeLessThan(0.3);
    const tokenizer = JSON.parse(readFileSync(join(run, 'model', 'tokenizer.json'), 'utf8')) as {
      model: { vocab: Record<string, number> };
    };
    expect(Object.keys(tokenizer.model.vocab).length + 1).toBeGreaterThanOrEqual(512);
    expect(tokenizer.model.vocab).toHaveProperty('Ġthe');
    const written = await unroll(['generate', 'Call me Ishmael.', '--model', join(run, 'model'), '-n', '4', '--seed', '1']);
    expect(written.code).toBe(0);
    expect(written.out.length).toBeGreaterThan(1);
  }, 120_000);

  it('learns it, and goes on bit for bit only with the same text', async () => {
    const book = join(folder, 'rhyme.txt');
    writeFileSync(book, 'Sing a song of sixpence, a pocket full of rye. Four and twenty blackbirds, baked in a pie.\n'.repeat(40));
    const file = join(folder, 'rhyme.json');
    const { tasks: _, ...rest } = config;
    const model = { ...config.model, vocab_size: 300 };
    writeFileSync(file, JSON.stringify({ ...rest, model, microBatch: 4, text: { files: ['rhyme.txt'], vocabulary: 300, length: 16 } }));
    const train = (out: string, steps: string) =>
      unroll(['train', file, '--out', join(folder, out), '--steps', steps, '--eval-every', '100', '--eval-problems', '4']);
    expect((await train('sung', '40')).code).toBe(0);
    const losses = jsonLines(readFileSync(join(folder, 'sung', 'log.jsonl'), 'utf8')) as { loss: number }[];
    expect(losses[39]!.loss).toBeLessThan(0.7 * losses[0]!.loss);
    await train('halved', '15');
    await train('halved', '40');
    expect(state(join(folder, 'halved')).equals(state(join(folder, 'sung')))).toBe(true);
    writeFileSync(book, 'Baa, baa, black sheep, have you any wool? Yes sir, yes sir, three bags full.\n'.repeat(40));
    expect(await train('halved', '41')).toMatchObject({ code: 1, err: expect.stringContaining('read another text') });
    writeFileSync(file, JSON.stringify({ ...rest, model, text: { files: ['none.txt'], vocabulary: 300, length: 16 } }));
    expect(await train('none', '1')).toMatchObject({
      code: 1,
      err: expect.stringContaining('names the text "none.txt", which is not there'),
    });
  }, 60_000);
});

describe('a run that is killed', () => {
  const main = join(folder, 'main.mjs');
  beforeAll(async () => {
    await build({
      entry: { main: fileURLToPath(new URL('../src/main.ts', import.meta.url)) },
      outDir: folder,
      outExtension: () => ({ js: '.mjs' }),
      format: ['esm'],
      target: 'es2022',
      platform: 'node',
      noExternal: [/./],
      clean: false,
      config: false,
      tsconfig: fileURLToPath(new URL('../tsconfig.json', import.meta.url)),
      silent: true,
      splitting: true,
      banner: { js: "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);" },
      esbuildOptions(options) {
        options.conditions = ['@unroll/source', 'module', 'node', 'import', 'default'];
      },
    });
  }, 120_000);

  const start = (run: string) => {
    const child = spawn(process.execPath, [
      main,
      'train',
      recipe,
      '--out',
      run,
      '--save-every',
      '0',
      '--eval-every',
      '1000',
      '--eval-problems',
      '4',
    ]);
    return { child, ended: new Promise<number | null>((resolve) => child.on('close', resolve)) };
  };
  const steps = (run: string) => {
    try {
      return readFileSync(join(run, 'log.jsonl'), 'utf8').split('\n').length - 1;
    } catch {
      return 0;
    }
  };

  it('goes on to the same bits as one that ran through, wherever it was killed', async () => {
    const [through, killed] = [join(folder, 'through'), join(folder, 'killed')];
    expect(await start(through).ended).toBe(0);
    for (const at of [3, 11, 12, 30]) {
      const { child, ended } = start(killed);
      while (steps(killed) < at && child.exitCode === null) await new Promise((resolve) => setTimeout(resolve, 1));
      child.kill('SIGKILL');
      expect(await ended).toBe(null);
    }
    expect(await start(killed).ended).toBe(0);
    expect(state(killed).equals(state(through))).toBe(true);
    const without = (run: string) => log(run).map((line) => ({ ...line, tokensPerSecond: 0 }));
    expect(without(killed)).toEqual(without(through));
  }, 120_000);

  it('saves and ends with 130 on Ctrl-C', async () => {
    const run = join(folder, 'stopped');
    const { child, ended } = start(run);
    while (steps(run) < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    expect(state(run).length).toBeGreaterThan(1000);
  }, 60_000);
});
