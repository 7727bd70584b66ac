import { fork } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { openCheckpoint } from '@unroll/checkpoint';
import { fileSink, folderFiles, removeTemporaries } from '@unroll/checkpoint/node';
import { type Flags, readFlag, readText, readWhole } from '../args.js';
import type { Command } from '../command.js';
import { compareConverted, convertCheckpoint, countKept } from '../convert/convert.js';
import { CommandError, EXIT, UsageError } from '../errors.js';
import { modelArgs } from '../flags.js';
import type { Io } from '../io.js';
import { modelChoice, openModel } from '../model/load.js';
import { createProgress } from '../progress.js';
import { bytes, counted } from '../style.js';

const FORMATS = ['bf16', 'f16', 'q8', 'q4'] as const;
const COPIED = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
];

export const command: Command = {
  name: 'convert',
  description: 'matrices of a checkpoint as bf16, f16, q8 or q4, into another folder',
  args: {
    dir: { type: 'positional', required: true, description: 'the folder to write, which is made; a run that was killed is gone on with' },
    model: modelArgs.model,
    revision: modelArgs.revision,
    weights: modelArgs.weights,
    'allow-unknown': modelArgs['allow-unknown'],
    to: { type: 'string', valueHint: 'NAME', description: `what matrices become: ${FORMATS.join(', ')}` },
    'shard-mb': { type: 'string', valueHint: 'N', description: 'most megabytes of a shard, which is held in memory (default: 400)' },
    jobs: { type: 'string', valueHint: 'N', description: 'processes that convert, each a shard at a time (default: one for each core)' },
    share: {
      type: 'string',
      valueHint: 'I/N',
      description: 'make every N-th shard alone, from I on (0 to N - 1), for machines that share the work',
    },
    verify: { type: 'boolean', description: 'compare every tensor with the one it was made from' },
    json: { type: 'boolean', description: 'the result as one JSON object' },
  },
  notes: [
    'Norms and biases stay f32; a copy of the tied head and the rotary table are left out. Matrices are read and rounded a few rows at a time.',
    'Shards of a killed run are kept where samples of the source are what they were; its half-written files are deleted.',
  ],
  examples: ['unroll convert ./huginn-q4 --model ./huginn-0125 --to q4 --verify'],
  run,
};

