import { CheckpointError, type CheckpointErrorCode, quote } from './errors.js';
import { hasUnsafeCharacter } from './file-set.js';
import { nameProblem } from './header.js';
import { JsonCursor, JsonProblem } from './json-cursor.js';

/** The content of a `model.safetensors.index.json`. */
export interface ShardIndex {
  /** Tensor name -> shard file name. */
  readonly weightMap: ReadonlyMap<string, string>;
  /** Bytes of all tensors, where the index says. */
  readonly totalSize: number | undefined;
}

export interface ShardIndexLimits {
  readonly tensors: number;
  /** Shards of one checkpoint; each costs an open file. The largest public checkpoints have under 300. */
  readonly shards: number;
}

export const DEFAULT_INDEX_LIMITS: ShardIndexLimits = Object.freeze({ tensors: 1_000_000, shards: 10_000 });

// `{"metadata": {...}, "weight_map": {...}}` is two deep; tools that add their own metadata stay far below this.
const MAX_DEPTH = 32;

/**
 * Reads a shard index strictly. Unknown fields beside `weight_map` and `metadata.total_size` are passed over: tools add their own.
 * @throws CheckpointError `bad-index`, `duplicate-name`, `bad-name`, `bad-file-name`, `header-limit`
 */
export function parseShardIndex(text: string, file: string, limits: ShardIndexLimits = DEFAULT_INDEX_LIMITS): ShardIndex {
  const refuse = (code: CheckpointErrorCode, what: string, tensor?: string): never => {
    const where = tensor === undefined ? quote(file) : `${quote(file)}: tensor ${quote(tensor)}`;
    throw new CheckpointError(code, `${where}: ${what}`, { file, tensor });
  };
  const weightMap = new Map<string, string>();
  const shards = new Set<string>();
  const seen = new Set<string>();
  const sizes: number[] = [];
  const cursor = new JsonCursor(text);

  const readWeight = (name: string): void => {
    if (weightMap.has(name)) refuse('duplicate-name', 'the name occurs twice in weight_map.', name);
    const problem = nameProblem(name);
    if (problem !== undefined) refuse('bad-name', `${problem}.`, name);
    if (cursor.peek() !== '"') refuse('bad-index', 'its shard must be a file name.', name);
    const shard = cursor.string();
    const badShard = shardNameProblem(shard);
    if (badShard !== undefined) refuse('bad-file-name', `its shard ${quote(shard)} ${badShard}.`, name);
    weightMap.set(name, shard);
    shards.add(shard);
    if (weightMap.size > limits.tensors) refuse('header-limit', `more than ${limits.tensors} tensors.`);
    if (shards.size > limits.shards) refuse('header-limit', `more than ${limits.shards} shards.`);
  };
  const readMetadata = (key: string): void => {
    if (key !== 'total_size') {
      cursor.skip(MAX_DEPTH);
      return;
    }
    if (sizes.length > 0) refuse('duplicate-name', 'metadata.total_size occurs twice.');
    sizes.push(cursor.unsigned('metadata.total_size'));
  };

  try {
    if (cursor.peek() !== '{') refuse('bad-index', 'a shard index must be a JSON object with weight_map.');
    cursor.object((key) => {
      if (seen.has(key)) refuse('duplicate-name', `the field ${quote(key)} occurs twice.`);
      seen.add(key);
      if (key === 'weight_map') {
        if (cursor.peek() !== '{') refuse('bad-index', 'weight_map must be an object of tensor name to shard file.');
        cursor.object(readWeight);
      } else if (key === 'metadata' && cursor.peek() === '{') {
        cursor.object(readMetadata);
      } else {
        cursor.skip(MAX_DEPTH);
      }
    });
    cursor.end();
  } catch (error) {
    if (error instanceof JsonProblem) refuse('bad-index', `not valid JSON of the format: ${error.what} (character ${error.position}).`);
    throw error;
  }
  if (!seen.has('weight_map')) refuse('bad-index', 'a shard index must have weight_map.');
  if (weightMap.size === 0) refuse('bad-index', 'weight_map names no tensor.');
  return { weightMap, totalSize: sizes[0] };
}

// A shard lies beside its index: any path separator could lead elsewhere.
function shardNameProblem(shard: string): string | undefined {
  if (shard.includes('/') || shard.startsWith('.') || hasUnsafeCharacter(shard)) return 'is not a plain file name';
  if (!shard.endsWith('.safetensors')) return 'does not end with .safetensors';
  return undefined;
}
