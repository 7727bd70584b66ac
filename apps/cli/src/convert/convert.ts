import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Checkpoint, CheckpointError, openSafetensors, type TensorToWrite, toFloat32, writeSafetensors } from '@unroll/checkpoint';
import { fileSink, fileSource, removeTemporaries } from '@unroll/checkpoint/node';
import { familyOf, isMatrix, joinsQuantized, parameterShapes, type RecurrentConfig, storedParts } from '@unroll/recurrent';
import { dequantizeRows, quantizeRows, type WeightFormat, type WeightPart, weightParts } from '@unroll/tensor';
import { digestOf } from './digest.js';

/** A tensor of the source, and the tensors that it becomes. */
interface Conversion {
  readonly name: string;
  readonly shape: readonly number[];
  /** undefined keeps f32: norms and biases are small, and exact. */
  readonly format: WeightFormat | undefined;
  readonly parts:
    | readonly Pick<WeightPart, 'suffix' | 'dtype' | 'shape' | 'bytes'>[]
    | readonly [{ suffix: ''; dtype: 'F32'; shape: readonly number[]; bytes: number }];
}

export interface ConvertOptions {
  readonly config: RecurrentConfig;
  readonly checkpoint: Checkpoint;
  readonly to: string;
  readonly format: WeightFormat;
  readonly shardBytes: number;
  /** Makes every `of`-th shard alone, from `index` on, and no index file: one of several processes. */
  readonly share?: { readonly index: number; readonly of: number };
  readonly onProgress?: (progress: { readonly name: string; readonly doneBytes: number; readonly totalBytes: number }) => void;
}

export interface Converted {
  readonly shards: readonly string[];
  /** Shards of an earlier run that were kept. */
  readonly kept: number;
  readonly bytes: number;
  readonly tensors: number;
  /** Tensors of the source that are left out: copies and tables that loading computes. */
  readonly dropped: readonly string[];
}

// Rows are read and rounded in pieces of about this many bytes, whole blocks of 8 rows.
const PIECE_BYTES = 1 << 23;

export function planConversion(config: RecurrentConfig, checkpoint: Checkpoint, format: WeightFormat): Conversion[] {
  const family = familyOf(checkpoint.names);
  const parameters = parameterShapes(config, family);
  return [...storedParts(config, family)].flatMap(([parameter, stored]) =>
    stored.map(({ name, shape }): Conversion => {
      if (!isMatrix(parameters.get(parameter)!)) {
        const bytes = shape.reduce((product, n) => product * n, 4);
        return { name, shape, format: undefined, parts: [{ suffix: '', dtype: 'F32', shape, bytes }] };
      }
      // Loading joins rows that lie apart in the file, and can do so with whole blocks of quantised ones alone.
      const joins = (format !== 'q8' && format !== 'q4') || joinsQuantized(stored.map((part) => part.shape));
      const kept = joins ? format : 'bf16';
      return { name, shape, format: kept, parts: weightParts(kept, shape) };
    }),
  );
}

/** Splits in order, so that the same source and options always give the same shards. */
function split(plan: readonly Conversion[], shardBytes: number): Conversion[][] {
  const shards: Conversion[][] = [[]];
  let filled = 0;
  for (const one of plan) {
    const bytes = one.parts.reduce((sum, part) => sum + part.bytes, 0);
    if (filled > 0 && filled + bytes > shardBytes) {
      shards.push([]);
      filled = 0;
    }
    shards.at(-1)!.push(one);
    filled += bytes;
  }
  return shards;
}

function shardsOf({ config, checkpoint, format, shardBytes }: Pick<ConvertOptions, 'config' | 'checkpoint' | 'format' | 'shardBytes'>) {
  const plan = planConversion(config, checkpoint, format);
  const shards = split(plan, shardBytes);
  const digits = (n: number) => String(n).padStart(5, '0');
  const files = shards.map((_, i) =>
    shards.length === 1 ? 'model.safetensors' : `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`,
  );
  return { plan, shards, files };
}

