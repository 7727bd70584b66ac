/// <reference types="node" />
import { randomBytes } from 'node:crypto';
import { type FileHandle, open, readdir, rename, rm, stat, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { asCheckpointError, CheckpointError, quote } from '../errors.js';
import { checkFileName } from '../file-set.js';
import type { ByteSink, SinkSet } from '../sink.js';

/**
 * A file that appears whole or not at all: bytes go to `.NAME.RANDOM.tmp` beside it, are flushed to the disk, and take the name in
 * one rename, which replaces a file of that name. A killed process leaves the old file and a `.tmp`, which `removeTemporaries` deletes.
 */
export async function fileSink(path: string): Promise<ByteSink> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    return new FileSink(path, temporary, await open(temporary, 'wx'));
  } catch (error) {
    throw asCheckpointError(error, 'write-failed', `${quote(path)}: cannot be written`, { file: path });
  }
}

const TEMPORARY = /^\.(.+)\.[0-9a-f]{12}\.tmp$/;

/**
 * Deletes what killed writers of `fileSink` left in a folder, for all files or for those that `of` says yes to, and gives their names. A
 * writer that is still at work would lose its file: call it where nobody else writes these files. A folder that is not there has none.
 * @throws CheckpointError `write-failed`
 */
export async function removeTemporaries(folder: string, of: (file: string) => boolean = () => true): Promise<string[]> {
  try {
    const left = (await readdir(folder)).filter((name) => {
      const file = TEMPORARY.exec(name)?.[1];
      return file !== undefined && of(file);
    });
    for (const name of left) await rm(join(folder, name), { force: true });
    return left;
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return [];
    throw asCheckpointError(error, 'write-failed', `${quote(folder)}: temporary files cannot be removed`, { file: folder });
  }
}

/** Writes files into an existing folder, each by `fileSink`. */
export function folderSinks(path: string): SinkSet {
  const pathOf = (file: string): string => {
    checkFileName(path, file);
    return join(path, file);
  };
  return {
    name: path,
    create: (file) => fileSink(pathOf(file)),
    has: async (file) => {
      try {
        await stat(pathOf(file));
        return true;
      } catch (error) {
        if ((error as { code?: unknown }).code === 'ENOENT') return false;
        throw asCheckpointError(error, 'write-failed', `${quote(path)}: ${quote(file)} cannot be looked up`, { file });
      }
    },
    remove: async (file) => {
      try {
        await rm(pathOf(file), { force: true });
      } catch (error) {
        throw asCheckpointError(error, 'write-failed', `${quote(path)}: ${quote(file)} cannot be removed`, { file });
      }
    },
  };
}

class FileSink implements ByteSink {
  #handle: FileHandle | undefined;
  #state: 'writing' | 'ended' | 'done' = 'writing';

  constructor(
    readonly name: string,
    readonly temporary: string,
    handle: FileHandle,
  ) {
    this.#handle = handle;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#require('writing');
    let at = 0;
    while (at < bytes.length) {
      at += (await this.#guard(() => (this.#handle as FileHandle).write(bytes, at, bytes.length - at))).bytesWritten;
    }
  }

  async end(): Promise<void> {
    this.#require('writing');
    await this.#guard(async () => {
      // Without this a crash of the machine after the rename could leave the name on an empty file.
      await this.#handle?.sync();
      await this.#handle?.close();
      this.#handle = undefined;
    });
    this.#state = 'ended';
  }

  async commit(): Promise<void> {
    this.#require('ended');
    await this.#guard(() => rename(this.temporary, this.name));
    this.#state = 'done';
    await syncFolder(dirname(this.name));
  }

  async abort(): Promise<void> {
    if (this.#state === 'done') return;
    this.#state = 'done';
    await this.#handle?.close().catch(() => undefined);
    this.#handle = undefined;
    await unlink(this.temporary).catch(() => undefined);
  }

  #require(state: 'writing' | 'ended'): void {
    if (this.#state === state) return;
    throw new CheckpointError('write-failed', `${quote(this.name)}: the sink is ${this.#state}, it should be ${state}.`, {
      file: this.name,
    });
  }

  async #guard<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      throw asCheckpointError(error, 'write-failed', `${quote(this.name)}: writing failed`, { file: this.name });
    }
  }
}

// The rename itself must reach the disk. Windows cannot open folders and orders its renames by itself.
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  try {
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    // Some network file systems refuse to sync a folder; the file itself is safe.
    const code = (error as { code?: unknown }).code;
    if (code !== 'EINVAL' && code !== 'ENOTSUP' && code !== 'EPERM' && code !== 'EACCES') {
      throw asCheckpointError(error, 'write-failed', `${quote(path)}: the folder cannot be synced`, { file: path });
    }
  }
}
