import { expect } from 'vitest';
import { CheckpointError, type CheckpointErrorCode } from '../../src/index.js';

/** A safetensors file from any header text, however wrong. */
export function rawFile(header: string | Uint8Array, dataBytes: number | Uint8Array = 0, claimedLength?: bigint): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const data = typeof dataBytes === 'number' ? new Uint8Array(dataBytes) : dataBytes;
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setBigUint64(0, claimedLength ?? BigInt(text.length), true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

export interface Expected {
  readonly code: CheckpointErrorCode;
  readonly file?: string;
  readonly tensor?: string;
  readonly message?: RegExp;
}

/** Runs `action`, which must fail with a CheckpointError as described; returns the error. */
export async function refused(action: () => Promise<unknown>, expected: Expected): Promise<CheckpointError> {
  let result: unknown;
  try {
    result = await action();
  } catch (error) {
    if (!CheckpointError.is(error)) throw error;
    expect({ code: error.code, message: error.message }).toMatchObject({ code: expected.code });
    if (expected.file !== undefined) expect(error.file).toBe(expected.file);
    if (expected.tensor !== undefined) expect(error.tensor).toBe(expected.tensor);
    if (expected.message !== undefined) expect(error.message).toMatch(expected.message);
    return error;
  }
  throw new Error(`expected ${expected.code}, but it went through with ${String(result)}`);
}