/** Calls back with the f32 values of whole blocks of rows. */
export async function eachPiece(checkpoint: Checkpoint, name: string, use: (values: Float32Array, row: number) => void): Promise<void> {
  const { shape, byteLength, dtype } = checkpoint.entries.get(name)!;
  const [N, K] = shape as [number, number];
  const rowBytes = byteLength / Math.max(1, N);
  const step = 8 * Math.max(1, Math.floor(PIECE_BYTES / 8 / Math.max(1, rowBytes)));
  const buffer = new Uint8Array(Math.min(step, N) * rowBytes);
  for (let row = 0; row < N; row += step) {
    const rows = Math.min(step, N - row);
    const bytes = await checkpoint.readSlice(name, row * rowBytes, (row + rows) * rowBytes, buffer);
    use(toFloat32(bytes.subarray(0, rows * K * (rowBytes / Math.max(1, K))), dtype), row);
  }
}

async function convertTensor({ name, format, parts }: Conversion, checkpoint: Checkpoint): Promise<Uint8Array[]> {
  if (format === undefined) {
    const values = toFloat32(await checkpoint.read(name), checkpoint.entries.get(name)!.dtype);
    return [new Uint8Array(values.buffer, values.byteOffset, values.byteLength)];
  }
  const out = parts.map(({ bytes }) => new Uint8Array(bytes));
  const filled = parts.map(() => 0);
  const K = checkpoint.entries.get(name)!.shape[1]!;
  await eachPiece(checkpoint, name, (values, row) => {
    quantizeRows(format, values, K, row).forEach((piece, i) => {
      out[i]!.set(piece, filled[i]!);
      filled[i]! += piece.length;
    });
  });
  return out;
}

const INDEX = 'model.safetensors.index.json';
// Where a shard says what it was made from.
const SOURCE_KEY = 'unroll.source';

/** Whether a shard is there, made from this source. Throws CheckpointError where the file is another's. */
async function isThere(path: string, shard: readonly Conversion[], source: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined) return false;
  const file = await openSafetensors(fileSource(path));
  const [have, want] = [
    [...file.entries.values()].map(({ name, dtype, shape }) => `${name} ${dtype} [${shape}]`),
    shard.flatMap(({ name, parts }) => parts.map(({ suffix, dtype, shape }) => `${name}${suffix} ${dtype} [${shape}]`)),
  ];
  await file.close();
  const refuse = (what: string) =>
    new CheckpointError('exists', `"${path}": is there ${what}; choose an empty folder, or remove what is in this one.`, { file: path });
  if (have.sort().join() !== want.sort().join()) throw refuse('with other tensors, from another conversion');
  if (file.metadata.get(SOURCE_KEY) !== source) throw refuse('with these tensors, but was made from other weights');
  return true;
}

/** How many shards an earlier run has left that can be kept. Throws CheckpointError where one is there that cannot. */
export async function countKept(options: ConvertOptions): Promise<number> {
  const { shards, files } = shardsOf(options);
  let kept = 0;
  for (const [i, shard] of shards.entries())
    if (await isThere(join(options.to, files[i]!), shard, await digestOf(options.checkpoint, shard))) kept++;
  return kept;
}

/**
 * Converts the matrices of a checkpoint, shard by shard. A shard takes its name when all of it is on the disk, and the index comes last:
 * a run that was killed is gone on with, and what it left is never taken for a checkpoint. Half-written files of earlier runs are deleted.
 * Throws CheckpointError where a shard is there that was made from another source or to another format.
 */
export async function convertCheckpoint(options: ConvertOptions): Promise<Converted> {
  const { checkpoint, to } = options;
  const { plan, shards, files } = shardsOf(options);
  const totalBytes = plan.reduce((sum, { name }) => sum + checkpoint.entries.get(name)!.byteLength, 0);
  let doneBytes = 0;
  let kept = 0;
  let bytes = 0;
  for (const [i, shard] of shards.entries()) {
    const path = join(to, files[i]!);
    const report = (name: string) => {
      doneBytes += checkpoint.entries.get(name)!.byteLength;
      options.onProgress?.({ name, doneBytes, totalBytes });
    };
    bytes += shard.reduce((sum, { parts }) => sum + parts.reduce((all, part) => all + part.bytes, 0), 0);
    const others = options.share !== undefined && i % options.share.of !== options.share.index;
    if (!others) await removeTemporaries(to, (file) => file === files[i]);
    const source = others ? '' : await digestOf(checkpoint, shard);
    if (others || (await isThere(path, shard, source))) {
      if (!others) kept++;
      for (const { name } of shard) report(name);
      continue;
    }
    const ready = new Map<string, Uint8Array[]>();
    const tensors = shard.flatMap((one): TensorToWrite[] =>
      one.parts.map((part, at) => ({
        name: one.name + part.suffix,
        dtype: part.dtype,
        shape: part.shape,
        // The parts of a matrix come from one pass over it and are written apart: the file has wide dtypes first.
        bytes: async () => {
          let made = ready.get(one.name);
          if (made === undefined) {
            made = await convertTensor(one, checkpoint);
            ready.set(one.name, made);
            report(one.name);
          }
          const [piece] = made.splice(at, 1, new Uint8Array(0));
          return piece!;
        },
      })),
    );
    await writeSafetensors(await fileSink(path), tensors, { metadata: { [SOURCE_KEY]: source } });
  }
  if (shards.length > 1 && options.share === undefined) await writeIndex(to, shards, files, bytes);
  const names = new Set(plan.map(({ name }) => name));
  return { shards: files, kept, bytes, tensors: plan.length, dropped: checkpoint.names.filter((name) => !names.has(name)) };
}

