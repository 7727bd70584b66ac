import { countBytes, isSafetensorsDtype, type SafetensorsDtype } from './dtype.js';
import { type CheckpointErrorCode, listed, quote, SafetensorsFormatError } from './errors.js';
import { JsonCursor, JsonProblem } from './json-cursor.js';

/** Bounds on what an untrusted header may make the reader do. */
export interface SafetensorsLimits {
  /** Bytes of the JSON header. 100 MB is the reference reader's own bound: no file that it loads is refused here. */
  readonly headerBytes: number;
  /** Tensors in one file. An entry costs several times its header text in memory; a million is ten times the largest model known. */
  readonly tensors: number;
  /** Dimensions of one tensor. NumPy and PyTorch stop at 64; `[1,1,1,…]` would cost more memory than file. */
  readonly rank: number;
}

export const DEFAULT_LIMITS: SafetensorsLimits = Object.freeze({ headerBytes: 100_000_000, tensors: 1_000_000, rank: 64 });

/** Where one tensor lies. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  /** Row-major dimensions; `[]` is a scalar. */
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** First byte, counted from the start of the file. */
  readonly offset: number;
}

export interface SafetensorsHeader {
  /** In the order of the bytes in the file. */
  readonly entries: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** Bytes before the JSON: the little-endian u64 that gives its length. */
export const LENGTH_BYTES = 8;

// Segments that reach an object's prototype when a name is taken for a path in a parameter tree.
const UNSAFE_SEGMENT = /(?:^|[./])(?:__proto__|constructor)(?:$|[./])/;

/** Why a tensor may not have this name, or undefined. */
export function nameProblem(name: string): string | undefined {
  if (name === '__metadata__') return 'this name is reserved for metadata';
  if (UNSAFE_SEGMENT.test(name))
    return 'a name with the segment __proto__ or constructor would reach an object prototype when used as a path';
  return undefined;
}

/**
 * Reads the length that precedes the JSON, refusing what the file cannot hold.
 * @param first the first bytes of the file: 8, or fewer where the file is shorter
 * @throws SafetensorsFormatError `truncated`, `header-limit`, `header-length`
 */
export function parseHeaderLength(first: Uint8Array, fileBytes: number, file: string, limits: SafetensorsLimits): number {
  if (first.length < LENGTH_BYTES || fileBytes < LENGTH_BYTES) {
    throw new SafetensorsFormatError(
      'truncated',
      `${quote(file)}: a safetensors file starts with 8 bytes of length; this file has ${fileBytes}.`,
      {
        file,
      },
    );
  }
  const view = new DataView(first.buffer, first.byteOffset, LENGTH_BYTES);
  const length = view.getBigUint64(0, true);
  if (length > BigInt(limits.headerBytes)) {
    throw new SafetensorsFormatError(
      'header-limit',
      `${quote(file)}: the header claims ${length} bytes, over the limit of ${limits.headerBytes}, which bounds the time and memory an untrusted header can take.${guess(first)}`,
      { file },
    );
  }
  if (length > BigInt(fileBytes - LENGTH_BYTES)) {
    throw new SafetensorsFormatError(
      'header-length',
      `${quote(file)}: the header claims ${length} bytes, the file has ${fileBytes - LENGTH_BYTES} after the length. It is cut short or not a safetensors file.${guess(first)}`,
      { file },
    );
  }
  return Number(length);
}

function guess(first: Uint8Array): string {
  const text = String.fromCharCode(...first.subarray(0, LENGTH_BYTES));
  if (/^\s*<(!doc|!--|html|head|\?xml)/i.test(text)) return ' It looks like a web page: was a login or error page downloaded?';
  if (text === 'version ') return ' It looks like a Git LFS pointer: fetch the file itself with `git lfs pull`.';
  if (text.startsWith('PK\u0003\u0004')) return ' It looks like a PyTorch or zip file; convert it to safetensors first.';
  if (text.startsWith('GGUF')) return ' It looks like a GGUF file, which this package does not read.';
  return '';
}

interface RawEntry {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/**
 * Checks a whole header against the file that carries it. Nothing is allocated but the entries themselves.
 * @param header the JSON bytes, without the length
 * @throws SafetensorsFormatError with the file, and the tensor where there is one
 */
export function parseHeader(header: Uint8Array, fileBytes: number, file: string, limits: SafetensorsLimits): SafetensorsHeader {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header);
  } catch {
    throw new SafetensorsFormatError('header-encoding', `${quote(file)}: the header is not UTF-8.`, { file });
  }
  if (!text.startsWith('{')) {
    const found = text === '' ? 'nothing' : quote(text.slice(0, 16));
    throw new SafetensorsFormatError('header-json', `${quote(file)}: the header must start with {, it starts with ${found}.`, { file });
  }
  const cursor = new JsonCursor(text);
  try {
    return new HeaderReader(cursor, file, limits).read(LENGTH_BYTES + header.length, fileBytes);
  } catch (error) {
    if (error instanceof JsonProblem) {
      throw new SafetensorsFormatError(
        'header-json',
        `${quote(file)}: the header is not valid JSON of the format: ${error.what} (character ${error.position}).`,
        {
          file,
        },
      );
    }
    throw error;
  }
}

