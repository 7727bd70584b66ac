import { CheckpointError, quote } from './errors.js';

/**
 * Where a file is written. What is written stays invisible under the file's name until `commit`, so that a reader never
 * meets half a file: `write`… , `end`, `commit`, or `abort` at any point before.
 */
export interface ByteSink {
  /** For messages. */
  readonly name: string;
  /** Appends. The bytes are taken when the promise resolves; the array may be used again afterwards. */
  write(bytes: Uint8Array): Promise<void>;
  /** Everything is written: make it durable, release what writing held. */
  end(): Promise<void>;
  /** Give the file its name. */
  commit(): Promise<void>;
  /** Forget what was written. Never throws; does nothing after `commit`. */
  abort(): Promise<void>;
}

/** A folder that files are written into. */
export interface SinkSet {
  readonly name: string;
  create(file: string): Promise<ByteSink>;
  has(file: string): Promise<boolean>;
  /** Removes a file; does nothing where there is none. */
  remove(file: string): Promise<void>;
}

/** Writes into memory. `bytes()` gives the file once it is committed. */
export function bytesSink(name = 'bytes'): ByteSink & { bytes(): Uint8Array } {
  let parts: Uint8Array[] = [];
  let file: Uint8Array | undefined;
  return {
    name,
    write: async (bytes) => {
      parts.push(bytes.slice());
    },
    end: async () => undefined,
    commit: async () => {
      const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of parts) {
        whole.set(part, at);
        at += part.length;
      }
      file = whole;
      parts = [];
    },
    abort: async () => {
      parts = [];
    },
    bytes: () => {
      if (file === undefined) throw new CheckpointError('write-failed', `${quote(name)}: nothing has been committed.`, { file: name });
      return file;
    },
  };
}

/** Writes into a map of file name -> bytes; a file appears in it when it is committed. */
export function bytesSinks(files: Map<string, Uint8Array>, name = 'memory'): SinkSet {
  return {
    name,
    has: async (file) => files.has(file),
    remove: async (file) => {
      files.delete(file);
    },
    create: async (file) => {
      const sink = bytesSink(file);
      return {
        ...sink,
        commit: async () => {
          await sink.commit();
          files.set(file, sink.bytes());
        },
      };
    },
  };
}
