import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import type { DownloadProgress, Methods, StoredModel } from '../worker/protocol.js';
import { IntegrityError, NetworkError, QuotaError } from './errors.js';
import { listRemote, type RemoteFile } from './hub.js';
import {
  fileSize,
  finishFile,
  idOf,
  type Manifest,
  modelFolder,
  needRoom,
  openSync,
  partName,
  readManifest,
  type StoredFile,
  type SyncHandle,
  storageInfo,
  writeManifest,
} from './store.js';

export interface DownloadOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: DownloadProgress) => void;
}

/** Broken connections that a file may have in a row without a byte in between. */
const MOST_TRIES = 5;
const waitMs = (tries: number): number => Math.min(8000, 250 * 2 ** tries);
const PROGRESS_MS = 100;
const READ_BYTES = 4 << 20;
const NO_ROOM = 'the disk is full, or this page may not store more; delete a stored model, then resume';

/** Bytes per second over the last seconds, and what is left of the time. */
class Speed {
  readonly #marks: [time: number, bytes: number][] = [];

  add(loaded: number): void {
    const now = performance.now();
    this.#marks.push([now, loaded]);
    while (this.#marks.length > 2 && now - this.#marks[0]![0] > 5000) this.#marks.shift();
  }

  perSecond(): number {
    const [first, last] = [this.#marks[0], this.#marks[this.#marks.length - 1]];
    if (first === undefined || last === undefined || last[0] === first[0]) return 0;
    return ((last[1] - first[1]) / (last[0] - first[0])) * 1000;
  }
}

/** Everything that one download reports. */
class Report {
  #last = 0;
  /** The last interruption stays in sight. */
  #note: string | undefined;
  readonly speed = new Speed();

  constructor(
    private readonly send: DownloadOptions['onProgress'],
    readonly total: number,
    private readonly fileCount: number,
  ) {}

  tell(file: string, fileNumber: number, loaded: number, state: DownloadProgress['state'], note?: string): void {
    const now = performance.now();
    if (state === 'loading' && now - this.#last < PROGRESS_MS && loaded < this.total) return;
    this.#last = now;
    this.#note = note ?? this.#note;
    const bytesPerSecond = this.speed.perSecond();
    this.send({
      file,
      fileNumber,
      fileCount: this.fileCount,
      loaded,
      total: this.total,
      bytesPerSecond,
      secondsLeft: bytesPerSecond > 0 ? (this.total - loaded) / bytesPerSecond : undefined,
      state,
      ...(this.#note === undefined ? {} : { note: this.#note }),
    });
  }
}

const pauseFor = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });

/** A hash of what is in the file already, to go on with. */
function hashSoFar(handle: SyncHandle, size: number): ReturnType<typeof sha256.create> {
  const hash = sha256.create();
  const buffer = new Uint8Array(READ_BYTES);
  for (let at = 0; at < size; ) {
    const got = handle.read(buffer.subarray(0, Math.min(READ_BYTES, size - at)), { at });
    if (got === 0) break;
    hash.update(buffer.subarray(0, got));
    at += got;
  }
  return hash;
}

/** Asks for the rest of a file; from the start where the server no longer has the version that the first part came from. */
async function request(remote: RemoteFile, from: number, etag: string | undefined, signal: AbortSignal): Promise<Response> {
  const ranged = from > 0 ? { range: `bytes=${from}-`, ...(etag?.startsWith('"') ? { 'if-range': etag } : {}) } : undefined;
  const response = await fetch(remote.url, { signal, ...(ranged === undefined ? {} : { headers: ranged }) });
  if (response.status === 416 && from > 0) {
    await response.body?.cancel();
    return fetch(remote.url, { signal });
  }
  return response;
}

interface Target {
  readonly remote: RemoteFile;
  readonly stored: StoredFile;
  readonly handle: SyncHandle;
  readonly save: () => Promise<void>;
}

/** One connection: appends what comes to the file. Gives the bytes it brought. */
async function stream({ remote, stored, handle, save }: Target, signal: AbortSignal, onBytes: (size: number) => void): Promise<void> {
  let at = handle.getSize();
  const response = await request(remote, at, stored.etag, signal);
  if (!response.ok) {
    await response.body?.cancel();
    throw new NetworkError(`${remote.url}: the server answered ${response.status} ${response.statusText}`);
  }
  if (response.status !== 206 && at > 0) {
    handle.truncate(0);
    at = 0;
  }
  const etag = response.headers.get('etag') ?? undefined;
  if (etag !== stored.etag) {
    if (etag === undefined) delete stored.etag;
    else stored.etag = etag;
    await save();
  }
  const reader = response.body!.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    // A wish that is not met tells of a full disk.
    if (handle.write(value, { at }) !== value.length) throw new QuotaError(NO_ROOM);
    at += value.length;
    onBytes(at);
  }
}

async function loadFile(
  target: Target,
  signal: AbortSignal,
  onBytes: (size: number) => void,
  onRetry: (note: string) => void,
): Promise<void> {
  const { remote, handle } = target;
  for (let tries = 0; ; ) {
    const before = handle.getSize();
    let problem: string;
    try {
      await stream(target, signal, onBytes);
      const size = handle.getSize();
      if (remote.bytes === undefined || size === remote.bytes) return;
      if (size > remote.bytes)
        throw new IntegrityError(`${remote.name}: the source promised ${remote.bytes} bytes and sent ${size}; delete it and try again`);
      problem = 'the connection ended early';
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (error instanceof IntegrityError || error instanceof QuotaError || (error as Error).name === 'QuotaExceededError') throw error;
      if (error instanceof NetworkError && /answered 4\d\d/.test(error.message)) throw error;
      problem = (error as Error).message;
    } finally {
      handle.flush();
    }
    tries = handle.getSize() > before ? 0 : tries + 1;
    if (tries >= MOST_TRIES)
      throw new NetworkError(
        `${remote.name}: ${problem}, ${MOST_TRIES} times in a row; what has arrived (${handle.getSize()} bytes) is kept, and Resume goes on from there`,
      );
    onRetry(`${problem}; going on from byte ${handle.getSize()}`);
    await pauseFor(waitMs(tries), signal);
  }
}

async function prepare(args: Methods['download']['args'], remote: readonly RemoteFile[]): Promise<Manifest> {
  const id = idOf(args.origin);
  const old = await readManifest(id);
  const files = remote.map((one): StoredFile => {
    const kept = old?.files.find(
      ({ name, bytes, sha256: hash }) => name === one.name && bytes === (one.bytes ?? bytes) && hash === one.sha256,
    );
    return (
      kept ?? {
        name: one.name,
        bytes: one.bytes ?? 0,
        done: false,
        verified: false,
        ...(one.sha256 === undefined ? {} : { sha256: one.sha256 }),
      }
    );
  });
  const manifest: Manifest = { id, origin: args.origin, endpoint: args.endpoint, files };
  await modelFolder(id, true);
  return manifest;
}

/**
 * Downloads a model into the page's own storage. Room is checked first; a broken connection goes on with a Range request, now or in a
 * later call; a file whose SHA-256 the source gave is compared with it, and deleted when it differs.
 * Throws NetworkError, QuotaError, IntegrityError, and the signal's reason; what has arrived stays, and the next call goes on from there.
 */
export async function download(args: Methods['download']['args'], { signal, onProgress }: DownloadOptions): Promise<StoredModel> {
  onProgress({ file: '', fileNumber: 0, fileCount: 0, loaded: 0, total: 0, bytesPerSecond: 0, secondsLeft: undefined, state: 'listing' });
  const remote = await listRemote(args.origin, args.endpoint, args.revision, signal);
  const manifest = await prepare(args, remote);
  const folder = await modelFolder(manifest.id);
  const total = remote.reduce((sum, { bytes = 0 }) => sum + bytes, 0);
  const have: number[] = [];
  for (const { name, bytes, done } of manifest.files) have.push(done ? bytes : await fileSize(folder, partName(name)));
  await needRoom(total - have.reduce((sum, bytes) => sum + bytes, 0), `"${args.origin}"`);
  await writeManifest(manifest);
  const report = new Report(onProgress, total, remote.length);
  for (const [i, one] of remote.entries()) {
    const stored = manifest.files[i]!;
    if (stored.done) continue;
    const before = have.reduce((sum, bytes, j) => sum + (j === i ? 0 : bytes), 0);
    const handle = await openSync(await folder.getFileHandle(partName(one.name), { create: true }));
    let hash: string | undefined;
    try {
      report.speed.add(before + handle.getSize());
      const target: Target = { remote: one, stored, handle, save: () => writeManifest(manifest) };
      await loadFile(
        target,
        signal,
        (size) => {
          report.speed.add(before + size);
          report.tell(one.name, i + 1, before + size, 'loading');
        },
        (note) => report.tell(one.name, i + 1, before + handle.getSize(), 'retrying', note),
      );
      have[i] = handle.getSize();
      if (one.sha256 !== undefined) {
        report.tell(one.name, i + 1, before + have[i]!, 'checking');
        hash = bytesToHex(hashSoFar(handle, have[i]!).digest());
      }
    } catch (error) {
      if ((error as Error).name === 'QuotaExceededError') throw new QuotaError(`${one.name}: ${NO_ROOM}`);
      throw error;
    } finally {
      handle.close();
    }
    if (hash !== one.sha256) {
      await folder.removeEntry(partName(one.name));
      throw new IntegrityError(
        `${one.name} has SHA-256 ${hash}, and the source says ${one.sha256}; it was deleted. Download it again, and distrust the source if it happens twice`,
      );
    }
    await finishFile(folder, one.name);
    Object.assign(stored, { bytes: have[i], done: true, verified: hash !== undefined });
    await writeManifest(manifest);
  }
  report.tell('', remote.length, total, 'loading');
  const info = await storageInfo();
  return info.models.find(({ id }) => id === manifest.id)!;
}
