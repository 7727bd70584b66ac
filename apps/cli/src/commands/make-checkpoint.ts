import { mkdir } from 'node:fs/promises';
import { CheckpointError } from '@unroll/checkpoint';
import { removeTemporaries } from '@unroll/checkpoint/node';
import { type Flags, readFlag, readText, readWhole } from '../args.js';
import type { Command } from '../command.js';
import { CommandError, EXIT, UsageError } from '../errors.js';
import type { Io } from '../io.js';
import { HUGINN, makeCheckpoint } from '../make/make.js';
import { createProgress } from '../progress.js';
import { bytes, counted } from '../style.js';

const SIZES = Object.keys(HUGINN) as (keyof typeof HUGINN)[];

export const command: Command = {
  name: 'make-checkpoint',
  description: 'a checkpoint in the public layout with seeded random weights, of any size',
  args: {
    dir: { type: 'positional', required: true, description: 'the folder to write, which is made' },
    like: { type: 'string', valueHint: 'NAME', description: 'whose layout and sizes: huginn-0125 (default)' },
    width: { type: 'string', valueHint: 'C', description: 'width (5280)' },
    heads: { type: 'string', valueHint: 'H', description: 'attention heads (55)' },
    mlp: { type: 'string', valueHint: 'I', description: 'width of the MLP (17920)' },
    vocabulary: { type: 'string', valueHint: 'V', description: 'tokens (65536)' },
    context: { type: 'string', valueHint: 'N', description: 'positions (4096)' },
    prelude: { type: 'string', valueHint: 'N', description: 'prelude layers (2)' },
    core: { type: 'string', valueHint: 'N', description: 'core layers (4)' },
    coda: { type: 'string', valueHint: 'N', description: 'coda layers (2)' },
    seed: { type: 'string', valueHint: 'N', description: 'keys the weights (0)' },
    'shard-mb': { type: 'string', valueHint: 'N', description: 'most megabytes of a shard (5000)' },
    overwrite: { type: 'boolean', description: 'replace weights that are there' },
  },
  notes: [
    'Names, shapes, dtypes, shard index and configuration are those of the upload, with its copy of the tied head and its rotary table; the',
    'weights are those of an untrained model. The tokenizer has the 256 bytes, pairs of bytes and the special tokens in their places.',
  ],
  examples: ['unroll make-checkpoint ./huginn-random', 'unroll make-checkpoint ./small --width 96 --heads 3 --mlp 128 --vocabulary 400'],
  run,
};

async function run(flags: Flags, io: Io): Promise<number> {
  const folder = readText(flags, 'dir')!;
  const like = readText(flags, 'like') ?? 'huginn-0125';
  if (like !== 'huginn-0125') throw new UsageError(`--like must be huginn-0125; got "${like}"`);
  const least = { prelude: 0, coda: 0 } as Partial<Record<string, number>>;
  const sizes = { ...HUGINN };
  for (const name of SIZES) sizes[name] = readWhole(flags, name, least[name] ?? 1) ?? HUGINN[name];
  const { createCpuDevice } = await import('@unroll/tensor/cpu');
  const device = createCpuDevice();
  const progress = createProgress(io);
  const began = performance.now();
  try {
    await mkdir(folder, { recursive: true });
    await removeTemporaries(folder);
    const written = await makeCheckpoint(device, folder, {
      sizes,
      seed: readWhole(flags, 'seed', 0) ?? 0,
      shardBytes: (readWhole(flags, 'shard-mb', 1) ?? 5000) * 1e6,
      overwrite: readFlag(flags, 'overwrite'),
      onProgress: ({ doneBytes, totalBytes }) => {
        const left = ((performance.now() - began) / 1000) * (totalBytes / Math.max(1, doneBytes) - 1);
        progress.update(doneBytes / totalBytes, `${bytes(doneBytes)} of ${bytes(totalBytes)}, ${Math.ceil(left)} s left`);
      },
    });
    progress.done();
    const all = written.reduce((sum, { byteLength }) => sum + byteLength, 0);
    io.stdout.write(
      `${folder}: ${bytes(all)} in ${counted(written.length, 'file')}, ${((performance.now() - began) / 1000).toFixed(1)} s\n`,
    );
    return EXIT.ok;
  } catch (error) {
    if (!CheckpointError.is(error) || error.code !== 'exists') throw error;
    throw new CommandError(error.message.replace(/^writeCheckpoint: /, '').replace('pass { overwrite: true }', 'give --overwrite'));
  } finally {
    progress.done();
    device.dispose();
  }
}