async function run(flags: Flags, io: Io): Promise<number> {
  const to = readText(flags, 'dir')!;
  const format = FORMATS.find((one) => one === readText(flags, 'to'));
  if (format === undefined) throw new UsageError(`--to must be ${FORMATS.join(', ')}; got ${JSON.stringify(readText(flags, 'to') ?? '')}`);
  const shardBytes = (readWhole(flags, 'shard-mb', 1, 4000) ?? 400) * 1e6;
  const { model, revision, weights, allowUnknown } = modelChoice(flags);
  const opened = await openModel({ model, revision, weights, allowUnknown, tokenizer: false }, io);
  const { config, checkpoint, files } = opened;
  const progress = createProgress(io);
  const began = performance.now();
  const show = (what: string) => {
    const started = performance.now();
    return ({ doneBytes, totalBytes }: { doneBytes: number; totalBytes: number }) => {
      const seconds = (performance.now() - started) / 1000;
      const left = (seconds * (totalBytes - doneBytes)) / Math.max(1, doneBytes);
      progress.update(doneBytes / totalBytes, `${what} ${bytes(doneBytes)} of ${bytes(totalBytes)}, ${Math.ceil(left)} s left`);
    };
  };
  try {
    await mkdir(to, { recursive: true });
    const options = { config, checkpoint, format };
    const share = parseShare(readText(flags, 'share'));
    const jobs = share === undefined ? (readWhole(flags, 'jobs', 1, 256) ?? availableParallelism()) : 1;
    const alone = jobs === 1 || io.program === undefined;
    // Before others begin: what they find is then this run's, and a source that has changed is refused at once.
    const kept = share === undefined ? await countKept({ ...options, to, shardBytes }) : 0;
    if (!alone) {
      const own = { index: 0, of: jobs };
      const others = Array.from({ length: jobs - 1 }, (_, i) => helper(io.program!, flags, to, format, `${i + 1}/${jobs}`));
      await Promise.all([convertCheckpoint({ ...options, to, shardBytes, share: own, onProgress: show('converted') }), ...others]);
    }
    const made = await convertCheckpoint({
      ...options,
      to,
      shardBytes,
      ...(share === undefined ? {} : { share }),
      onProgress: alone ? show('converted') : () => undefined,
    });
    if (share !== undefined) return EXIT.ok;
    await removeTemporaries(to, (file) => COPIED.includes(file));
    for (const file of COPIED) {
      if (!(await files.has(file))) continue;
      const sink = await fileSink(join(to, file));
      await sink.write(new TextEncoder().encode(await files.readText(file)));
      await sink.end();
      await sink.commit();
    }
    const seconds = (performance.now() - began) / 1000;
    const result = {
      to,
      format,
      ...made,
      kept,
      seconds: Number(seconds.toFixed(1)),
      megabytesPerSecond: Math.round(checkpoint.totalBytes / 1e6 / seconds),
    };
    const compared = readFlag(flags, 'verify') ? await verify(to, { ...options, onProgress: show('compared') }) : undefined;
    progress.done();
    if (readFlag(flags, 'json'))
      io.stdout.write(`${JSON.stringify({ ...result, ...(compared === undefined ? {} : { verify: compared }) })}\n`);
    else {
      io.stdout.write(
        `${to}: ${bytes(made.bytes)} in ${counted(made.shards.length, 'file')}${kept > 0 ? ` (${kept} were there)` : ''}, ${result.seconds} s\n`,
      );
      if (made.dropped.length > 0) io.stdout.write(`left out: ${made.dropped.join(', ')}\n`);
      if (compared !== undefined) {
        for (const { format: kind, tensors, worst } of compared) {
          io.stdout.write(`${kind}: ${tensors} tensors, relative error at most ${worst.relative.toExponential(2)} (${worst.name})\n`);
        }
      }
    }
    return EXIT.ok;
  } finally {
    progress.done();
    await checkpoint.close();
  }
}

function parseShare(text: string | undefined): { index: number; of: number } | undefined {
  if (text === undefined) return undefined;
  const [, index, of] = /^(\d{1,4})\/(\d{1,4})$/.exec(text) ?? [];
  if (index === undefined || of === undefined || Number(index) >= Number(of))
    throw new UsageError(`--share must be I/N with I below N; got "${text}"`);
  return { index: Number(index), of: Number(of) };
}

/** Another process of this program that makes its share of the shards; it ends when this one does. */
function helper(program: string, flags: Flags, to: string, format: string, share: string): Promise<void> {
  const passed = ['model', 'revision', 'weights', 'allow-unknown', 'shard-mb'].flatMap((name) => {
    const value = readText(flags, name);
    return value === undefined ? [] : [`--${name}`, value];
  });
  const child = fork(program, ['convert', to, '--to', format, '--share', share, ...passed], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  let said = '';
  child.stderr?.on('data', (text: Buffer) => {
    said += text.toString();
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      if (code === EXIT.ok) resolve();
      else reject(new CommandError(`a helper of convert ended with ${signal ?? code}: ${said.trim()}`));
    });
  });
}

async function verify(to: string, options: Parameters<typeof compareConverted>[0]) {
  const made = await openCheckpoint(folderFiles(to));
  try {
    const { rows, bad } = await compareConverted(options, made);
    if (bad.length > 0) {
      throw new CommandError(
        `"${to}": ${bad.length} tensors differ from their source by more than rounding, first ${bad[0]!.name}: relative error ${bad[0]!.relative.toExponential(2)}; remove the folder and convert again`,
      );
    }
    return [...new Set(rows.map(({ format }) => format))].map((format) => {
      const same = rows.filter((row) => row.format === format);
      return { format, tensors: same.length, worst: same.reduce((most, row) => (row.relative > most.relative ? row : most)) };
    });
  } finally {
    await made.close();
  }
}
