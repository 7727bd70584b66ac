import { createHash } from 'node:crypto';
import type { Checkpoint } from '@unroll/checkpoint';

// A training step or another seed moves nearly every value of every tensor, so that a few pieces of each show it. Reading all of a large
// source again would take as long as converting a part of it.
const PIECES = 16;
const PIECE_BYTES = 4096;

/** SHA-256 of names, dtypes, shapes and sixteen pieces of each tensor, evenly spread from its first byte to its last; small tensors whole. */
export async function digestOf(checkpoint: Checkpoint, tensors: readonly { readonly name: string }[]): Promise<string> {
  const hash = createHash('sha256');
  for (const { name } of tensors) {
    const { dtype, shape, byteLength } = checkpoint.entries.get(name)!;
    hash.update(`${JSON.stringify([name, dtype, shape])}\n`);
    if (byteLength <= PIECES * PIECE_BYTES) hash.update(await checkpoint.read(name));
    else {
      for (let i = 0; i < PIECES; i++) {
        const begin = Math.floor(((byteLength - PIECE_BYTES) * i) / (PIECES - 1));
        hash.update(await checkpoint.readSlice(name, begin, begin + PIECE_BYTES));
      }
    }
  }
  return hash.digest('hex');
}