class HeaderReader {
  readonly #raw = new Map<string, RawEntry>();
  #metadata: Map<string, string> | undefined;

  constructor(
    readonly cursor: JsonCursor,
    readonly file: string,
    readonly limits: SafetensorsLimits,
  ) {}

  read(dataStart: number, fileBytes: number): SafetensorsHeader {
    this.cursor.object((name) => {
      if (name === '__metadata__') this.#readMetadata();
      else this.#readEntry(name);
    });
    this.cursor.end();
    return { entries: this.#place(dataStart, fileBytes - dataStart), metadata: this.#metadata ?? new Map() };
  }

  #refuse(code: CheckpointErrorCode, what: string, tensor?: string): never {
    const where = tensor === undefined ? quote(this.file) : `${quote(this.file)}: tensor ${quote(tensor)}`;
    throw new SafetensorsFormatError(code, `${where}: ${what}`, { file: this.file, tensor });
  }

  #readMetadata(): void {
    if (this.#metadata !== undefined) this.#refuse('duplicate-name', '__metadata__ occurs twice.');
    const metadata = new Map<string, string>();
    this.#metadata = metadata;
    if (this.cursor.peek() !== '{') this.#refuse('bad-metadata', '__metadata__ must be an object of strings.');
    this.cursor.object((key) => {
      if (metadata.has(key)) this.#refuse('duplicate-name', `__metadata__ holds ${quote(key)} twice.`);
      if (this.cursor.peek() !== '"') this.#refuse('bad-metadata', `__metadata__ ${quote(key)} must be a string.`);
      metadata.set(key, this.cursor.string());
    });
  }

  #readEntry(name: string): void {
    const { cursor, limits } = this;
    if (this.#raw.has(name)) this.#refuse('duplicate-name', 'the name occurs twice.', name);
    const problem = nameProblem(name);
    if (problem !== undefined) this.#refuse('bad-name', `${problem}.`, name);
    if (this.#raw.size >= limits.tensors) {
      this.#refuse('header-limit', `more than ${limits.tensors} tensors, the limit that bounds the memory of an untrusted header.`);
    }
    if (cursor.peek() !== '{') this.#refuse('bad-entry', 'expected an object with dtype, shape and data_offsets.', name);
    const found: { dtype?: SafetensorsDtype; shape?: number[]; data_offsets?: number[] } = {};
    cursor.object((field) => {
      if (field !== 'dtype' && field !== 'shape' && field !== 'data_offsets') {
        this.#refuse('unknown-field', `unknown field ${quote(field)}; expected dtype, shape and data_offsets.`, name);
      }
      if (found[field] !== undefined) this.#refuse('duplicate-name', `the field ${field} occurs twice.`, name);
      if (field === 'dtype') found.dtype = this.#dtype(name);
      else if (field === 'shape') found.shape = this.#integers(name, 'bad-shape', 'a dimension', limits.rank);
      else found.data_offsets = this.#integers(name, 'bad-offsets', 'an offset', 2);
    });
    const { dtype, shape, data_offsets: offsets } = found;
    if (dtype === undefined || shape === undefined || offsets === undefined) {
      const missing = (['dtype', 'shape', 'data_offsets'] as const).filter((field) => found[field] === undefined);
      this.#refuse('bad-entry', `missing ${listed(missing)}.`, name);
    }
    this.#raw.set(name, this.#checked(name, dtype, shape, offsets));
  }