async function writeIndex(to: string, shards: readonly (readonly Conversion[])[], files: readonly string[], total: number): Promise<void> {
  const map = shards.flatMap((shard, i) =>
    shard.flatMap(({ name, parts }) => parts.map(({ suffix }) => [name + suffix, files[i]!] as const)),
  );
  const json = { metadata: { total_size: total }, weight_map: Object.fromEntries(map.sort(([a], [b]) => (a < b ? -1 : 1))) };
  await removeTemporaries(to, (file) => file === INDEX);
  const sink = await fileSink(join(to, INDEX));
  try {
    await sink.write(new TextEncoder().encode(`${JSON.stringify(json, null, 2)}\n`));
    await sink.end();
    await sink.commit();
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

export interface Compared {
  readonly name: string;
  readonly format: string;
  /** Root mean square of the differences over that of the values. */
  readonly relative: number;
}

// Above these a conversion is broken, not rounded: a half has 8 or 11 bits, q8 a step of 1/127 of the largest of 32, q4 one of about 1/8.
const LIMITS: Readonly<Record<string, number>> = { f32: 0, f16: 2 ** -10, bf16: 2 ** -8, q8: 0.02, q4: 0.2 };

/** Compares every tensor with the one it was made from. `bad` says which differ by more than their format explains. */
export async function compareConverted(
  options: Pick<ConvertOptions, 'config' | 'checkpoint' | 'format' | 'onProgress'>,
  made: Checkpoint,
): Promise<{ readonly rows: readonly Compared[]; readonly bad: readonly Compared[] }> {
  const { checkpoint } = options;
  const plan = planConversion(options.config, checkpoint, options.format);
  const totalBytes = plan.reduce((sum, { name }) => sum + checkpoint.entries.get(name)!.byteLength, 0);
  const rows: Compared[] = [];
  let doneBytes = 0;
  for (const { name, shape, format, parts } of plan) {
    let [error, power] = [0, 0];
    const compare = (a: Float32Array, b: Float32Array) => {
      for (let i = 0; i < a.length; i++) {
        error += (a[i]! - b[i]!) ** 2;
        power += a[i]! ** 2;
      }
    };
    const stored = await Promise.all(parts.map(({ suffix }) => made.read(name + suffix)));
    if (format === undefined)
      compare(toFloat32(await checkpoint.read(name), checkpoint.entries.get(name)!.dtype), toFloat32(stored[0]!, 'F32'));
    else {
      const K = shape[1]!;
      const at = stored.map(() => 0);
      await eachPiece(checkpoint, name, (values) => {
        const n = values.length / K;
        const pieces = weightParts(format, [n, K]).map(({ bytes }, i) => {
          const piece = stored[i]!.slice(at[i]!, at[i]! + bytes);
          at[i]! += bytes;
          return piece;
        });
        compare(values, dequantizeRows(format, pieces, n, K));
      });
    }
    doneBytes += checkpoint.entries.get(name)!.byteLength;
    rows.push({ name, format: format ?? 'f32', relative: power === 0 ? Math.sqrt(error) : Math.sqrt(error / power) });
    options.onProgress?.({ name, doneBytes, totalBytes });
  }
  return { rows, bad: rows.filter(({ format, relative }) => !(relative <= LIMITS[format]!)) };
}
