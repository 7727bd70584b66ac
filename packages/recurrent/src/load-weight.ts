import { type Device, RangeOpError, type ReadPiece, sum, type Tensor, type WeightFormat, weightParts } from '@unroll/tensor';
import { isMatrix } from './shapes.js';
import { ParamsError, type StoredPart, type TensorSource } from './source.js';

/** What the matrices of a model are kept in; all other parameters stay f32. */
export type WeightDType = 'f32' | WeightFormat;

/** Bytes of a matrix that are read and rounded at once. */
const pieceBytes = 1 << 23;

/** Bytes of a stored value, of the dtypes that parameters are stored in. */
const entryBytes: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2, I8: 1, U8: 1 };

// Rows of a quantised matrix lie in blocks, which can follow each other when all but the last matrix have whole ones.
const BLOCK_ROWS = 8;

/** Whether matrices, each stored quantised, are the rows of one when they are put one behind the other. */
export const joinsQuantized = (shapes: readonly (readonly number[])[]): boolean =>
  shapes.every(([rows], i) => i === shapes.length - 1 || rows! % BLOCK_ROWS === 0);

/** The format that a checkpoint stores a matrix in when it does so in parts, as NAME.q8 or NAME.q4 and NAME.scales. */
export function storedFormat(source: TensorSource, parts: readonly StoredPart[]): 'q8' | 'q4' | undefined {
  if (parts.some(({ name, shape }) => shape.length !== 2 || source.entries.has(name))) return undefined;
  if (!joinsQuantized(parts.map(({ shape }) => shape))) return undefined;
  return (['q8', 'q4'] as const).find((format) => parts.every(({ name }) => source.entries.has(`${name}.${format}`)));
}

/** What is wrong with the parts of a quantised matrix. */
export function quantizedProblems(source: TensorSource, name: string, shape: readonly number[], format: 'q8' | 'q4'): string[] {
  return weightParts(format, shape).flatMap((part) => {
    const entry = source.entries.get(name + part.suffix);
    const must = `it must be ${part.dtype} [${part.shape}] for ${format} [${shape}]`;
    if (entry === undefined) return [`${name}${part.suffix} is missing; ${must}`];
    if (entry.dtype === part.dtype && entry.shape.join() === part.shape.join()) return [];
    return [`${name}${part.suffix} is ${entry.dtype} [${entry.shape}]; ${must}`];
  });
}

const storedDType = (source: TensorSource, parts: readonly StoredPart[]) =>
  source.entries.get(parts[0]!.name)?.dtype.toLowerCase() as 'f32' | 'f16' | 'bf16' | undefined;

/** Whether the stored bytes of a parameter are those that the device keeps, and come in pieces. */
export function goesByPieces(source: TensorSource, shape: readonly number[], parts: readonly StoredPart[], dtype: WeightDType): boolean {
  const format = storedFormat(source, parts);
  return source.readSlice !== undefined && (format !== undefined || storedDType(source, parts) === (isMatrix(shape) ? dtype : 'f32'));
}

/**
 * One parameter on the device. A matrix is kept in `dtype`, one that is stored quantised stays what it is. Where the source reads slices, bytes that
 * stay what they are go to the device piece by piece, and others are rounded so. Throws ParamsError where it holds NaN or infinite
 * values or where the source gives other bytes than it should, with nothing left on the device.
 */
