import { storageByteSize, type WeightFormat } from './dtype.js';
import { checkHalves, weightParts } from './quant.js';
import { type Shape, sizeOf } from './shape.js';

/**
 * Writes bytes `begin` to `end` of stored part `part` to `into`, which has that length. `into` may lie in shared memory. Nothing may write to
 * it once the promise has settled.
 */
export type ReadPiece = (part: number, begin: number, end: number, into: Uint8Array) => Promise<unknown>;

/** Where pieces go. */
export interface PieceTarget {
  /** Throws where no more can be taken. Asked before each piece and behind it. */
  ready(): void;
  /** The memory itself, where others may write to it while the device works; undefined where bytes must be handed over. */
  memory(offset: number, bytes: number): Uint8Array | undefined;
  upload(bytes: Uint8Array, offset: number): void;
}

const pieceBytes = 1 << 23;
// As many as Node reads files with at once. The reads themselves, and the pages that the system gives for what they write, are then on all cores.
const atOnce = 4;

/**
 * Fills a tensor of `dtype` and `shape`. Throws the first error of `read` or of the target once no piece is under way, and RangeOpError for
 * values or scales that are not finite, but for f32.
 */
export async function fillPieces(read: ReadPiece, dtype: 'f32' | WeightFormat, shape: Shape, target: PieceTarget): Promise<void> {
  const parts = dtype === 'f32' ? [{ offset: 0, bytes: sizeOf(shape) * storageByteSize(dtype) }] : weightParts(dtype, shape);
  const pieces = parts.flatMap(({ offset, bytes }, part) =>
    Array.from({ length: Math.ceil(bytes / pieceBytes) }, (_, i) => {
      const begin = i * pieceBytes;
      return { part, begin, end: Math.min(bytes, begin + pieceBytes), at: offset + begin };
    }),
  );
  const largest = pieces.reduce((most, { begin, end }) => Math.max(most, end - begin), 0);
  let next = 0;
  const failures: unknown[] = [];
  const worker = async (): Promise<void> => {
    let staging: Uint8Array | undefined;
    for (let piece = pieces[next++]; piece !== undefined; piece = pieces[next++]) {
      const { part, begin, end, at } = piece;
      try {
        target.ready();
        const own = target.memory(at, end - begin);
        staging = own === undefined ? (staging ?? new Uint8Array(largest)) : undefined;
        const into = own ?? staging!.subarray(0, end - begin);
        await read(part, begin, end, into);
        target.ready();
        // Quants may be anything; scales, and halves that are the values themselves, may not.
        if (dtype !== 'f32' && part === parts.length - 1) checkHalves(dtype, shape, into, begin / 2);
        if (own === undefined) target.upload(into, at);
      } catch (error) {
        // The others end with the piece that they are at.
        next = pieces.length;
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, pieces.length) }, worker));
  if (failures.length > 0) throw failures[0];
}
