import { CheckpointError, quote } from './errors.js';
import { type ByteSource, blobSource, bytesSource } from './source.js';

/** A folder of files, wherever it is. A hub or a cache is added by implementing this. */
export interface FileSet {
  /** For messages: a path, a URL. */
  readonly name: string;
  has(file: string): Promise<boolean>;
  /** @throws CheckpointError `missing-file` */
  open(file: string): Promise<ByteSource>;
  /** The whole file as UTF-8. @throws CheckpointError `missing-file`, `header-encoding`, or `header-limit` over `maxBytes` */
  readText(file: string, maxBytes?: number): Promise<string>;
  /** Names of the files, where the folder can tell. */
  list?(): Promise<readonly string[]>;
}

/** Bound on `readText`: the largest tokenizer.json in use is a fifth of it, and a text is held several times over while parsed. */
export const MAX_TEXT_BYTES = 100_000_000;

/**
 * Refuses a file name that could leave its folder: absolute paths, drives, `..`, back slashes, empty segments.
 * @throws CheckpointError `bad-file-name`
 */
export function checkFileName(folder: string, file: string): void {
  const segments = file.split('/');
  const leaves = segments.some((segment) => segment === '' || segment === '.' || segment === '..');
  if (!leaves && !hasUnsafeCharacter(file)) return;
  throw new CheckpointError('bad-file-name', `${quote(folder)}: ${quote(file)} is not the name of a file inside the folder.`, { file });
}

/** Back slashes and colons lead elsewhere on some systems; control characters have no place in a name. */
export function hasUnsafeCharacter(fileName: string): boolean {
  return Array.from(fileName).some((character) => character === '\\' || character === ':' || character < ' ');
}

export function missingFile(folder: string, file: string, cause?: unknown): CheckpointError {
  return new CheckpointError('missing-file', `${quote(folder)}: there is no file ${quote(file)}.`, { file, cause });
}

export function tooLong(file: string, bytes: number | string, maxBytes: number): CheckpointError {
  return new CheckpointError(
    'header-limit',
    `${quote(file)}: ${bytes} bytes of text, over the limit of ${maxBytes}, which bounds the memory an untrusted text can take.`,
    { file },
  );
}

export function decodeText(file: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new CheckpointError('header-encoding', `${quote(file)}: the text is not UTF-8.`, { file });
  }
}

/** Reads a source as text, refusing before reading what is over the limit. */
export async function textOf(source: ByteSource, file: string, maxBytes: number): Promise<string> {
  try {
    const size = await source.size();
    if (size > maxBytes) throw tooLong(file, size, maxBytes);
    return decodeText(file, await source.read(0, size));
  } finally {
    await source.close?.();
  }
}

function fileSetOf(name: string, files: ReadonlyMap<string, () => ByteSource>): FileSet {
  const open = async (file: string): Promise<ByteSource> => {
    const make = files.get(file);
    if (make === undefined) throw missingFile(name, file);
    return make();
  };
  return {
    name,
    open,
    has: async (file) => files.has(file),
    readText: async (file, maxBytes = MAX_TEXT_BYTES) => textOf(await open(file), file, maxBytes),
    list: async () => [...files.keys()],
  };
}

/** Files that are in memory already, by name. Strings are their UTF-8. */
export function bytesFiles(files: Readonly<Record<string, Uint8Array | string>>, name = 'memory'): FileSet {
  const sources = new Map<string, () => ByteSource>();
  for (const [file, content] of Object.entries(files)) {
    const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
    sources.set(file, () => bytesSource(bytes, file));
  }
  return fileSetOf(name, sources);
}

/** Blobs by name, or the `File`s of an `<input type="file" multiple>`, by their own names. */
export function blobFiles(files: Iterable<File> | ReadonlyMap<string, Blob> | Readonly<Record<string, Blob>>, name = 'files'): FileSet {
  const sources = new Map<string, () => ByteSource>();
  for (const [file, blob] of namedBlobs(files)) {
    if (sources.has(file)) {
      throw new CheckpointError('bad-argument', `blobFiles: two files are named ${quote(file)}; pass a Map to give them distinct names.`, {
        file,
      });
    }
    sources.set(file, () => blobSource(blob, file));
  }
  return fileSetOf(name, sources);
}

function namedBlobs(files: Iterable<File> | ReadonlyMap<string, Blob> | Readonly<Record<string, Blob>>): Iterable<readonly [string, Blob]> {
  if (files instanceof Map) return files;
  if (Symbol.iterator in files) return Array.from(files as Iterable<File>, (file) => [file.name, file] as const);
  return Object.entries(files);
}
