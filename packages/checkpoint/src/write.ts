import { dtypeRank, isSafetensorsDtype, type SafetensorsDtype, tensorByteLength } from './dtype.js';
import { CheckpointError, checkOptions, quote } from './errors.js';
import { DEFAULT_LIMITS, LENGTH_BYTES, nameProblem } from './header.js';
import { type ByteSink, bytesSink } from './sink.js';

const LONE_SURROGATE = /\p{Surrogate}/u;

/** The bytes of one tensor, whole or in pieces. A piece may be overwritten once the next is asked for. */
export type TensorBytes = Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>;

/** What is known of a tensor before its bytes are. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
}

export interface TensorToWrite extends TensorSpec {
  /** The bytes, or a function that is called when their turn comes, so that only one tensor is in memory. */
  readonly bytes: TensorBytes | (() => TensorBytes | Promise<TensorBytes>);
}

export interface WriteSafetensorsOptions {
  /** The header's `__metadata__`; keys are written in order of code points. */
  readonly metadata?: Readonly<Record<string, string>> | ReadonlyMap<string, string>;
}

export interface WrittenFile {
  readonly file: string;
  readonly byteLength: number;
}

/**
 * Writes one safetensors file and commits it. Tensors are laid out as the reference writer does, widest dtype first, then by
 * name, so that with the header padded to 8 bytes each lies at a multiple of its element size, and the same tensors always
 * give the same file. When anything fails the sink is aborted.
 * @throws CheckpointError `bad-name`, `duplicate-name`, `unknown-dtype`, `bad-shape`, … before anything is written;
 *   `size-mismatch` where a tensor gives other than the bytes its shape needs
 */
export async function writeSafetensors(
  sink: ByteSink,
  tensors: Iterable<TensorToWrite>,
  options: WriteSafetensorsOptions = {},
): Promise<WrittenFile> {
  try {
    const byteLength = await writeUncommitted(sink, tensors, options);
    await sink.commit();
    return { file: sink.name, byteLength };
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

/** A safetensors file in memory. */
export async function encodeSafetensors(tensors: Iterable<TensorToWrite>, options: WriteSafetensorsOptions = {}): Promise<Uint8Array> {
  const sink = bytesSink();
  await writeSafetensors(sink, tensors, options);
  return sink.bytes();
}

/** Writes and ends, but leaves committing to the caller: several files can be made visible together. */
export async function writeUncommitted(
  sink: ByteSink,
  tensors: Iterable<TensorToWrite>,
  options: WriteSafetensorsOptions,
): Promise<number> {
  checkOptions('writeSafetensors', options, ['metadata']);
  const layout = layOut(sink.name, tensors);
  const header = encodeHeader(sink.name, layout, options.metadata);
  await sink.write(header);
  let byteLength = header.length;
  for (const { tensor, bytes } of layout) {
    await writeTensor(sink, tensor, bytes);
    byteLength += bytes;
  }
  await sink.end();
  return byteLength;
}

export interface PlacedTensor {
  readonly tensor: TensorToWrite;
  readonly bytes: number;
}

/** Checks the specs and puts them in file order. */
export function layOut(file: string, tensors: Iterable<TensorToWrite>): PlacedTensor[] {
  const names = new Set<string>();
  const placed: PlacedTensor[] = [];
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    const refuse = (code: 'duplicate-name' | 'bad-name' | 'unknown-dtype' | 'bad-shape', what: string): never => {
      throw new CheckpointError(code, `writing ${quote(file)}: tensor ${quote(name)}: ${what}`, { file, tensor: name });
    };
    if (names.has(name)) refuse('duplicate-name', 'the name is given twice.');
    if (LONE_SURROGATE.test(name)) refuse('bad-name', 'the name holds half of a surrogate pair, which UTF-8 cannot express.');
    const problem = nameProblem(name);
    if (problem !== undefined) refuse('bad-name', `${problem}.`);
    if (!isSafetensorsDtype(dtype)) refuse('unknown-dtype', `unknown dtype ${quote(String(dtype))}.`);
    if (shape.length > DEFAULT_LIMITS.rank) refuse('bad-shape', `${shape.length} dimensions; readers take at most ${DEFAULT_LIMITS.rank}.`);
    names.add(name);
    placed.push({ tensor, bytes: tensorByteLength(dtype, shape, name) });
  }
  return placed.sort((a, b) => dtypeRank(b.tensor.dtype) - dtypeRank(a.tensor.dtype) || compareCodePoints(a.tensor.name, b.tensor.name));
}

/** Order of the UTF-8 bytes, which is what the reference writer sorts by; UTF-16 order differs above U+FFFF. */
export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) {
    const left = a.charCodeAt(at);
    const right = b.charCodeAt(at);
    if (left === right) continue;
    const leftHigh = left >= 0xd800 && left <= 0xdfff;
    const rightHigh = right >= 0xd800 && right <= 0xdfff;
    return leftHigh === rightHigh ? left - right : leftHigh ? 1 : -1;
  }
  return a.length - b.length;
}

