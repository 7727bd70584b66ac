/// <reference types="node" />
import { readdir, readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { WEIGHTS_FILE, WEIGHTS_INDEX } from '../checkpoint.js';
import { parseShardIndex } from '../index-file.js';

/** The folder that the hub's own tools use: HF_HUB_CACHE, else hub in HF_HOME, else huggingface/hub in XDG_CACHE_HOME or ~/.cache. */
export function hubCacheFolder(env: Readonly<Record<string, string | undefined>>): string {
  if (env.HF_HUB_CACHE) return env.HF_HUB_CACHE;
  return join(env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface'), 'hub');
}

export async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    (found) => (found.isFile() ? found.size : undefined),
    () => undefined,
  );
}

/** The snapshot in the cache that a revision stands for. */
export async function snapshotOf(folder: string, revision: string): Promise<string | undefined> {
  const commit = /^[0-9a-f]{40}$/.test(revision) ? revision : await readFile(join(folder, 'refs', revision), 'utf8').catch(() => undefined);
  if (commit === undefined) return undefined;
  const snapshot = join(folder, 'snapshots', commit.trim());
  return (await sizeOf(join(snapshot, 'config.json'))) === undefined ? undefined : snapshot;
}

/** A file of the weights that a snapshot lacks: tools that were stopped leave such snapshots. Weights under names of their own are left to who asks for them. */
export async function missingOf(snapshot: string): Promise<string | undefined> {
  const has = async (file: string) => (await sizeOf(join(snapshot, file))) !== undefined;
  if (await has(WEIGHTS_FILE)) return undefined;
  if (await has(WEIGHTS_INDEX)) {
    const { weightMap } = parseShardIndex(await readFile(join(snapshot, WEIGHTS_INDEX), 'utf8'), WEIGHTS_INDEX);
    for (const shard of new Set(weightMap.values())) if (!(await has(shard))) return shard;
    return undefined;
  }
  for (const name of await readdir(snapshot)) if (name.endsWith('.safetensors') && (await has(name))) return undefined;
  return WEIGHTS_FILE;
}
