import { DTypeError } from './errors.js';

/** Formats that a weight matrix may be kept in: half precision, or int8 and 4-bit in groups of 32 with f16 scales. */
export type WeightFormat = 'f16' | 'bf16' | 'q8' | 'q4';

/** Dtypes of tensors. All arithmetic is f32 and i32 carries indices; weight formats are read by `matmul` (as b) and `gatherRows` alone. */
export type DType = 'f32' | 'i32' | WeightFormat;

/** Dtypes that stored bytes may have. */
export type StorageDType = DType;

export type TypedArrayOf<T extends DType> = T extends 'i32' ? Int32Array : Float32Array;
export type HostData = Float32Array | Int32Array;

export const bytesPerValue = 4;

const plainBytes: Partial<Record<DType, number>> = { f32: 4, i32: 4, f16: 2, bf16: 2 };
export const weightFormats: readonly WeightFormat[] = ['f16', 'bf16', 'q8', 'q4'];
const dtypes: readonly DType[] = ['f32', 'i32', ...weightFormats];

export function isWeightFormat(dtype: string): dtype is WeightFormat {
  return (weightFormats as readonly string[]).includes(dtype);
}

/** int8 or 4-bit values with scales: a block of rows and a group of columns belong together. */
export function isQuantized(dtype: string): dtype is 'q8' | 'q4' {
  return dtype === 'q8' || dtype === 'q4';
}

/** Bytes of one stored value of a dtype that has any. Throws DTypeError for others. */
export function storageByteSize(dtype: DType): number {
  const size = Object.hasOwn(plainBytes, dtype) ? plainBytes[dtype] : undefined;
  if (size === undefined)
    throw new DTypeError(`dtype "${dtype}" has no bytes per value; it must be one of ${Object.keys(plainBytes).join(', ')}`);
  return size;
}

/** Throws DTypeError unless tensors can have this dtype. */
export function checkDType(who: string, dtype: DType): void {
  if (!dtypes.includes(dtype)) throw new DTypeError(`${who}: dtype must be one of ${dtypes.join(', ')}; got ${dtype}`);
}

/** Host memory for the values of a tensor; those of weight formats are f32 on the host. */
export function allocateHost(dtype: DType, size: number): HostData {
  return dtype === 'i32' ? new Int32Array(size) : new Float32Array(size);
}
