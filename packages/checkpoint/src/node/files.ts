/// <reference types="node" />
import { type FileHandle, open, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { asCheckpointError, CheckpointError, quote } from '../errors.js';
import { checkFileName, type FileSet, MAX_TEXT_BYTES, missingFile, textOf } from '../file-set.js';
import { type ByteSource, targetFor } from '../source.js';

// One read of the operating system takes at most 2^31-1 bytes.
const MAX_READ_BYTES = 1 << 30;

/** A file on disk. It is opened by the first use and held open until `close`; reads give their own positions, so they may run at once. */
export function fileSource(path: string): ByteSource {
  return new FileSource(path);
}

/** The files of a local folder. Names may have forward slashes for subfolders and cannot leave the folder; symbolic links are followed. */
export function folderFiles(path: string): FileSet {
  const pathOf = (file: string): string => {
    checkFileName(path, file);
    return join(path, file);
  };
  const openFile = async (file: string): Promise<ByteSource> => {
    const source = new FileSource(pathOf(file));
    try {
      await source.size();
    } catch (error) {
      throw isAbsent(error) ? missingFile(path, file, error) : error;
    }
    return source;
  };
  return {
    name: path,
    open: openFile,
    has: async (file) => {
      try {
        return (await stat(pathOf(file))).isFile();
      } catch (error) {
        if (isAbsent(error)) return false;
        throw asCheckpointError(error, 'read-failed', `${quote(path)}: ${quote(file)} cannot be looked up`, { file });
      }
    },
    readText: async (file, maxBytes = MAX_TEXT_BYTES) => textOf(await openFile(file), pathOf(file), maxBytes),
    list: async () => {
      try {
        return (await readdir(path)).sort();
      } catch (error) {
        throw asCheckpointError(error, 'read-failed', `${quote(path)}: the folder cannot be listed`, { file: path });
      }
    },
  };
}

function isAbsent(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return code === 'ENOENT' || code === 'ENOTDIR' || (CheckpointError.is(error) && error.code === 'missing-file');
}

class FileSource implements ByteSource {
  #opening: Promise<{ handle: FileHandle; size: number }> | undefined;
  #closed = false;

  constructor(readonly name: string) {}

  async size(): Promise<number> {
    return (await this.#open()).size;
  }

  async read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array> {
    const { handle, size } = await this.#open();
    const out = targetFor(this.name, size, offset, length, into);
    let at = 0;
    while (at < length) {
      const wanted = Math.min(length - at, MAX_READ_BYTES);
      let got: number;
      try {
        got = (await handle.read(out, at, wanted, offset + at)).bytesRead;
      } catch (error) {
        throw asCheckpointError(error, 'read-failed', `${quote(this.name)}: reading ${length} bytes at ${offset} failed`, {
          file: this.name,
        });
      }
      if (got === 0) {
        throw new CheckpointError(
          'read-failed',
          `${quote(this.name)}: the file ended at byte ${offset + at}; it had ${size} bytes when it was opened.`,
          {
            file: this.name,
          },
        );
      }
      at += got;
    }
    return out;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const opening = this.#opening;
    if (opening === undefined) return;
    this.#opening = undefined;
    const opened = await opening.catch(() => undefined);
    await opened?.handle.close();
  }

  #open(): Promise<{ handle: FileHandle; size: number }> {
    if (this.#closed) {
      return Promise.reject(new CheckpointError('closed', `${quote(this.name)}: the file was used after close().`, { file: this.name }));
    }
    this.#opening ??= this.#openOnce().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  async #openOnce(): Promise<{ handle: FileHandle; size: number }> {
    try {
      // Looked at before it is opened: opening a pipe would wait for its writer.
      if (!(await stat(this.name)).isFile()) {
        throw new CheckpointError('read-failed', `${quote(this.name)}: not a regular file.`, { file: this.name });
      }
      const handle = await open(this.name, 'r');
      return { handle, size: (await handle.stat()).size };
    } catch (error) {
      if (isAbsent(error))
        throw new CheckpointError('missing-file', `${quote(this.name)}: there is no such file.`, { file: this.name, cause: error });
      throw asCheckpointError(error, 'read-failed', `${quote(this.name)}: cannot be opened`, { file: this.name });
    }
  }
}
