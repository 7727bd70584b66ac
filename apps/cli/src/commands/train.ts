import { existsSync } from 'node:fs';
import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openSafetensors, toFloat32 } from '@unroll/checkpoint';
import { fileSink, fileSource, removeTemporaries } from '@unroll/checkpoint/node';
import { forEachTensor, type Tensor } from '@unroll/tensor';
import {
  type HarderConfig,
  type HarderResult,
  lossByDepth,
  measureStates,
  parseTrainingConfig,
  resumeTraining,
  saveModel,
  saveTraining,
  Trainer,
  type TrainingConfig,
  testHarder,
} from '@unroll/train';
import { type Flags, readNumber, readText, readWhole } from '../args.js';
import type { Command } from '../command.js';
import { CommandError, EXIT } from '../errors.js';
import type { Io } from '../io.js';
import { openCpu } from '../model/device.js';
import { createProgress } from '../progress.js';
import { percent, type Style, styleFor, table } from '../style.js';
import { type Corpus, corpusOf } from '../train/corpus.js';
import { type LogLine, reportOf } from '../train/report.js';

const STATE_FILE = 'training.safetensors';
const LOG_FILE = 'log.jsonl';
const REPORT_FILE = 'report.html';
const OWN_FILES: readonly string[] = [STATE_FILE, LOG_FILE, 'model.safetensors'];
const DEFAULT_SAVE_SECONDS = 600;
const DEFAULT_EVAL_STEPS = 200;
const DEFAULT_EVAL_PROBLEMS = 128;

export const command: Command = {
  name: 'train',
  description: 'train a model from a config file; goes on where an earlier run in the folder ended',
  args: {
    config: { type: 'positional', required: true, description: 'JSON file: model, tasks or text, depth, schedule, optimizer, seed, steps' },
    out: { type: 'string', valueHint: 'DIR', short: 'o', description: 'folder of the run: state, log and the model so far (default: run)' },
    from: {
      type: 'string',
      valueHint: 'DIR',
      description: 'checkpoint folder of the same shape whose weights a new run begins with (default: random weights)',
    },
    steps: { type: 'string', valueHint: 'N', description: 'stop after this step (default: what the config says)' },
    threads: { type: 'string', valueHint: 'N', description: 'threads of the CPU; they change no bit of the result (default: all cores)' },
    'save-every': {
      type: 'string',
      valueHint: 'S',
      description: `seconds between saves; 0 saves after every step (default: ${DEFAULT_SAVE_SECONDS})`,
    },
    'eval-every': {
      type: 'string',
      valueHint: 'N',
      description: `steps between measurements on held-out problems (default: ${DEFAULT_EVAL_STEPS})`,
    },
    'eval-problems': {
      type: 'string',
      valueHint: 'N',
      description: `held-out problems in a measurement (default: ${DEFAULT_EVAL_PROBLEMS})`,
    },
  },
  notes: [
    `OUT/${STATE_FILE} is all that a run goes on from; OUT/${LOG_FILE} has one JSON object a step; OUT/${REPORT_FILE} has the plots.`,
    'OUT/model is a checkpoint that the other commands take.',
    'With "harder" in the config, the end of the run prints how problems of higher levels than any trained on are answered, by depth.',
    'A run that is killed and started again has, on the same machine, the same weights bit for bit as one that ran through.',
  ],
  examples: ['unroll train recipe.json --out runs/first', 'unroll eval problems.jsonl --model runs/first/model --depths 1,4,16'],
  run,
};

async function readConfig(path: string): Promise<TrainingConfig> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CommandError(
      error.code === 'ENOENT'
        ? `there is no file "${path}"; train takes a JSON file with the run's config`
        : `"${path}" cannot be read: ${error.message}`,
    );
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new CommandError(`"${path}" is not JSON: ${(error as Error).message}`);
  }
  return parseTrainingConfig(json);
}

/** Drops what a killed run logged after its last save: those steps come again. */
async function trimLog(path: string, lastStep: number): Promise<void> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw error;
  });
  const kept = text.split('\n').filter((line) => {
    try {
      return line !== '' && (JSON.parse(line) as { step: number }).step <= lastStep;
    } catch {
      // A line that was cut off in the middle belongs to a step after the last save.
      return false;
    }
  });
  // Whole or not at all: killed here, a run would lose what it has logged.
  const sink = await fileSink(path);
  await sink.write(new TextEncoder().encode(kept.map((line) => `${line}\n`).join('')));
  await sink.end();
  await sink.commit();
}

/** Writes the model so far as a checkpoint folder. */
async function exportModel(folder: string, trainer: Trainer, { files }: Corpus): Promise<void> {
  if (trainer.ema === undefined) return writeModel(folder, trainer, files);
  await trainer.ema.swapped(() => writeModel(folder, trainer, files));
}

async function writeModel(folder: string, trainer: Trainer, beside: Corpus['files']): Promise<void> {
  await mkdir(folder, { recursive: true });
  const files = { 'config.json': trainer.config.model, ...beside };
  for (const [name, json] of Object.entries(files)) await writeFile(join(folder, name), `${JSON.stringify(json, null, 1)}\n`);
  await saveModel(await fileSink(join(folder, 'model.safetensors')), trainer.model);
}

