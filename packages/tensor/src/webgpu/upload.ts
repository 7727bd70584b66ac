import type { Encoder } from './encoder.js';
import { type GpuDispatch, kernel, perThread } from './kernel.js';
import type { BufferPool, PooledBuffer } from './pool.js';
import type { GpuTraits } from './traits.js';

// Small enough that the driver's own staging memory stays small, large enough that calls do not count.
const chunkBytes = 1 << 23;

/** Writes bytes to a buffer in pieces. Their number must be a multiple of 4. */
export function uploadChunks(encoder: Encoder, to: PooledBuffer, offset: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.byteLength; at += chunkBytes) encoder.upload(to, offset + at, bytes.subarray(at, at + chunkBytes));
}

/** Statements that give the bits of the f32 that a stored half `h` (u32) is, as `bits`: exactly, subnormals too. */
export const halfBits = (dtype: 'f16' | 'bf16'): string =>
  dtype === 'bf16'
    ? 'let bits = h << 16u;'
    : `let sign = (h & 0x8000u) << 16u;
  let m = h & 0x3ffu;
  let e = (h >> 10u) & 0x1fu;
  // Subnormals become whole numbers times 2^-24: both are normal in f32, so a GPU that flushes subnormals gives them too.
  let small = bitcast<u32>(f32(m) * 5.9604644775390625e-8);
  let usual = ((e + 112u) << 23u) | (m << 13u);
  let bits = sign | select(select(usual, 0x7f800000u | (m << 13u), e == 31u), small, e == 0u);`;

/** A thread for each value: stored halves to the bits of f32. */
export const convert = (dtype: 'f16' | 'bf16') =>
  kernel('from', [dtype], () => ({
    params: { n: 'u32' },
    read: { halves: 'u32' },
    write: { y: 'u32' },
    body: `if (index >= p.n) { return; }
  let h = (halves[index >> 1u] >> ((index & 1u) * 16u)) & 0xffffu;
  ${halfBits(dtype)}
  y[index] = bits;`,
  }));

type Run = (dispatch: GpuDispatch, from: PooledBuffer, offset: number, bytes: number) => void;

/** Uploads 2-byte values in pieces and widens each to f32 on the device, exactly. */
export function uploadHalves(
  encoder: Encoder,
  pool: BufferPool,
  bytes: Uint8Array,
  dtype: 'f16' | 'bf16',
  size: number,
  traits: GpuTraits,
  run: Run,
): void {
  const each = Math.min(chunkBytes, Math.floor(traits.maxBindingBytes / 512) * 256) / 2;
  for (let start = 0; start < size; start += each) {
    const n = Math.min(each, size - start);
    const from = pool.acquire(n * 2, 'upload');
    let piece = bytes.subarray(start * 2, (start + n) * 2);
    if (piece.byteLength % 4 !== 0) {
      const padded = new Uint8Array(piece.byteLength + 2);
      padded.set(piece);
      piece = padded;
    }
    encoder.upload(from, 0, piece);
    run(perThread(convert(dtype), n, traits, { bind: [], params: { n } }), from, start * 4, n * 4);
    pool.release(from);
  }
}
