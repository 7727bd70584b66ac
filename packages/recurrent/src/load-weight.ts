import { type Device, RangeOpError, type StorageDType, sum, type Tensor, type WeightFormat, weightParts } from '@unroll/tensor';
import { isMatrix } from './shapes.js';
import { ParamsError, type StoredPart, type TensorSource } from './source.js';

/** What the matrices of a model are kept in; all other parameters stay f32. */
export type WeightDType = 'f32' | WeightFormat;

/** Bytes of a matrix that are read and rounded at once. */
const pieceBytes = 1 << 23;

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

/** The parts of a matrix that is stored quantised; undefined for others. */
export async function readQuantized(
  source: TensorSource,
  shape: readonly number[],
  parts: readonly StoredPart[],
): Promise<Uint8Array[] | undefined> {
  const format = storedFormat(source, parts);
  if (format === undefined) return undefined;
  const read = (suffix: string) =>
    readParts(
      source,
      parts.map(({ name }) => name + suffix),
    );
  return Promise.all(weightParts(format, shape).map(({ suffix }) => read(suffix)));
}

/**
 * One parameter on the device, of which `quantized` has been read already where it is stored so. A matrix is kept in `dtype`, rounded piece by piece where the source reads slices; one that is stored
 * quantised stays what it is. Throws ParamsError where it holds NaN or infinite values, with nothing left on the device.
 */
export async function loadWeight(
  device: Device,
  source: TensorSource,
  name: string,
  shape: readonly number[],
  parts: readonly StoredPart[],
  dtype: WeightDType,
  quantized: readonly Uint8Array[] | undefined,
): Promise<Tensor> {
  const format = storedFormat(source, parts);
  const kept = isMatrix(shape) ? dtype : 'f32';
  const names = parts.map(({ name: one }) => one);
  let tensor: Tensor | undefined;
  try {
    if (format !== undefined) return device.fromBytes(quantized!, format, shape, { memory: 'weights' });
    const stored = source.entries.get(parts[0]!.name)!.dtype.toLowerCase() as StorageDType;
    if (kept === 'f32') {
      tensor = device.fromBytes(await readParts(source, names), stored, shape, { memory: 'weights' });
      await checkFinite(source.name, name, tensor);
      return tensor;
    }
    tensor = device.zeros(shape, { dtype: kept, memory: 'weights' });
    await writePieces(device, tensor, source, parts, stored as 'f32' | 'f16' | 'bf16');
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
  const [{ name }] = parts as [StoredPart];
  if (parts.length > 1 || source.readSlice === undefined) {
    device.writeRows(
      tensor,
      await readParts(
        source,
        parts.map((part) => part.name),
      ),
      stored,
      0,
    );
    return;
  }
  const rowBytes = K * (stored === 'f32' ? 4 : 2);
  // Whole blocks of 8 rows.
  const step = Math.max(1, Math.floor(pieceBytes / 8 / Math.max(1, rowBytes))) * 8;
  const buffer = new Uint8Array(Math.min(step, N) * rowBytes);
  for (let row = 0; row < N; row += step) {
    const end = Math.min(N, row + step);
    const piece = await source.readSlice(name, row * rowBytes, end * rowBytes, buffer);
    device.writeRows(tensor, piece, stored, row);
  }
}

/** The bytes of stored tensors, one behind the other. */
async function readParts(source: TensorSource, names: readonly string[]): Promise<Uint8Array> {
  if (names.length === 1) return source.read(names[0]!);
  const pieces = await Promise.all(names.map((name) => source.read(name)));
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
