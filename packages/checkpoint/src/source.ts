import { asCheckpointError, CheckpointError, quote } from './errors.js';

/** A range of bytes that can be read in any order, and by several readers at once. */
export interface ByteSource {
  /** For messages: a path, a URL, a file name. */
  readonly name: string;
  /** Bytes in all. */
  size(): Promise<number>;
  /**
   * Exactly `length` bytes from `offset`. With `into`, they are written to its start and the returned array is a view of
   * it; without, the returned array is the caller's own.
   * @throws CheckpointError where the source ends before `offset + length`, or fails
   */
  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>;
  close?(): Promise<void>;
}

/** Refuses a range that is not inside the source, and gives the array to fill. Every source calls it first. */
export function targetFor(name: string, size: number, offset: number, length: number, into: Uint8Array | undefined): Uint8Array {
  if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0 || offset + length > size) {
    throw new CheckpointError(
      'out-of-range',
      `${quote(name)}: bytes ${offset} to ${offset + length} were asked for, the source has ${size}.`,
      {
        file: name,
      },
    );
  }
  return target(name, length, into);
}

function target(name: string, length: number, into: Uint8Array | undefined): Uint8Array {
  if (into === undefined) {
    try {
      return new Uint8Array(length);
    } catch (error) {
      throw asCheckpointError(error, 'read-failed', `${quote(name)}: ${length} bytes could not be allocated`, { file: name });
    }
  }
  if (into.length < length) {
    throw new CheckpointError('bad-argument', `${quote(name)}: the array to read into has ${into.length} bytes, ${length} are needed.`, {
      file: name,
    });
  }
  return into.subarray(0, length);
}

/** Bytes that are in memory already. They are not copied until read. */
export function bytesSource(bytes: Uint8Array, name = 'bytes'): ByteSource {
  return {
    name,
    size: async () => bytes.length,
    read: async (offset, length, into) => {
      const out = targetFor(name, bytes.length, offset, length, into);
      out.set(bytes.subarray(offset, offset + length));
      return out;
    },
  };
}

/** A Blob or File, read by slices: a `<input type="file">` or a drop, without loading it whole. */
export function blobSource(blob: Blob, name = 'name' in blob && typeof blob.name === 'string' ? blob.name : 'blob'): ByteSource {
  return {
    name,
    size: async () => blob.size,
    read: async (offset, length, into) => {
      const out = targetFor(name, blob.size, offset, length, into);
      await fillFromStream(name, blob.slice(offset, offset + length).stream(), out, 'read-failed');
      return out;
    },
  };
}

/**
 * Fills `out` from a stream chunk by chunk, so that no second copy of the whole is ever held.
 * @throws CheckpointError `code` where the stream fails, ends early or carries more
 */
export async function fillFromStream(
  name: string,
  stream: ReadableStream<Uint8Array>,
  out: Uint8Array,
  code: 'read-failed' | 'http-body',
): Promise<void> {
  const reader = stream.getReader();
  let at = 0;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (at + value.length > out.length) {
        throw new CheckpointError(code, `${quote(name)}: more than the ${out.length} bytes that were asked for arrived.`, { file: name });
      }
      out.set(value, at);
      at += value.length;
    }
  } catch (error) {
    reader.cancel().catch(() => undefined);
    throw asCheckpointError(error, code, `${quote(name)}: reading stopped after ${at} of ${out.length} bytes`, { file: name });
  }
  if (at < out.length) {
    throw new CheckpointError(code, `${quote(name)}: ${at} of ${out.length} bytes arrived before the end.`, { file: name });
  }
}
