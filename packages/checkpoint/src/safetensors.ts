import { CheckpointError, checkOptions, quote } from './errors.js';
import { DEFAULT_LIMITS, LENGTH_BYTES, parseHeader, parseHeaderLength, type SafetensorsLimits, type TensorEntry } from './header.js';
import { type ByteSource, targetFor } from './source.js';

/** Tensors by name; the bytes are read on demand and reads may run at the same time. */
export interface TensorReader<Entry extends TensorEntry = TensorEntry> {
  /** The file or folder, for messages. */
  readonly name: string;
  /** Name -> where it lies, in the order of the bytes. */
  readonly entries: ReadonlyMap<string, Entry>;
  /** The names of `entries`, in the same order. */
  readonly names: readonly string[];
  /** The bytes of a tensor, little-endian and row-major, in an array of their own. */
  read(name: string): Promise<Uint8Array>;
  /** The same written to the start of `into`; returns the view of it that holds them. */
  readInto(name: string, into: Uint8Array): Promise<Uint8Array>;
  /** Bytes `begin` to `end` of a tensor, for readers that take a large one in pieces. */
  readSlice(name: string, begin: number, end: number, into?: Uint8Array): Promise<Uint8Array>;
  /** A tensor in pieces of at most `chunkBytes` (default 8 MiB) through one buffer: a piece is valid until the next is asked for. */
  stream(name: string, chunkBytes?: number): AsyncGenerator<Uint8Array, void, undefined>;
  /** Closes the underlying sources. Reading afterwards throws `closed`. */
  close(): Promise<void>;
}

/** One safetensors file whose header has been checked against its size. */
export interface SafetensorsFile extends TensorReader {
  /** Bytes of the whole file. */
  readonly byteLength: number;
  /** The header's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

export interface OpenSafetensorsOptions {
  /** Bounds other than `DEFAULT_LIMITS`. */
  readonly limits?: Partial<SafetensorsLimits>;
}

const DEFAULT_CHUNK_BYTES = 8 * 1024 * 1024;

/**
 * Opens a safetensors file: reads and checks its header, nothing else.
 * Closing the returned file closes `source`; when opening fails, `source` is closed too.
 * @throws SafetensorsFormatError where the file breaks the format or a limit, before any tensor is allocated
 * @throws CheckpointError where the source cannot be read
 */
export async function openSafetensors(source: ByteSource, options: OpenSafetensorsOptions = {}): Promise<SafetensorsFile> {
  const limits = resolveLimits('openSafetensors', options);
  try {
    const byteLength = await source.size();
    const first = await source.read(0, Math.min(LENGTH_BYTES, byteLength));
    const headerBytes = parseHeaderLength(first, byteLength, source.name, limits);
    const header = await source.read(LENGTH_BYTES, headerBytes);
    const { entries, metadata } = parseHeader(header, byteLength, source.name, limits);
    return new OpenedFile(source, byteLength, entries, metadata);
  } catch (error) {
    // The first failure is the one to report, whatever closing says.
    await source.close?.().catch(() => undefined);
    throw error;
  }
}

export function resolveLimits(who: string, options: OpenSafetensorsOptions): SafetensorsLimits {
  checkOptions(who, options, ['limits']);
  const given = options.limits ?? {};
  checkOptions(`${who}: limits`, given, Object.keys(DEFAULT_LIMITS));
  for (const [key, value] of Object.entries(given)) {
    if (!Number.isSafeInteger(value) || value < 0) {
      throw new CheckpointError('bad-argument', `${who}: limits.${key} must be an integer of 0 or more, not ${value}.`);
    }
  }
  return { ...DEFAULT_LIMITS, ...given };
}

/** The entry of `name`, or an error that says what the reader holds. */
export function entryOf<Entry extends TensorEntry>(reader: TensorReader<Entry>, name: string): Entry {
  const entry = reader.entries.get(name);
  if (entry !== undefined) return entry;
  throw new CheckpointError(
    'missing-tensor',
    `${quote(reader.name)}: there is no tensor ${quote(name)} among its ${reader.entries.size}.${nearest(name, reader.names)}`,
    { file: reader.name, tensor: name },
  );
}

function nearest(name: string, names: readonly string[]): string {
  const tail = name.split('.').slice(-2).join('.');
  const alike = names.find((other) => other.endsWith(tail) || name.endsWith(other));
  return alike === undefined ? '' : ` A similar one is ${quote(alike)}.`;
}

/** Pieces of a tensor through one buffer that is reused. */
export async function* streamTensor(
  reader: TensorReader,
  name: string,
  chunkBytes = DEFAULT_CHUNK_BYTES,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (!Number.isSafeInteger(chunkBytes) || chunkBytes < 1) {
    throw new CheckpointError('bad-argument', `stream: chunkBytes must be an integer of 1 or more, not ${chunkBytes}.`);
  }
  const { byteLength } = entryOf(reader, name);
  const buffer = new Uint8Array(Math.min(chunkBytes, byteLength));
  for (let at = 0; at < byteLength; at += chunkBytes) {
    yield await reader.readSlice(name, at, Math.min(at + chunkBytes, byteLength), buffer);
  }
}

class OpenedFile implements SafetensorsFile {
  readonly name: string;
  readonly names: readonly string[];
  #closed = false;

  constructor(
    readonly source: ByteSource,
    readonly byteLength: number,
    readonly entries: ReadonlyMap<string, TensorEntry>,
    readonly metadata: ReadonlyMap<string, string>,
  ) {
    this.name = source.name;
    this.names = Object.freeze([...entries.keys()]);
  }

  read(name: string): Promise<Uint8Array> {
    return this.#read(name, 0, undefined, undefined);
  }

  readInto(name: string, into: Uint8Array): Promise<Uint8Array> {
    return this.#read(name, 0, undefined, into);
  }

  readSlice(name: string, begin: number, end: number, into?: Uint8Array): Promise<Uint8Array> {
    return this.#read(name, begin, end, into);
  }

  stream(name: string, chunkBytes?: number): AsyncGenerator<Uint8Array, void, undefined> {
    return streamTensor(this, name, chunkBytes);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.source.close?.();
  }

  async #read(name: string, begin: number, end: number | undefined, into: Uint8Array | undefined): Promise<Uint8Array> {
    const { offset, byteLength } = entryOf(this, name);
    if (this.#closed) {
      throw new CheckpointError('closed', `${quote(this.name)}: tensor ${quote(name)} was asked for after close().`, {
        file: this.name,
        tensor: name,
      });
    }
    const stop = end ?? byteLength;
    const out = targetFor(`${this.name}: ${name}`, byteLength, begin, stop - begin, into);
    // An empty range needs no trip to a server or a disk.
    if (out.length === 0) return out;
    const got = await this.source.read(offset + begin, out.length, out);
    if (got.length !== out.length) {
      throw new CheckpointError(
        'read-failed',
        `${quote(this.name)}: tensor ${quote(name)}: ${got.length} of ${out.length} bytes were read.`,
        {
          file: this.name,
          tensor: name,
        },
      );
    }
    return got;
  }
}
