import { CheckpointError, quote } from './errors.js';

/**
 * Bits per element of every dtype of the format (safetensors `tensor.rs`, `enum Dtype`), in the order of that enum:
 * the reference writer lays tensors out from the last to the first, so that wide elements stay aligned.
 */
const BITS = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

/** A dtype name as it stands in a safetensors header. */
export type SafetensorsDtype = keyof typeof BITS;

/** All dtypes of the format, narrow ones first. */
export const SAFETENSORS_DTYPES = Object.freeze(Object.keys(BITS)) as readonly SafetensorsDtype[];

const RANK = new Map<string, number>(SAFETENSORS_DTYPES.map((dtype, index) => [dtype, index]));

export function isSafetensorsDtype(name: string): name is SafetensorsDtype {
  return RANK.has(name);
}

/** Position in the order of the format's enum; the writer sorts by it. */
export function dtypeRank(dtype: SafetensorsDtype): number {
  return RANK.get(dtype) ?? -1;
}

/** Bits of one element. Sub-byte dtypes (F4, F6_*) are packed; a tensor of them must fill whole bytes. */
export function bitsPerElement(dtype: SafetensorsDtype): number {
  return BITS[dtype];
}

export type ByteCount =
  | { readonly ok: true; readonly elements: number; readonly bytes: number }
  | { readonly ok: false; readonly code: 'bad-shape' | 'shape-overflow' | 'size-mismatch'; readonly why: string };

/**
 * Elements and bytes of `shape`, or why there are none. The product is taken over the non-zero dimensions first: a zero
 * elsewhere in the shape must not hide a product that no consumer could hold.
 */
export function countBytes(dtype: SafetensorsDtype, shape: readonly number[]): ByteCount {
  let product = 1;
  let empty = false;
  for (const size of shape) {
    if (!Number.isSafeInteger(size) || size < 0) {
      return { ok: false, code: 'bad-shape', why: `a dimension must be an integer from 0 to 2^53-1, not ${size}` };
    }
    if (size === 0) empty = true;
    else product *= size;
    if (product > Number.MAX_SAFE_INTEGER) {
      return { ok: false, code: 'shape-overflow', why: 'the product of its dimensions passes 2^53-1' };
    }
  }
  const elements = empty ? 0 : product;
  const bits = elements * BITS[dtype];
  if (bits > Number.MAX_SAFE_INTEGER) {
    return { ok: false, code: 'shape-overflow', why: `${elements} elements of ${dtype} pass 2^53-1 bits` };
  }
  if (bits % 8 !== 0) {
    return {
      ok: false,
      code: 'size-mismatch',
      why: `${elements} packed ${dtype} elements are ${bits} bits, which is not a whole number of bytes`,
    };
  }
  return { ok: true, elements, bytes: bits / 8 };
}

/**
 * Bytes that a tensor takes in a file.
 * @throws CheckpointError `bad-shape`, `shape-overflow` or `size-mismatch` where no file could hold it.
 */
export function tensorByteLength(dtype: SafetensorsDtype, shape: readonly number[], tensor?: string): number {
  const count = countBytes(dtype, shape);
  if (count.ok) return count.bytes;
  const who = tensor === undefined ? 'tensorByteLength' : `tensor ${quote(tensor)}`;
  throw new CheckpointError(count.code, `${who}: ${dtype} [${shape.join(', ')}]: ${count.why}.`, { tensor });
}