/** Puts the weights of a checkpoint folder into a new run. Throws CommandError where they do not fit. */
async function beginFrom(folder: string, trainer: Trainer): Promise<void> {
  const file = await openSafetensors(await fileSource(join(folder, 'model.safetensors')));
  try {
    const tensors: [Tensor, string][] = [];
    forEachTensor(trainer.model.params, (tensor, name) => tensors.push([tensor, name]));
    const missing = tensors
      .filter(([tensor, name]) => file.entries.get(name)?.shape.join() !== tensor.shape.join())
      .map(([, name]) => name);
    if (missing.length > 0)
      throw new CommandError(`--from: "${folder}" lacks ${missing.slice(0, 5).join(', ')}, or has them in other shapes than the config`);
    for (const [tensor, name] of tensors) trainer.device.write(tensor, toFloat32(await file.read(name), file.entries.get(name)!.dtype));
    trainer.ema?.restart();
  } finally {
    await file.close();
  }
}

/** The model as it is exported, on problems of higher levels than it was trained on. */
async function harderOf(trainer: Trainer, config: HarderConfig, io: Io): Promise<readonly HarderResult[]> {
  let results: readonly HarderResult[] = [];
  const test = async () => {
    results = await testHarder(trainer.model, config, () => io.breathe());
  };
  await (trainer.ema === undefined ? test() : trainer.ema.swapped(test));
  return results;
}

const harderTable = (results: readonly HarderResult[], depths: readonly number[], style: Style): string =>
  table([
    ['harder than trained', 'problems', ...depths.map((depth) => `depth ${depth}`)].map(style.bold),
    ...results.map(({ task, level, problems, solved }) => [`${task} ${level}`, String(problems), ...solved.map(percent)]),
  ]);

async function resume(path: string, trainer: Trainer): Promise<boolean> {
  if (!existsSync(path)) return false;
  const file = await openSafetensors(await fileSource(path));
  try {
    await resumeTraining(file, trainer);
    return true;
  } finally {
    await file.close();
  }
}

async function writeReport(out: string): Promise<void> {
  const lines = (await readFile(join(out, LOG_FILE), 'utf8')).split('\n').filter((line) => line !== '');
  if (lines.length === 0) return;
  await writeFile(
    join(out, REPORT_FILE),
    reportOf(
      lines.map((line) => JSON.parse(line) as LogLine),
      `Training run ${out}`,
    ),
  );
}

async function run(flags: Flags, io: Io): Promise<number> {
  const recipe = readText(flags, 'config')!;
  const config = await readConfig(recipe);
  const corpus = await corpusOf(config, recipe);
  const out = readText(flags, 'out') ?? 'run';
  const last = readWhole(flags, 'steps', 1) ?? config.steps;
  const saveMs = 1000 * (readNumber(flags, 'save-every', 0, 1e6) ?? DEFAULT_SAVE_SECONDS);
  const evalEvery = readWhole(flags, 'eval-every', 1) ?? DEFAULT_EVAL_STEPS;
  const evalProblems = readWhole(flags, 'eval-problems', 1, 4096) ?? DEFAULT_EVAL_PROBLEMS;
  const { device, close } = await openCpu(readWhole(flags, 'threads', 1, 64));
  const progress = createProgress(io);
  let trainer: Trainer | undefined;
  let stopped = false;
  const release = io.onInterrupt(() => {
    stopped = true;
  });
  try {
    trainer = new Trainer(device, config, corpus.documents === undefined ? {} : { documents: corpus.documents });
    await mkdir(out, { recursive: true });
    // Every kill while saving leaves a file as large as the state.
    for (const folder of [out, join(out, 'model')]) await removeTemporaries(folder, (file) => OWN_FILES.includes(file));
    const state = join(out, STATE_FILE);
    const log = join(out, LOG_FILE);
    const from = readText(flags, 'from');
    if (await resume(state, trainer)) io.stderr.write(`going on after step ${trainer.step} of ${state}\n`);
    else if (from !== undefined) await beginFrom(from, trainer);
    await trimLog(log, trainer.step);
    const save = async (now: Trainer) => {
      await saveTraining(await fileSink(state), now);
      await exportModel(join(out, 'model'), now, corpus);
      await writeReport(out);
    };
    const validation = trainer.validation(evalProblems);
    const { mean } = config.depth;
    const depths = [...new Set([1, 2, 4, 8, 16, 32].filter((depth) => depth <= 2 * mean))];
    let harder: readonly HarderResult[] = [];
    let saved = performance.now();
    while (trainer.step < last && !stopped) {
      const begun = performance.now();
      const result = await trainer.train();
      const seconds = (performance.now() - begun) / 1000;
      const line: Record<string, unknown> = { ...result, tokensPerSecond: Math.round(result.tokens / seconds) };
      if (result.step % evalEvery === 0 || result.step === last) {
        const losses = await lossByDepth(trainer.model, validation, depths, () => io.breathe());
        line.validation = Object.fromEntries(losses.map(({ depth, loss }) => [depth, loss]));
        line.states = await measureStates(trainer.model, validation, Math.ceil(mean));
      }
      if (config.harder !== undefined && result.step === last) {
        harder = await harderOf(trainer, config.harder, io);
        line.harder = harder;
      }
      await appendFile(log, `${JSON.stringify(line)}\n`);
      progress.update(result.step / last, `step ${result.step}, loss ${result.loss.toFixed(3)}, ${String(line.tokensPerSecond)} tokens/s`);
      await io.breathe();
      if (performance.now() - saved >= saveMs) {
        await save(trainer);
        saved = performance.now();
      }
    }
    progress.done();
    await save(trainer);
    io.stdout.write(`${stopped ? 'stopped' : 'done'} after step ${trainer.step}; the model is in ${join(out, 'model')}\n`);
    if (harder.length > 0) io.stdout.write(`\n${harderTable(harder, config.harder!.depths, styleFor(io))}`);
    return stopped ? EXIT.interrupted : EXIT.ok;
  } finally {
    release();
    progress.done();
    trainer?.dispose();
    await close();
  }
}
