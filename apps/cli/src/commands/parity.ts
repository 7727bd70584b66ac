import type { Flags } from '../args.js';
import { readFlag, readText } from '../args.js';
import type { Command } from '../command.js';
import { EXIT, UsageError } from '../errors.js';
import { modelArgs } from '../flags.js';
import type { Io } from '../io.js';
import { findModel } from '../model/files.js';
import { loadModel, modelChoice } from '../model/load.js';
import type { Check, Status } from '../parity/check.js';
import { openFixture } from '../parity/fixture.js';
import { compareGenerations } from '../parity/generations.js';
import { compareTensors, type Loss } from '../parity/tensors.js';
import { makeOut, writeActual } from '../parity/write.js';
import { type Style, styleFor } from '../style.js';

export const command: Command = {
  name: 'parity',
  description: "compare with a reference implementation's recorded outputs",
  args: {
    dir: { type: 'positional', required: true, description: 'folder with a checkpoint, expected.safetensors and expected.json' },
    weights: modelArgs.weights,
    'allow-unknown': modelArgs['allow-unknown'],
    device: modelArgs.device,
    out: { type: 'string', valueHint: 'OUT', description: 'write what was computed to OUT/actual.safetensors and OUT/actual.json' },
    json: {
      type: 'boolean',
      description: 'one JSON object a line and check: name, kind, status, maxError, ms; the totals on the last line',
    },
  },
  notes: [
    'One check for each tensor of expected.safetensors and for each field of each generation of expected.json, but for args (the input) and',
    'the cache_* fields of speculative and wavefront runs (which the format does not compare). input_ids and initial_state are inputs: their',
    'check is that the device gives them back unchanged. Losses of meta follow from logits: they are compared and shown, but are no checks.',
    'Exit code 0: none failed. 1: some failed, or the folder could not be read.',
  ],
  examples: ['unroll parity ./fixture', 'unroll parity ./fixture --json --out ./actual'],
  run,
};

interface Totals {
  readonly total: number;
  readonly pass: number;
  readonly fail: number;
  readonly unsupported: number;
  /** Losses of meta that are off; they are no checks, but decide about the exit code as well. */
  readonly failedLosses: number;
  /** Over floating-point values; tokens, depths and counts have none. */
  readonly maxError: number;
  readonly ms: number;
}

function totalsOf(checks: readonly Check[], losses: readonly Loss[]): Totals {
  const count = (status: Status) => checks.filter((check) => check.status === status).length;
  return {
    total: checks.length,
    pass: count('pass'),
    fail: count('fail'),
    unsupported: count('unsupported'),
    failedLosses: losses.filter(({ status }) => status === 'fail').length,
    maxError: Math.max(0, ...checks.map(({ maxError, exact }) => (exact === true ? 0 : (maxError ?? 0)))),
    ms: round(checks.reduce((sum, { ms }) => sum + ms, 0)),
  };
}

const round = (ms: number): number => Math.round(ms * 1000) / 1000;
const errorText = (maxError: number | null): string => (maxError === null ? '-' : maxError === 0 ? '0' : maxError.toExponential(1));

function paint(status: Status, style: Style): string {
  if (status === 'pass') return style.green('pass       ');
  return status === 'fail' ? style.red('FAIL       ') : style.yellow('unsupported');
}

/** Prints one check: a JSON line, or a line for people. Reasons go to stderr in JSON mode, so that each line keeps its five fields. */
function printer(json: boolean, io: Io): (check: Check) => void {
  const style = styleFor(io);
  return ({ reason, ...check }) => {
    if (json) {
      const { name, kind, status, maxError, ms } = check;
      io.stdout.write(`${JSON.stringify({ name, kind, status, maxError, ms: round(ms) })}\n`);
      if (reason !== undefined) io.stderr.write(`${status} ${name}: ${reason}\n`);
      return;
    }
    const time = check.ms >= 0.5 ? `${check.ms.toFixed(0)} ms` : '';
    const why = reason === undefined ? '' : style.dim(`  ${reason}`);
    io.stdout.write(`${paint(check.status, style)}  ${errorText(check.maxError).padStart(8)}  ${time.padStart(8)}  ${check.name}${why}\n`);
  };
}

function printSummary(totals: Totals, losses: readonly Loss[], json: boolean, device: string, io: Io): void {
  if (json) {
    io.stdout.write(
      `${JSON.stringify({ ...totals, device, losses: losses.map(({ path, status, maxError }) => ({ name: `meta.${path}`, status, maxError })) })}\n`,
    );
    return;
  }
  const style = styleFor(io);
  for (const { path, status, maxError } of losses) {
    io.stdout.write(
      style.dim(`loss      ${status === 'pass' ? '   within' : 'NOT WITHIN'} tolerance, off by ${errorText(maxError)}: meta.${path}\n`),
    );
  }
  const failed = totals.fail === 0 ? '0 failed' : style.red(`${totals.fail} failed`);
  const off = totals.failedLosses === 0 ? '' : style.red(`, ${totals.failedLosses} losses off`);
  io.stdout.write(
    `\n${totals.total} checks on ${device}: ${totals.pass} passed, ${failed}, ${totals.unsupported} unsupported${off}; largest error ${errorText(totals.maxError)}; ${(totals.ms / 1000).toFixed(1)} s\n`,
  );
}

async function run(flags: Flags, io: Io): Promise<number> {
  const dir = readText(flags, 'dir')!;
  if (dir === '') throw new UsageError('parity: DIR is empty; name the folder');
  const json = readFlag(flags, 'json');
  const choice = { ...modelChoice(flags), model: dir, tokenizer: false };
  const out = readText(flags, 'out');
  if (out !== undefined) await makeOut(out);
  const fixture = await openFixture((await findModel(dir)).files);
  try {
    const loaded = await loadModel(choice, io);
    try {
      const print = printer(json, io);
      const tensors = await compareTensors(loaded.model, fixture, io, print);
      const generations = await compareGenerations(loaded.model, fixture, io, print);
      if (out !== undefined)
        await writeActual(out, fixture, { tensors: tensors.actual, losses: tensors.losses, generations: generations.actual });
      const totals = totalsOf([...tensors.checks, ...generations.checks], tensors.losses);
      printSummary(totals, tensors.losses, json, loaded.device.kind, io);
      const failed = totals.fail > 0 || totals.failedLosses > 0;
      return failed ? EXIT.failure : EXIT.ok;
    } finally {
      await loaded.dispose();
    }
  } finally {
    await fixture.close();
  }
}
