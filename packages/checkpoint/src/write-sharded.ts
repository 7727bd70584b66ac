import { WEIGHTS_FILE, WEIGHTS_INDEX } from './checkpoint.js';
import { CheckpointError, checkOptions, quote } from './errors.js';
import type { ByteSink, SinkSet } from './sink.js';
import {
  compareCodePoints,
  layOut,
  type PlacedTensor,
  type TensorToWrite,
  type WriteSafetensorsOptions,
  type WrittenFile,
  writeUncommitted,
} from './write.js';

export interface WriteCheckpointOptions extends WriteSafetensorsOptions {
  /** Bytes of tensors in one shard, at most, but for a tensor larger than that, which gets one of its own. Default 5 GB, as the hub's tools. */
  readonly maxShardBytes?: number;
  /** Replace weights that are there already. Default false: refused with `exists`. */
  readonly overwrite?: boolean;
}

export const DEFAULT_SHARD_BYTES = 5_000_000_000;

/**
 * Writes `model.safetensors`, or shards `model-00001-of-0000N.safetensors` with their index. Nothing becomes visible before all
 * of it is written; then an old index is removed, the shards take their names, and the new index comes last. Many renames cannot
 * be one: a folder whose shards were being replaced when the process was killed may have no index, and then `openCheckpoint`
 * refuses it. Old and new shards are never taken for one checkpoint.
 * @throws CheckpointError as `writeSafetensors`, and `exists`
 */
export async function writeCheckpoint(
  folder: SinkSet,
  tensors: Iterable<TensorToWrite>,
  options: WriteCheckpointOptions = {},
): Promise<readonly WrittenFile[]> {
  checkOptions('writeCheckpoint', options, ['metadata', 'maxShardBytes', 'overwrite']);
  const { maxShardBytes = DEFAULT_SHARD_BYTES, overwrite = false, ...fileOptions } = options;
  if (!Number.isSafeInteger(maxShardBytes) || maxShardBytes < 1) {
    throw new CheckpointError('bad-argument', `writeCheckpoint: maxShardBytes must be an integer of 1 or more, not ${maxShardBytes}.`);
  }
  const shards = split(layOut(folder.name, tensors), maxShardBytes);
  const fileNames = shards.length === 1 ? [WEIGHTS_FILE] : shards.map((_, at) => shardName(at + 1, shards.length));
  await refuseExisting(folder, fileNames, overwrite);

  const sinks: ByteSink[] = [];
  const written: WrittenFile[] = [];
  try {
    for (const [at, shard] of shards.entries()) {
      const file = fileNames[at] as string;
      const sink = await folder.create(file);
      sinks.push(sink);
      const byteLength = await writeUncommitted(
        sink,
        shard.map(({ tensor }) => tensor),
        fileOptions,
      );
      written.push({ file, byteLength });
    }
    if (shards.length > 1) {
      const index = new TextEncoder().encode(encodeIndex(shards, fileNames));
      const sink = await folder.create(WEIGHTS_INDEX);
      sinks.push(sink);
      await sink.write(index);
      await sink.end();
      written.push({ file: WEIGHTS_INDEX, byteLength: index.length });
    }
    if (shards.length > 1) await folder.remove(WEIGHTS_INDEX);
    for (const sink of sinks) await sink.commit();
    return written;
  } catch (error) {
    for (const sink of sinks) await sink.abort();
    throw error;
  }
}

async function refuseExisting(folder: SinkSet, fileNames: readonly string[], overwrite: boolean): Promise<void> {
  const refuse = (file: string, advice: string): never => {
    throw new CheckpointError('exists', `writeCheckpoint: ${quote(folder.name)} already has ${quote(file)}; ${advice}`, { file });
  };
  if (!overwrite) {
    for (const file of [...fileNames, WEIGHTS_FILE, WEIGHTS_INDEX]) {
      if (await folder.has(file)) refuse(file, 'choose an empty folder or pass { overwrite: true }.');
    }
    return;
  }
  // Replacing one layout by the other would leave two checkpoints in one folder.
  const other = fileNames[0] === WEIGHTS_FILE ? WEIGHTS_INDEX : WEIGHTS_FILE;
  if (await folder.has(other)) refuse(other, 'which the new weights would not replace; remove it first.');
}

function split(layout: readonly PlacedTensor[], maxShardBytes: number): PlacedTensor[][] {
  const shards: PlacedTensor[][] = [[]];
  let filled = 0;
  for (const placed of layout) {
    if (filled > 0 && filled + placed.bytes > maxShardBytes) {
      shards.push([]);
      filled = 0;
    }
    shards[shards.length - 1]?.push(placed);
    filled += placed.bytes;
  }
  return shards;
}

function shardName(number: number, count: number): string {
  const digits = (value: number): string => String(value).padStart(5, '0');
  return `model-${digits(number)}-of-${digits(count)}.safetensors`;
}

function encodeIndex(shards: readonly (readonly PlacedTensor[])[], fileNames: readonly string[]): string {
  const places: [string, string][] = [];
  let total = 0;
  for (const [at, shard] of shards.entries()) {
    for (const { tensor, bytes } of shard) {
      places.push([tensor.name, fileNames[at] as string]);
      total += bytes;
    }
  }
  places.sort(([a], [b]) => compareCodePoints(a, b));
  // Built as text: an object would move names that look like integers to the front.
  const lines = places.map(([name, file]) => `    ${JSON.stringify(name)}: ${JSON.stringify(file)}`);
  return `{\n  "metadata": {\n    "total_size": ${total}\n  },\n  "weight_map": {\n${lines.join(',\n')}\n  }\n}\n`;
}
