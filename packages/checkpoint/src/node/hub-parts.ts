import { asCheckpointError, CheckpointError, quote } from '../errors.js';
import { type HubOptions, hubRequest, hubStatusError } from '../hub.js';

export interface PartsSink {
  write(bytes: Uint8Array, at: number): Promise<void>;
  /** All bytes of a part are written. */
  finished(index: number): Promise<void>;
}

export interface PartsPlan {
  readonly url: string;
  readonly file: string;
  readonly size: number;
  readonly partBytes: number;
  readonly connections: number;
  readonly stallMs: number;
  readonly tries: number;
  /** Parts that are there already. */
  readonly done: ReadonlySet<number>;
}

// Longer than this a server's wish to be asked later is not waited for.
const LONGEST_WAIT_MS = 120_000;
const FIRST_WAIT_MS = 500;

/** A failure that another try may not have; `waitMs` where the server says when. */
class Again extends Error {
  constructor(
    readonly error: CheckpointError,
    readonly waitMs?: number,
  ) {
    super(error.message);
  }
}

/**
 * Fetches the parts of a file that are not there, several at once. A part that is cut, stalls, or meets a busy server is asked for again
 * from its start, later each time. `onBytes` counts what is there, and with a negative number what a failed part takes back.
 */
export async function fetchParts(
  options: HubOptions,
  plan: PartsPlan,
  sink: PartsSink,
  onBytes: (bytes: number, fresh: boolean) => void,
): Promise<void> {
  const count = Math.ceil(plan.size / plan.partBytes);
  const sizeOf = (index: number) => Math.min(plan.partBytes, plan.size - index * plan.partBytes);
  const waiting: number[] = [];
  for (let index = 0; index < count; index++) {
    if (plan.done.has(index)) onBytes(sizeOf(index), false);
    else waiting.push(index);
  }
  const stop = new AbortController();
  const worker = async (): Promise<void> => {
    for (let index = waiting.shift(); index !== undefined && !stop.signal.aborted; index = waiting.shift()) {
      await persist(options, plan, stop.signal, async () => {
        await fetchPart(options, plan, { at: index * plan.partBytes, length: sizeOf(index) }, stop.signal, sink, onBytes);
      });
      await sink.finished(index);
    }
  };
  const running = Array.from({ length: Math.min(plan.connections, waiting.length) }, async () => {
    try {
      await worker();
    } catch (error) {
      // The others must not write on after the files are closed.
      stop.abort(error);
      throw error;
    }
  });
  const failed = (await Promise.allSettled(running)).find((result) => result.status === 'rejected');
  if (failed !== undefined) throw stop.signal.reason;
}

async function persist(options: HubOptions, plan: PartsPlan, stop: AbortSignal, attempt: () => Promise<void>): Promise<void> {
  for (let tried = 1; ; tried++) {
    throwIfAborted(options, plan.file);
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof Again)) throw error;
      if (tried >= plan.tries || stop.aborted) throw error.error;
      const wait = error.waitMs ?? Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (tried - 1));
      if (wait > LONGEST_WAIT_MS) throw error.error;
      await sleep(wait, [stop, options.signal]);
    }
  }
}

function throwIfAborted(options: HubOptions, file: string): void {
  if (options.signal?.aborted)
    throw new CheckpointError('aborted', `${quote(file)}: the download was aborted.`, { file, cause: options.signal.reason });
}

function sleep(ms: number, signals: readonly (AbortSignal | undefined)[]): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      for (const signal of signals) signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    for (const signal of signals) signal?.addEventListener('abort', done);
  });
}

