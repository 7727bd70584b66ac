/// <reference types="node" />
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { asCheckpointError, CheckpointError, checkOptions, quote } from '../errors.js';
import { checkFileName, type FileSet } from '../file-set.js';
import { type HubOptions, hubFileUrl, hubPlace, hubRequest, hubStatusError } from '../hub.js';
import { folderFiles } from './files.js';
import { hubCacheFolder, missingOf, sizeOf, snapshotOf } from './hub-cache.js';
import { fetchParts, type PartsSink } from './hub-parts.js';

export interface DownloadProgress {
  readonly file: string;
  /** Of all files that are wanted, with what was there before. */
  readonly loadedBytes: number;
  readonly totalBytes: number;
  /** Of this run, over its last seconds. */
  readonly bytesPerSecond: number;
  readonly secondsLeft: number;
}

export interface DownloadOptions extends HubOptions {
  /** The cache folder; `hubCacheFolder(process.env)` when absent. */
  readonly cache?: string;
  /** Which files are wanted; configuration, tokenizer and safetensors when absent. */
  readonly wanted?: (file: string) => boolean;
  /** Requests at once; 4 when absent. */
  readonly connections?: number;
  /** Bytes of a request; 32 MiB when absent. */
  readonly partBytes?: number;
  /** Milliseconds without a byte after which a request is given up and tried again; 30,000 when absent. */
  readonly stallMs?: number;
  /** Tries of a request, the first included; 6 when absent. */
  readonly tries?: number;
  readonly onProgress?: (progress: DownloadProgress) => void;
}

const OPTION_NAMES = [
  'repo',
  'revision',
  'endpoint',
  'token',
  'fetch',
  'signal',
  'cache',
  'wanted',
  'connections',
  'partBytes',
  'stallMs',
  'tries',
  'onProgress',
];

const usually = (file: string): boolean =>
  !file.includes('/') &&
  (/\.safetensors(\.index\.json)?$/.test(file) ||
    /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map)\.json$/.test(file) ||
    /\.jinja$/.test(file));

interface RemoteFile {
  readonly file: string;
  readonly size: number;
  /** The hub's: SHA-256 of large files, git's blob id of others. */
  readonly etag: string;
}

/**
 * Puts the files of a repository into the hub's cache folder, as the hub's own tools lay it out (blobs by hash, snapshots of links), and
 * gives them as a folder. What is there already is not fetched again. A download that was cut, even by a kill, goes on where it was; a
 * file takes its name when all of it has come and its hash is right.
 *
 * Without a connection, a snapshot that is in the cache is taken as it is, where its weights are whole.
 *
 * @throws CheckpointError `gated`, `missing-file`, `http-status`, `http-range`, `http-body`, `stalled`, `wrong-hash`, `disk-full`,
 * `read-failed`, `write-failed`, `aborted`
 */
