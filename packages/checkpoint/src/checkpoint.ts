import { asCheckpointError, CheckpointError, checkOptions, listed, quote, throwTogether } from './errors.js';
import { checkFileName, type FileSet, MAX_TEXT_BYTES } from './file-set.js';
import type { TensorEntry } from './header.js';
import { parseShardIndex, type ShardIndex } from './index-file.js';
import {
  entryOf,
  type OpenSafetensorsOptions,
  openSafetensors,
  resolveLimits,
  type SafetensorsFile,
  streamTensor,
  type TensorReader,
} from './safetensors.js';

export interface CheckpointEntry extends TensorEntry {
  /** The file of the folder that holds the tensor; `offset` counts from its start. */
  readonly file: string;
}

/** All tensors of a folder, in one file or many shards. */
export interface Checkpoint extends TensorReader<CheckpointEntry> {
  /** The weight files, in the order of `entries`. */
  readonly files: readonly string[];
  /** Bytes of all tensors. */
  readonly totalBytes: number;
  /** `__metadata__` of each weight file. */
  readonly metadata: ReadonlyMap<string, ReadonlyMap<string, string>>;
}

export interface OpenCheckpointOptions extends OpenSafetensorsOptions {
  /** The weight file (`model-bf16.safetensors`) or shard index (`….index.json`) to open instead of the usual names. */
  readonly weights?: string;
  /** `ignore` accepts an index whose `total_size` is not the sum of its tensors, as some old exporters wrote. Default `check`. */
  readonly totalSize?: 'check' | 'ignore';
}

export const WEIGHTS_FILE = 'model.safetensors';
export const WEIGHTS_INDEX = 'model.safetensors.index.json';

/**
 * Opens `model.safetensors`, or the shards of `model.safetensors.index.json`, and checks every header.
 * @throws CheckpointError one error for the problems of all shards (`several-problems` lists each in `problems`)
 */
export async function openCheckpoint(files: FileSet, options: OpenCheckpointOptions = {}): Promise<Checkpoint> {
  checkOptions('openCheckpoint', options, ['weights', 'totalSize', 'limits']);
  const { weights, totalSize = 'check', ...limits } = options;
  if (totalSize !== 'check' && totalSize !== 'ignore') {
    throw new CheckpointError('bad-argument', `openCheckpoint: totalSize must be "check" or "ignore", not ${quote(String(totalSize))}.`);
  }
  const { tensors } = resolveLimits('openCheckpoint', limits);
  const chosen = weights ?? (await findWeights(files));
  checkFileName(files.name, chosen);
  if (!chosen.endsWith('.json')) {
    const opened = await openShards(files, [chosen], limits);
    return new OpenedCheckpoint(files.name, opened);
  }
  const index = parseShardIndex(await files.readText(chosen, MAX_TEXT_BYTES), chosen, { tensors, shards: 10_000 });
  const shardNames = [...new Set(index.weightMap.values())].sort();
  // The index may lie in a subfolder; its shards lie beside it.
  const folder = chosen.slice(0, chosen.lastIndexOf('/') + 1);
  const opened = await openShards(
    files,
    shardNames.map((shard) => folder + shard),
    limits,
  );
  try {
    throwTogether('openCheckpoint', files.name, indexProblems(chosen, folder, index, opened, totalSize === 'check'));
  } catch (error) {
    await closeAll(opened.values());
    throw error;
  }
  return new OpenedCheckpoint(files.name, opened);
}

async function findWeights(files: FileSet): Promise<string> {
  const [single, sharded] = await Promise.all([files.has(WEIGHTS_FILE), files.has(WEIGHTS_INDEX)]);
  if (sharded && single) {
    // Some exporters write an index over the one file. Anything else is two checkpoints in one folder.
    const { weightMap } = parseShardIndex(await files.readText(WEIGHTS_INDEX, MAX_TEXT_BYTES), WEIGHTS_INDEX);
    if ([...weightMap.values()].includes(WEIGHTS_FILE)) return WEIGHTS_INDEX;
    throw new CheckpointError(
      'ambiguous-weights',
      `openCheckpoint: ${quote(files.name)} has ${WEIGHTS_FILE} and an index over other files; say which with { weights: '${WEIGHTS_FILE}' } or { weights: '${WEIGHTS_INDEX}' }.`,
    );
  }
  if (sharded) return WEIGHTS_INDEX;
  if (single) return WEIGHTS_FILE;
  const all = (await files.list?.()) ?? [];
  const others = all.filter((file) => /\.safetensors$|\.safetensors\.index\.json$/.test(file));
  const foreign = all.filter((file) => /\.(bin|pt|pth|gguf|onnx)$/.test(file));
  const advice =
    others.length > 0
      ? ` It has ${listed(others.map(quote))}: pass one as { weights }.`
      : foreign.length > 0
        ? ` It has ${listed(foreign.map(quote))}, which must be converted to safetensors first.`
        : '';
  throw new CheckpointError(
    'missing-file',
    `openCheckpoint: ${quote(files.name)} has neither ${WEIGHTS_FILE} nor ${WEIGHTS_INDEX}.${advice}`,
    {
      file: WEIGHTS_FILE,
    },
  );
}

