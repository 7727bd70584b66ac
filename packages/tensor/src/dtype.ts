import { DTypeError } from './errors.js';

/** Dtypes of tensors. All arithmetic is f32; i32 carries indices. */
export type DType = 'f32' | 'i32';

/** Dtypes that stored bytes may have; f16 and bf16 become f32 while loading. */
export type StorageDType = DType | 'f16' | 'bf16';

export type TypedArrayOf<T extends DType> = T extends 'i32' ? Int32Array : Float32Array;
export type HostData = Float32Array | Int32Array;

export const bytesPerValue = 4;

const storageBytes: Record<StorageDType, number> = { f32: 4, i32: 4, f16: 2, bf16: 2 };

/** Bytes of one stored value. Throws DTypeError for a dtype that tensors cannot be made from. */
export function storageByteSize(dtype: StorageDType): number {
  const size = Object.hasOwn(storageBytes, dtype) ? storageBytes[dtype] : undefined;
  if (size === undefined)
    throw new DTypeError(`dtype "${dtype}" cannot be loaded into a tensor; it must be one of ${Object.keys(storageBytes).join(', ')}`);
  return size;
}

export function allocateHost(dtype: DType, size: number): HostData {
  return dtype === 'i32' ? new Int32Array(size) : new Float32Array(size);
}