async function fetchPart(
  options: HubOptions,
  plan: PartsPlan,
  { at, length }: { at: number; length: number },
  stop: AbortSignal,
  sink: PartsSink,
  onBytes: (bytes: number, fresh: boolean) => void,
): Promise<void> {
  const { file } = plan;
  // One controller by hand: a signal of AbortSignal.any may be collected while a request waits for it.
  const end = new AbortController();
  const pass = () => end.abort();
  const outer = [stop, ...(options.signal === undefined ? [] : [options.signal])];
  for (const signal of outer) signal.addEventListener('abort', pass);
  if (outer.some((signal) => signal.aborted)) pass();
  let stalled = false;
  let reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const wind = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      stalled = true;
      end.abort();
    }, plan.stallMs);
  };
  let got = 0;
  try {
    wind();
    const response = await hubRequest(options, plan.url, { range: `bytes=${at}-${at + length - 1}`, signal: end.signal });
    checkAnswer(options, plan, response, at, length);
    reader = response.body?.getReader();
    for (;;) {
      if (end.signal.aborted) throw new Error('aborted');
      wind();
      const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
      if (done || value === undefined) break;
      if (got + value.length > length) {
        await reader?.cancel();
        throw new Again(new CheckpointError('http-body', `${quote(file)}: more than the ${length} bytes asked for came.`, { file }));
      }
      await sink.write(value, at + got);
      got += value.length;
      onBytes(value.length, true);
    }
    if (got < length)
      throw new Again(new CheckpointError('http-body', `${quote(file)}: the connection ended after ${got} of ${length} bytes.`, { file }));
  } catch (error) {
    if (got > 0) onBytes(-got, true);
    throwIfAborted(options, file);
    if (stalled) {
      throw new Again(new CheckpointError('stalled', `${quote(file)}: no byte came for ${plan.stallMs} ms.`, { file, cause: error }));
    }
    if (error instanceof Again || CheckpointError.is(error) || isDisk(error)) throw error;
    const cause = error instanceof Error && error.cause instanceof Error ? ` (${error.cause.message})` : '';
    throw new Again(asCheckpointError(error, 'read-failed', `${quote(file)}: the connection failed${cause}`, { file }));
  } finally {
    clearTimeout(timer);
    for (const signal of outer) signal.removeEventListener('abort', pass);
    reader?.cancel().catch(() => undefined);
  }
}

// Errors of the file system carry the call that failed; those of the network do not come from one of these.
const isDisk = (error: unknown): boolean =>
  /^(write|ftruncate|fsync|open)$/.test(String((error as { syscall?: unknown } | null)?.syscall)) &&
  (error as { code?: unknown }).code !== 'EPIPE';

function checkAnswer(options: HubOptions, { file, size }: PartsPlan, response: Response, at: number, length: number): void {
  const refuse = (error: CheckpointError | Again): never => {
    response.body?.cancel().catch(() => undefined);
    throw error;
  };
  const { status } = response;
  if (status === 429 || status >= 500) refuse(new Again(hubStatusError(options, file, response), retryAfter(response)));
  if (status >= 400) refuse(hubStatusError(options, file, response));
  if (/^\s*text\/html/i.test(response.headers.get('content-type') ?? '')) {
    refuse(
      new CheckpointError('http-body', `${quote(file)}: a web page came instead of the file; a proxy or a login page may be in between.`, {
        file,
        status,
      }),
    );
  }
  const range = response.headers.get('content-range');
  const whole = status === 200 && at === 0 && length === size;
  if (!whole && (status !== 206 || range !== `bytes ${at}-${at + length - 1}/${size}`)) {
    refuse(
      new CheckpointError(
        'http-range',
        `${quote(file)}: bytes ${at} to ${at + length - 1} of ${size} were asked for; the server answered ${status} with ${range === null ? 'no Content-Range' : quote(range)}.`,
        { file, status },
      ),
    );
  }
  const announced = response.headers.get('content-length');
  if (announced !== null && Number(announced) !== length) {
    refuse(
      new Again(
        new CheckpointError('http-body', `${quote(file)}: the server announces ${quote(announced)} bytes for a range of ${length}.`, {
          file,
        }),
      ),
    );
  }
}

/** Milliseconds until the server wants to be asked again: seconds or a date (RFC 9110, section 10.2.3). */
function retryAfter(response: Response): number | undefined {
  const text = response.headers.get('retry-after');
  if (text === null) return undefined;
  const seconds = /^\d+$/.test(text.trim()) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds * 1000) : undefined;
}