  #dtype(name: string): SafetensorsDtype {
    if (this.cursor.peek() !== '"') this.#refuse('unknown-dtype', 'the dtype must be a string.', name);
    const dtype = this.cursor.string();
    if (!isSafetensorsDtype(dtype)) this.#refuse('unknown-dtype', `unknown dtype ${quote(dtype)}.`, name);
    return dtype;
  }

  #integers(name: string, code: 'bad-shape' | 'bad-offsets', what: string, limit: number): number[] {
    const { cursor } = this;
    const values: number[] = [];
    if (cursor.peek() !== '[') this.#refuse(code, `${code === 'bad-shape' ? 'shape' : 'data_offsets'} must be an array of integers.`, name);
    cursor.array(() => {
      if (values.length >= limit)
        this.#refuse(code, code === 'bad-shape' ? `more than ${limit} dimensions.` : 'data_offsets must be [begin, end].', name);
      try {
        values.push(cursor.unsigned(what));
      } catch (error) {
        if (error instanceof JsonProblem) this.#refuse(code, `${error.what} (character ${error.position} of the header).`, name);
        throw error;
      }
    });
    return values;
  }

  #checked(name: string, dtype: SafetensorsDtype, shape: readonly number[], offsets: readonly number[]): RawEntry {
    const [begin, end] = offsets;
    if (begin === undefined || end === undefined) this.#refuse('bad-offsets', 'data_offsets must be [begin, end].', name);
    if (end < begin) this.#refuse('bad-offsets', `data_offsets [${begin}, ${end}] end before they begin.`, name);
    const count = countBytes(dtype, shape);
    if (!count.ok) this.#refuse(count.code, `${dtype} [${shape.join(', ')}]: ${count.why}.`, name);
    if (count.bytes !== end - begin) {
      this.#refuse(
        'size-mismatch',
        `${dtype} [${shape.join(', ')}] is ${count.bytes} bytes, data_offsets [${begin}, ${end}] give ${end - begin}.`,
        name,
      );
    }
    return { name, dtype, shape: Object.freeze(shape), begin, end };
  }

  /** The format allows neither holes nor overlaps: sorted by offset, each tensor begins where the one before it ends. */
  #place(dataStart: number, dataBytes: number): Map<string, TensorEntry> {
    const sorted = [...this.#raw.values()].sort((a, b) => a.begin - b.begin || a.end - b.end);
    const entries = new Map<string, TensorEntry>();
    let at = 0;
    let before: RawEntry | undefined;
    for (const entry of sorted) {
      const { name, dtype, shape, begin, end } = entry;
      if (begin > dataBytes) this.#refuse('out-of-range', `begins at data byte ${begin}, the file has ${dataBytes} bytes of data.`, name);
      if (begin < at)
        this.#refuse('overlap', `begins at data byte ${begin}, inside tensor ${quote(before?.name ?? '')}, which ends at ${at}.`, name);
      if (begin > at) this.#refuse('gap', `begins at data byte ${begin}, but no tensor holds the bytes from ${at} on.`, name);
      entries.set(name, Object.freeze({ name, dtype, shape, byteLength: end - begin, offset: dataStart + begin }));
      at = end;
      before = entry;
    }
    if (at > dataBytes) {
      this.#refuse('truncated', `ends at data byte ${at}, the file has ${dataBytes} bytes of data: it is cut short.`, before?.name);
    }
    if (at < dataBytes) this.#refuse('trailing-bytes', `${dataBytes - at} bytes follow the last tensor.`);
    return entries;
  }
}