// Enough to hide a server's latency; each opening holds one header in memory.
const OPENING_AT_ONCE = 4;

async function openShards(
  files: FileSet,
  names: readonly string[],
  options: OpenSafetensorsOptions,
): Promise<Map<string, SafetensorsFile>> {
  const opened = new Map<string, SafetensorsFile>();
  const problems: CheckpointError[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let name = names[next++]; name !== undefined; name = names[next++]) {
      try {
        opened.set(name, await openSafetensors(await files.open(name), options));
      } catch (error) {
        problems.push(asCheckpointError(error, 'read-failed', `${quote(name)}: could not be opened`, { file: name }));
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(OPENING_AT_ONCE, names.length) }, worker));
  if (problems.length > 0) {
    await closeAll(opened.values());
    throwTogether('openCheckpoint', files.name, problems);
  }
  return new Map(names.flatMap((name) => (opened.has(name) ? [[name, opened.get(name) as SafetensorsFile] as const] : [])));
}

async function closeAll(files: Iterable<SafetensorsFile>): Promise<void> {
  await Promise.allSettled(Array.from(files, (file) => file.close()));
}

function indexProblems(
  indexFile: string,
  folder: string,
  index: ShardIndex,
  opened: ReadonlyMap<string, SafetensorsFile>,
  checkTotal: boolean,
): CheckpointError[] {
  const problems: CheckpointError[] = [];
  for (const [tensor, shard] of index.weightMap) {
    if (opened.get(folder + shard)?.entries.has(tensor)) continue;
    const what = `${quote(shard)}: tensor ${quote(tensor)} is listed here by ${quote(indexFile)}, but the file lacks it.`;
    problems.push(new CheckpointError('missing-tensor', what, { file: shard, tensor }));
  }
  let total = 0;
  for (const [file, { entries }] of opened) {
    for (const { name, byteLength } of entries.values()) {
      total += byteLength;
      const shard = index.weightMap.get(name);
      if (shard !== undefined && folder + shard === file) continue;
      const instead = shard === undefined ? 'the index does not list it' : `the index places it in ${quote(shard)}`;
      problems.push(
        new CheckpointError('unlisted-tensor', `${quote(file)}: holds tensor ${quote(name)}, but ${instead}.`, { file, tensor: name }),
      );
    }
  }
  if (checkTotal && problems.length === 0 && index.totalSize !== undefined && index.totalSize !== total) {
    const what = `${quote(indexFile)}: total_size is ${index.totalSize}, the tensors have ${total} bytes; pass { totalSize: 'ignore' } if the shards are known to be whole.`;
    problems.push(new CheckpointError('total-size', what, { file: indexFile }));
  }
  return problems;
}

class OpenedCheckpoint implements Checkpoint {
  readonly entries: ReadonlyMap<string, CheckpointEntry>;
  readonly names: readonly string[];
  readonly files: readonly string[];
  readonly totalBytes: number;
  readonly metadata: ReadonlyMap<string, ReadonlyMap<string, string>>;
  readonly #opened: ReadonlyMap<string, SafetensorsFile>;

  constructor(
    readonly name: string,
    opened: ReadonlyMap<string, SafetensorsFile>,
  ) {
    const entries = new Map<string, CheckpointEntry>();
    let totalBytes = 0;
    for (const [file, shard] of opened) {
      for (const entry of shard.entries.values()) {
        entries.set(entry.name, Object.freeze({ ...entry, file }));
        totalBytes += entry.byteLength;
      }
    }
    this.#opened = opened;
    this.entries = entries;
    this.names = Object.freeze([...entries.keys()]);
    this.files = Object.freeze([...opened.keys()]);
    this.totalBytes = totalBytes;
    this.metadata = new Map(Array.from(opened, ([file, shard]) => [file, shard.metadata]));
  }

  async read(name: string): Promise<Uint8Array> {
    return this.#shardOf(name).read(name);
  }

  async readInto(name: string, into: Uint8Array): Promise<Uint8Array> {
    return this.#shardOf(name).readInto(name, into);
  }

  async readSlice(name: string, begin: number, end: number, into?: Uint8Array): Promise<Uint8Array> {
    return this.#shardOf(name).readSlice(name, begin, end, into);
  }

  stream(name: string, chunkBytes?: number): AsyncGenerator<Uint8Array, void, undefined> {
    return streamTensor(this, name, chunkBytes);
  }

  async close(): Promise<void> {
    await closeAll(this.#opened.values());
  }

  #shardOf(name: string): SafetensorsFile {
    const { file } = entryOf(this, name);
    const shard = this.#opened.get(file);
    if (shard === undefined)
      throw new CheckpointError('missing-file', `${quote(this.name)}: ${quote(file)} is not open.`, { file, tensor: name });
    return shard;
  }
}