export async function downloadFromHub(options: DownloadOptions): Promise<FileSet> {
  checkOptions('downloadFromHub', options, OPTION_NAMES);
  const { repo, revision } = hubPlace(options);
  const folder = join(options.cache ?? hubCacheFolder(process.env), `models--${repo.replace('/', '--')}`);
  let listed: { commit: string; files: string[] };
  try {
    listed = await listRepo(options);
  } catch (error) {
    const kept = isOffline(error) ? await snapshotOf(folder, revision) : undefined;
    if (kept === undefined) throw error;
    const missing = options.wanted === undefined ? await missingOf(kept) : undefined;
    if (missing === undefined) return folderFiles(kept);
    throw new CheckpointError(
      'read-failed',
      `${(error as CheckpointError).message} The snapshot in the cache, ${quote(kept)}, is not whole: ${quote(missing)} is not there.`,
      { file: missing, cause: error },
    );
  }
  const names = listed.files.filter(options.wanted ?? usually);
  if (names.length === 0)
    throw new CheckpointError('missing-file', `${quote(`${repo}@${revision}`)}: none of its files is wanted here.`, { file: repo });
  for (const name of names) checkFileName(repo, name);
  const snapshot = join(folder, 'snapshots', listed.commit);
  await guardWrite(folder, async () => {
    await mkdir(join(folder, 'blobs'), { recursive: true });
    await mkdir(join(folder, 'refs'), { recursive: true });
    await mkdir(snapshot, { recursive: true });
  });
  const missing: RemoteFile[] = [];
  let loaded = 0;
  for (const name of names) {
    const there = await sizeOf(join(snapshot, name));
    if (there !== undefined) loaded += there;
    else missing.push(await describe(options, name, listed.commit));
  }
  const total = loaded + missing.reduce((sum, { size }) => sum + size, 0);
  const meter = new Meter();
  for (const remote of missing) {
    const blob = join(folder, 'blobs', remote.etag);
    if ((await sizeOf(blob)) !== remote.size) {
      await fetchBlob(options, remote, listed.commit, blob, (bytes, fresh) => {
        loaded += bytes;
        const bytesPerSecond = fresh ? meter.add(bytes) : meter.rate;
        options.onProgress?.({
          file: remote.file,
          loadedBytes: loaded,
          totalBytes: total,
          bytesPerSecond,
          secondsLeft: bytesPerSecond > 0 ? (total - loaded) / bytesPerSecond : Number.POSITIVE_INFINITY,
        });
      });
    } else loaded += remote.size;
    await link(blob, join(snapshot, remote.file));
  }
  if (revision !== listed.commit) {
    await guardWrite(folder, async () => {
      const ref = join(folder, 'refs', revision);
      await mkdir(dirname(ref), { recursive: true });
      await writeFile(`${ref}.tmp`, listed.commit);
      await rename(`${ref}.tmp`, ref);
    });
  }
  return folderFiles(snapshot);
}

const isOffline = (error: unknown): boolean => CheckpointError.is(error) && error.code === 'read-failed';

async function listRepo(options: HubOptions): Promise<{ commit: string; files: string[] }> {
  const { repo, revision, endpoint } = hubPlace(options);
  const url = `${endpoint}/api/models/${repo}/revision/${encodeURIComponent(revision)}`;
  const response = await ask(options, url);
  if (!response.ok) {
    response.body?.cancel().catch(() => undefined);
    throw hubStatusError(options, undefined, response);
  }
  const text = await response.text().catch((error: unknown) => {
    throw asCheckpointError(error, 'http-body', `${quote(url)}: the answer broke off`, { file: url });
  });
  let json: { sha?: unknown; siblings?: unknown };
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new CheckpointError('http-body', `${quote(url)}: the hub answered with something other than JSON.`, { file: url, cause: error });
  }
  const files = Array.isArray(json.siblings) ? json.siblings.map((one: { rfilename?: unknown }) => one?.rfilename) : undefined;
  if (
    typeof json.sha !== 'string' ||
    !/^[0-9a-f]{40}$/.test(json.sha) ||
    files === undefined ||
    !files.every((file) => typeof file === 'string')
  ) {
    throw new CheckpointError('http-body', `${quote(url)}: the hub's answer lacks the commit or the list of files.`, { file: url });
  }
  return { commit: json.sha, files };
}

async function ask(
  options: HubOptions,
  url: string,
  method: 'GET' | 'HEAD' = 'GET',
  until?: (response: Response) => boolean,
): Promise<Response> {
  try {
    return await hubRequest(options, url, { method }, until);
  } catch (error) {
    if (options.signal?.aborted)
      throw new CheckpointError('aborted', `${quote(url)}: aborted.`, { file: url, cause: options.signal.reason });
    const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : '';
    throw asCheckpointError(error, 'read-failed', `${quote(url)}: the request failed${cause}`, { file: url });
  }
}