export async function loadWeight(
  device: Device,
  source: TensorSource,
  name: string,
  shape: readonly number[],
  parts: readonly StoredPart[],
  dtype: WeightDType,
  signal?: AbortSignal,
): Promise<Tensor> {
  const format = storedFormat(source, parts);
  const stored = storedDType(source, parts);
  const kept = format ?? (isMatrix(shape) ? dtype : 'f32');
  let tensor: Tensor | undefined;
  try {
    if (goesByPieces(source, shape, parts, dtype)) {
      const suffixes = format === undefined ? [''] : weightParts(format, shape).map(({ suffix }) => suffix);
      const readers = suffixes.map((suffix) => rangeReader(source, parts, suffix));
      const read: ReadPiece = (part, begin, end, into) => {
        signal?.throwIfAborted();
        return readers[part]!(begin, end, into);
      };
      tensor = await device.fromPieces(read, kept, shape, { memory: 'weights' });
    } else if (format !== undefined) {
      const read = weightParts(format, shape).map(({ suffix }) => readParts(source, parts, suffix));
      return device.fromBytes(await Promise.all(read), format, shape, { memory: 'weights' });
    } else if (kept === 'f32') {
      tensor = device.fromBytes(await readParts(source, parts), stored!, shape, { memory: 'weights' });
    } else {
      tensor = device.zeros(shape, { dtype: kept, memory: 'weights' });
      await writePieces(device, tensor, source, parts, stored!);
    }
    if (kept === 'f32') await checkFinite(source.name, name, tensor);
    return tensor;
  } catch (error) {
    tensor?.dispose();
    if (error instanceof RangeOpError) throw new ParamsError(`${source.name}: ${name}: ${error.message}`);
    throw error;
  }
}

async function writePieces(
  device: Device,
  tensor: Tensor,
  source: TensorSource,
  parts: readonly StoredPart[],
  stored: 'f32' | 'f16' | 'bf16',
): Promise<void> {
  const [N, K] = tensor.shape as [number, number];
  if (source.readSlice === undefined) {
    device.writeRows(tensor, await readParts(source, parts), stored, 0);
    return;
  }
  const rowBytes = K * (stored === 'f32' ? 4 : 2);
  // Whole blocks of 8 rows.
  const step = Math.max(1, Math.floor(pieceBytes / 8 / Math.max(1, rowBytes))) * 8;
  const buffer = new Uint8Array(Math.min(step, N) * rowBytes);
  const read = rangeReader(source, parts, '');
  for (let row = 0; row < N; row += step) {
    const end = Math.min(N, row + step);
    const piece = buffer.subarray(0, (end - row) * rowBytes);
    await read(row * rowBytes, end * rowBytes, piece);
    device.writeRows(tensor, piece, stored, row);
  }
}

/** Reads bytes of stored tensors as if they were one, one behind the other. */
function rangeReader(source: TensorSource, parts: readonly StoredPart[], suffix: string) {
  let from = 0;
  const spans = parts.map(({ name }) => {
    const { dtype, shape } = source.entries.get(name + suffix)!;
    const start = from;
    from += shape.reduce((product, n) => product * n, entryBytes[dtype]!);
    return { name: name + suffix, start, end: from };
  });
  return async (begin: number, end: number, into: Uint8Array): Promise<void> => {
    for (const span of spans) {
      const [first, last] = [Math.max(begin, span.start), Math.min(end, span.end)];
      if (first >= last) continue;
      const target = into.subarray(first - begin, last - begin);
      const got = await source.readSlice!(span.name, first - span.start, last - span.start, target);
      if (got.byteLength !== target.byteLength) {
        throw new ParamsError(
          `${source.name}: ${span.name}: bytes ${first - span.start} to ${last - span.start} were asked for; the source gave ${got.byteLength}`,
        );
      }
      if (got.buffer !== target.buffer || got.byteOffset !== target.byteOffset) target.set(got);
    }
  };
}

/** The bytes of stored tensors, one behind the other. */
async function readParts(source: TensorSource, parts: readonly StoredPart[], suffix = ''): Promise<Uint8Array> {
  if (parts.length === 1) return source.read(parts[0]!.name + suffix);
  const pieces = await Promise.all(parts.map(({ name }) => source.read(name + suffix)));
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

// One NaN in a weight makes every output NaN; naming the tensor here saves a search through the model later. A sum carries NaN and infinity along.
async function checkFinite(source: string, name: string, tensor: Tensor): Promise<void> {
  const total = sum(tensor);
  const [value] = await total.data();
  total.dispose();
  if (!Number.isFinite(value))
    throw new ParamsError(`${source}: ${name} holds NaN or infinite values; the file is damaged or was saved from a diverged run`);
}
