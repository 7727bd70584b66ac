import { isIntegerDtype, toFloat32, toInt32 } from './convert.js';
import type { SafetensorsDtype } from './dtype.js';
import { CheckpointError, checkOptions, listed, quote } from './errors.js';
import type { TensorEntry } from './header.js';
import type { TensorReader } from './safetensors.js';

/** What loading needs of a tensor. */
export interface Disposable {
  dispose(): void;
}

export type LoadDtype = 'f32' | 'f16' | 'bf16' | 'i32';

/** What loading needs of a device; `Device` of `@unroll/tensor` is one. */
export interface LoadDevice<T extends Disposable> {
  /** Makes a tensor from little-endian bytes. It must have taken the bytes when it returns: the array is used again. */
  fromBytes(bytes: Uint8Array, dtype: LoadDtype, shape: readonly number[], options?: { readonly memory?: LoadMemory }): T;
}

/** Which account of the device the bytes go to. */
export type LoadMemory = 'weights' | 'kv' | 'scratch';

export interface LoadProgress {
  /** The tensor that has just been loaded. */
  readonly name: string;
  readonly loadedTensors: number;
  readonly totalTensors: number;
  /** Bytes as they are stored, not as they lie on the device. */
  readonly loadedBytes: number;
  readonly totalBytes: number;
}

export interface LoadTensorsOptions {
  /** Load these tensors only; each must exist. */
  readonly names?: Iterable<string>;
  /** Load only the tensors for which this holds, among `names` where given. */
  readonly filter?: (entry: TensorEntry) => boolean;
  /** Called after each tensor. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Default `weights`. */
  readonly memory?: LoadMemory;
  /** Stops between two tensors; what was loaded is disposed. */
  readonly signal?: AbortSignal;
}

/**
 * Puts tensors on a device one at a time, in file order, through one buffer: the memory used beside the device's own is the
 * largest tensor. F32, F16, BF16 and I32 go as they are (a device widens f16 and bf16); 8-bit floats become f32 and other
 * integers i32, exactly or not at all. When anything fails, every tensor made so far is disposed.
 * @returns an object without prototype, keyed by tensor name
 * @throws CheckpointError `missing-tensor` with all missing names, `unsupported-dtype` before anything is read
 */
export async function loadTensors<T extends Disposable>(
  device: LoadDevice<T>,
  checkpoint: TensorReader,
  options: LoadTensorsOptions = {},
): Promise<Record<string, T>> {
  checkOptions('loadTensors', options, ['names', 'filter', 'onProgress', 'memory', 'signal']);
  const { memory = 'weights', onProgress, signal } = options;
  const wanted = choose(checkpoint, options);
  const totalBytes = wanted.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const staging = allocate(checkpoint.name, wanted);
  const loaded: Record<string, T> = Object.create(null) as Record<string, T>;
  let loadedTensors = 0;
  let loadedBytes = 0;
  try {
    for (const entry of wanted) {
      if (signal?.aborted) {
        const what = `loadTensors: aborted after ${loadedTensors} of ${wanted.length} tensors of ${quote(checkpoint.name)}.`;
        throw new CheckpointError('aborted', what, { file: checkpoint.name, cause: signal.reason });
      }
      const bytes = await checkpoint.readInto(entry.name, staging);
      const stored = convert(checkpoint.name, entry, bytes);
      loaded[entry.name] = device.fromBytes(stored.bytes, stored.dtype, entry.shape, { memory });
      loadedTensors++;
      loadedBytes += entry.byteLength;
      onProgress?.({ name: entry.name, loadedTensors, totalTensors: wanted.length, loadedBytes, totalBytes });
    }
  } catch (error) {
    for (const tensor of Object.values(loaded)) tensor.dispose();
    throw error;
  }
  return loaded;
}

function choose(checkpoint: TensorReader, options: LoadTensorsOptions): TensorEntry[] {
  let wanted: TensorEntry[] = [...checkpoint.entries.values()];
  if (options.names !== undefined) {
    const names = new Set(options.names);
    const missing = [...names].filter((name) => !checkpoint.entries.has(name));
    if (missing.length > 0) {
      const what = `loadTensors: ${quote(checkpoint.name)} lacks ${missing.length} of ${names.size} tensors: ${listed(missing.map(quote))}.`;
      throw new CheckpointError('missing-tensor', what, { file: checkpoint.name, tensor: missing[0] });
    }
    wanted = wanted.filter(({ name }) => names.has(name));
  }
  if (options.filter !== undefined) wanted = wanted.filter(options.filter);
  const unloadable = wanted.filter(({ dtype }) => loadDtype(dtype) === undefined);
  const [first] = unloadable;
  if (first !== undefined) {
    const shown = listed(unloadable.map(({ name, dtype }) => `${quote(name)} (${dtype})`));
    const what = `loadTensors: ${quote(checkpoint.name)}: no device takes ${shown} without loss; leave them out with { filter } or convert them first.`;
    throw new CheckpointError('unsupported-dtype', what, { file: checkpoint.name, tensor: first.name });
  }
  return wanted;
}

function loadDtype(dtype: SafetensorsDtype): LoadDtype | undefined {
  if (dtype === 'F32') return 'f32';
  if (dtype === 'F16') return 'f16';
  if (dtype === 'BF16') return 'bf16';
  if (dtype.startsWith('F8_')) return 'f32';
  return isIntegerDtype(dtype) ? 'i32' : undefined;
}

function allocate(name: string, wanted: readonly TensorEntry[]): Uint8Array {
  const largest = wanted.reduce(
    (most, entry) => (entry.byteLength > most.byteLength ? entry : most),
    wanted[0] ?? { byteLength: 0, name: '' },
  );
  try {
    return new Uint8Array(largest.byteLength);
  } catch (error) {
    const what = `loadTensors: the ${largest.byteLength} bytes of tensor ${quote(largest.name)} of ${quote(name)} could not be allocated.`;
    throw new CheckpointError('read-failed', what, { file: name, tensor: largest.name, cause: error });
  }
}

function convert(file: string, entry: TensorEntry, bytes: Uint8Array): { bytes: Uint8Array; dtype: LoadDtype } {
  const { dtype, name } = entry;
  const target = loadDtype(dtype);
  if (target === undefined)
    throw new CheckpointError('unsupported-dtype', `loadTensors: tensor ${quote(name)} has dtype ${dtype}.`, { file, tensor: name });
  if (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16' || dtype === 'I32') return { bytes, dtype: target };
  try {
    const values = target === 'i32' ? toInt32(bytes, dtype) : toFloat32(bytes, dtype);
    return { bytes: new Uint8Array(values.buffer, values.byteOffset, values.byteLength), dtype: target };
  } catch (error) {
    if (!CheckpointError.is(error)) throw error;
    throw new CheckpointError(error.code, `${quote(file)}: tensor ${quote(name)}: ${error.message}`, { file, tensor: name, cause: error });
  }
}