/** Size and hash of a file, from the hub's own answer, which may be the redirect to where the bytes are. */
async function describe(options: HubOptions, file: string, commit: string): Promise<RemoteFile> {
  const url = hubFileUrl(options, file, commit);
  const response = await ask(options, url, 'HEAD', (answer) => answer.headers.has('x-linked-etag'));
  if (response.status >= 400) throw hubStatusError(options, file, response);
  const etag = (response.headers.get('x-linked-etag') ?? response.headers.get('etag'))?.replace(/^W\//, '').replace(/"/g, '');
  const size = Number(response.headers.get('x-linked-size') ?? response.headers.get('content-length') ?? Number.NaN);
  if (etag === undefined || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(etag) || !Number.isSafeInteger(size) || size < 0) {
    throw new CheckpointError('http-body', `${quote(url)}: the hub does not say the size and the hash of the file.`, { file });
  }
  return { file, size, etag };
}

async function fetchBlob(
  options: DownloadOptions,
  remote: RemoteFile,
  commit: string,
  blob: string,
  onBytes: (bytes: number, fresh: boolean) => void,
): Promise<void> {
  const { partBytes = 32 * 2 ** 20, connections = 4, stallMs = 30_000, tries = 6 } = options;
  const part = `${blob}.incomplete`;
  const journal = `${blob}.incomplete.parts`;
  await guardWrite(part, async () => {
    const file = await open(part, 'a+').then(async (handle) => {
      await handle.close();
      return open(part, 'r+');
    });
    const notes = await open(journal, 'a+').catch(async (error: unknown) => {
      await file.close();
      throw error;
    });
    try {
      // The parts that have come, one a line; of another size of parts they would be other bytes.
      const lines = (await notes.readFile('utf8')).split('\n');
      const known = lines[0] === String(partBytes) ? lines.slice(1, -1).map(Number) : [];
      if (lines[0] !== String(partBytes)) {
        await notes.truncate(0);
        await notes.appendFile(`${partBytes}\n`);
      }
      const sink: PartsSink = {
        write: async (bytes, at) => {
          let done = 0;
          while (done < bytes.length) done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
        },
        finished: (index) => notes.appendFile(`${index}\n`),
      };
      const url = hubFileUrl(options, remote.file, commit);
      await fetchParts(options, { url, ...remote, partBytes, connections, stallMs, tries, done: new Set(known) }, sink, onBytes);
      await file.sync();
    } finally {
      await file.close();
      await notes.close();
    }
  });
  if ((await hashOf(part, remote)) !== remote.etag) {
    await rm(part, { force: true });
    await rm(journal, { force: true });
    throw new CheckpointError(
      'wrong-hash',
      `${quote(remote.file)}: the bytes that came do not have the hash ${remote.etag} that the hub names; they were thrown away, fetch them again.`,
      { file: remote.file },
    );
  }
  await guardWrite(blob, async () => {
    await rename(part, blob);
    await rm(journal, { force: true });
  });
}

/** SHA-256, or git's id of a blob where the hub gives that. */
async function hashOf(path: string, { etag, size }: RemoteFile): Promise<string> {
  const hash = createHash(etag.length === 64 ? 'sha256' : 'sha1');
  if (etag.length === 40) hash.update(`blob ${size}\0`);
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece as Uint8Array);
  return hash.digest('hex');
}

async function link(blob: string, name: string): Promise<void> {
  await guardWrite(name, async () => {
    await mkdir(dirname(name), { recursive: true });
    await rm(name, { force: true });
    await symlink(relative(dirname(name), blob), name);
  });
}

async function guardWrite<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    const code = (error as { code?: unknown } | null)?.code;
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      throw new CheckpointError('disk-full', `${quote(path)}: the disk is full; free some room and start again, what has come is kept.`, {
        file: path,
        cause: error,
      });
    }
    throw asCheckpointError(error, 'write-failed', `${quote(path)}: cannot be written`, { file: path });
  }
}

/** Bytes a second over the last seconds. */
class Meter {
  #marks: [number, number][] = [[performance.now(), 0]];
  #total = 0;
  rate = 0;

  add(bytes: number): number {
    const now = performance.now();
    this.#total += bytes;
    this.#marks.push([now, this.#total]);
    while (this.#marks.length > 2 && now - this.#marks[0]![0] > 5000) this.#marks.shift();
    const [since, before] = this.#marks[0]!;
    this.rate = now > since ? ((this.#total - before) / (now - since)) * 1000 : 0;
    return this.rate;
  }
}
