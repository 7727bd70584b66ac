import { blobFiles, type FileSet } from '@unroll/checkpoint';
import type { StorageInfo, StoredModel } from '../worker/protocol.js';
import { QuotaError } from './errors.js';

/** One file of a stored model as its manifest knows it. */
export interface StoredFile {
  readonly name: string;
  readonly bytes: number;
  /** As the source gave it. */
  readonly sha256?: string;
  /** Version that the server gave for the bytes so far. */
  etag?: string;
  done: boolean;
  verified: boolean;
}

export interface Manifest {
  readonly id: string;
  readonly origin: string;
  /** Of the hub that it came from. */
  readonly endpoint: string;
  readonly files: StoredFile[];
}

const ROOT = 'models';
const MANIFEST = 'manifest.json';
const PART = '.part';

/** The name under which an origin is kept: readable, and safe as a folder. */
export const idOf = (origin: string): string => origin.replace(/^https?:\/\//, '').replaceAll(/[^A-Za-z0-9._-]+/g, '~');

async function rootFolder(): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory();
  return root.getDirectoryHandle(ROOT, { create: true });
}

export async function modelFolder(id: string, create = false): Promise<FileSystemDirectoryHandle> {
  return (await rootFolder()).getDirectoryHandle(id, { create });
}

/** Files of a checkpoint may lie in folders; here they are one name. */
const flat = (name: string): string => name.replaceAll('/', '~');

export const partName = (name: string): string => flat(name) + PART;

export async function readManifest(id: string): Promise<Manifest | undefined> {
  try {
    const handle = await (await modelFolder(id)).getFileHandle(MANIFEST);
    return JSON.parse(await (await handle.getFile()).text()) as Manifest;
  } catch (error) {
    if ((error as Error).name === 'NotFoundError' || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

export async function writeManifest(manifest: Manifest): Promise<void> {
  const handle = await (await modelFolder(manifest.id, true)).getFileHandle(MANIFEST, { create: true });
  const writable = await handle.createWritable();
  await writable.write(JSON.stringify(manifest));
  await writable.close();
}

export async function fileSize(folder: FileSystemDirectoryHandle, name: string): Promise<number> {
  try {
    return (await (await folder.getFileHandle(name)).getFile()).size;
  } catch (error) {
    if ((error as Error).name === 'NotFoundError') return 0;
    throw error;
  }
}

/** Makes a finished download visible under its own name. */
export async function finishFile(folder: FileSystemDirectoryHandle, name: string): Promise<void> {
  const handle = (await folder.getFileHandle(partName(name))) as FileSystemFileHandle & { move(name: string): Promise<void> };
  await handle.move(flat(name));
}

/** A stored model as a folder of files. Throws Error when it is not whole. */
export async function storedFiles(id: string): Promise<FileSet> {
  const manifest = await readManifest(id);
  if (manifest === undefined) throw new Error(`there is no stored model "${id}"; download it again in Models`);
  const missing = manifest.files.filter(({ done }) => !done).map(({ name }) => name);
  if (missing.length > 0)
    throw new Error(`"${manifest.origin}" is not whole: ${missing.join(', ')} is missing; resume its download in Models`);
  const folder = await modelFolder(id);
  const blobs = new Map<string, Blob>();
  for (const { name } of manifest.files) blobs.set(name, await (await folder.getFileHandle(flat(name))).getFile());
  return blobFiles(blobs, manifest.origin);
}

async function describe(id: string): Promise<StoredModel | undefined> {
  const manifest = await readManifest(id);
  if (manifest === undefined) return undefined;
  const folder = await modelFolder(id);
  const files = await Promise.all(
    manifest.files.map(async ({ name, done, sha256, verified }) => ({
      name,
      bytes: await fileSize(folder, done ? flat(name) : partName(name)),
      ...(sha256 === undefined ? {} : { sha256 }),
      verified,
    })),
  );
  return {
    id,
    origin: manifest.origin,
    endpoint: manifest.endpoint,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    totalBytes: manifest.files.reduce((sum, { bytes }) => sum + bytes, 0),
    complete: manifest.files.every(({ done }) => done),
    verified: manifest.files.filter(({ verified }) => verified).length,
    files,
  };
}

/** What is stored, and how much room there is. */
export async function storageInfo(): Promise<StorageInfo> {
  const { storage } = navigator;
  if (storage?.getDirectory === undefined) return { available: false, usage: 0, quota: 0, persistent: false, models: [] };
  const { usage = 0, quota = 0 } = await storage.estimate();
  const models: StoredModel[] = [];
  const root = await rootFolder();
  for await (const [id, handle] of root as unknown as AsyncIterable<[string, FileSystemHandle]>) {
    const model = handle.kind === 'directory' ? await describe(id) : undefined;
    if (model !== undefined) models.push(model);
  }
  return { available: true, usage, quota, persistent: await storage.persisted(), models };
}

export async function removeModel(id: string): Promise<void> {
  await (await rootFolder()).removeEntry(id, { recursive: true });
}

export const requestPersistence = (): Promise<boolean> => navigator.storage.persist();

/**
 * A handle that writes in place; only workers have it. In Chromium it does not throw where there is no room: `truncate` leaves the size as
 * it was, and `write` gives another number than it was asked to write.
 */
export interface SyncHandle {
  getSize(): number;
  truncate(size: number): void;
  write(data: Uint8Array, options: { at: number }): number;
  read(data: Uint8Array, options: { at: number }): number;
  flush(): void;
  close(): void;
}

const LOCK_WAIT_MS = 100;
const LOCK_TRIES = 50;

/** Opens a file for writing in place. Throws Error while another tab writes to it. */
export async function openSync(handle: FileSystemFileHandle): Promise<SyncHandle> {
  for (let tries = 1; ; tries++) {
    try {
      return await (handle as unknown as { createSyncAccessHandle(): Promise<SyncHandle> }).createSyncAccessHandle();
    } catch (error) {
      if ((error as Error).name !== 'NoModificationAllowedError') throw error;
      if (tries === LOCK_TRIES)
        throw new Error(`${handle.name} is being written to, by another tab of this page it seems; close that one, or wait for it`);
      // The worker of a page that was left lets go of its files a moment after the page is gone.
      await new Promise((resolve) => setTimeout(resolve, LOCK_WAIT_MS));
    }
  }
}

const PROBE = 'room.probe';

/**
 * Throws QuotaError unless so many more bytes fit. The browser's own estimate is rounded up against fingerprinting, so that a file of that
 * size is made and taken away again, which writes nothing.
 */
export async function needRoom(bytes: number, what: string): Promise<void> {
  const { usage = 0, quota = 0 } = await navigator.storage.estimate();
  const root = await rootFolder();
  const probe = await openSync(await root.getFileHandle(PROBE, { create: true }));
  let fits: boolean;
  try {
    probe.truncate(bytes);
    fits = probe.getSize() === bytes;
  } catch (error) {
    if ((error as Error).name !== 'QuotaExceededError') throw error;
    fits = false;
  } finally {
    probe.close();
    await root.removeEntry(PROBE);
  }
  if (fits && bytes <= quota - usage) return;
  throw new QuotaError(
    `${what} needs ${megabytes(bytes)} more than this browser gives this page; delete a stored model below, or free disk space`,
  );
}

export const megabytes = (bytes: number): string => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(0)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