function encodeHeader(file: string, layout: readonly PlacedTensor[], metadata: WriteSafetensorsOptions['metadata']): Uint8Array {
  const fields: string[] = [];
  const pairs = metadata instanceof Map ? [...metadata] : Object.entries(metadata ?? {});
  for (const [key, value] of pairs) {
    if (LONE_SURROGATE.test(key) || LONE_SURROGATE.test(String(value))) {
      const what = `writing ${quote(file)}: metadata ${quote(key)} holds half of a surrogate pair, which UTF-8 cannot express.`;
      throw new CheckpointError('bad-metadata', what, { file });
    }
    if (typeof value === 'string') continue;
    throw new CheckpointError('bad-metadata', `writing ${quote(file)}: metadata ${quote(key)} must be a string, not ${typeof value}.`, {
      file,
    });
  }
  if (pairs.length > 0) {
    const sorted = pairs.sort(([a], [b]) => compareCodePoints(a, b));
    fields.push(`"__metadata__":{${sorted.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`);
  }
  let at = 0;
  for (const { tensor, bytes } of layout) {
    const { name, dtype, shape } = tensor;
    fields.push(`${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${at},${at + bytes}]}`);
    at += bytes;
  }
  const json = new TextEncoder().encode(`{${fields.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  if (padded > DEFAULT_LIMITS.headerBytes) {
    const what = `writing ${quote(file)}: a header of ${padded} bytes is over the ${DEFAULT_LIMITS.headerBytes} that readers take; write it in shards.`;
    throw new CheckpointError('header-limit', what, { file });
  }
  const header = new Uint8Array(LENGTH_BYTES + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, LENGTH_BYTES);
  return header;
}

async function writeTensor(sink: ByteSink, tensor: TensorToWrite, bytes: number): Promise<void> {
  const given = typeof tensor.bytes === 'function' ? await tensor.bytes() : tensor.bytes;
  let written = 0;
  for await (const piece of given instanceof Uint8Array ? [given] : given) {
    if (!(piece instanceof Uint8Array)) {
      throw new CheckpointError(
        'bad-argument',
        `writing ${quote(sink.name)}: tensor ${quote(tensor.name)}: its bytes must come as Uint8Array.`,
        {
          file: sink.name,
          tensor: tensor.name,
        },
      );
    }
    written += piece.length;
    if (written > bytes) break;
    if (piece.length > 0) await sink.write(piece);
  }
  if (written !== bytes) {
    const { name, dtype, shape } = tensor;
    const came = written > bytes ? `at least ${written}` : `${written}`;
    throw new CheckpointError(
      'size-mismatch',
      `writing ${quote(sink.name)}: tensor ${quote(name)}: ${dtype} [${shape.join(', ')}] needs ${bytes} bytes, ${came} came.`,
      {
        file: sink.name,
        tensor: name,
      },
    );
  }
}
