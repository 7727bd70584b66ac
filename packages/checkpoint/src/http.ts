import { asCheckpointError, CheckpointError, checkOptions, quote } from './errors.js';
import { checkFileName, decodeText, type FileSet, MAX_TEXT_BYTES, missingFile, tooLong } from './file-set.js';
import { type ByteSource, fillFromStream, targetFor } from './source.js';

export interface HttpOptions {
  /** The `fetch` to use; default the global one. */
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
  /** Sent with each request, e.g. `{ authorization: 'Bearer …' }`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Aborts requests under way and refuses later ones. */
  readonly signal?: AbortSignal;
}

const OPTION_NAMES = ['fetch', 'headers', 'signal'];

// The first request fetches this much and keeps it: most headers are smaller, so that opening a file is one request.
const HEAD_BYTES = 64 * 1024;

/**
 * A file on a server that answers HTTP range requests (RFC 9110, section 14). Each answer is checked: status 206, the
 * `Content-Range` that was asked for, an unchanged total and `ETag`, and exactly the bytes promised.
 * In a browser a server of another origin must expose `Content-Range`.
 * @throws CheckpointError `http-status`, `http-range`, `http-body`, `http-changed`, `aborted`, from `size` and `read`
 */
export function httpSource(url: string | URL, options: HttpOptions = {}): ByteSource {
  checkOptions('httpSource', options, OPTION_NAMES);
  return new HttpSource(String(url), options);
}

/**
 * The files below a URL: `httpFiles('https://host/model/')`. `has` is false where the server answers 404, 410 or, as single-page
 * servers do for any unknown path, a web page.
 */
export function httpFiles(baseUrl: string | URL, options: HttpOptions = {}): FileSet {
  checkOptions('httpFiles', options, OPTION_NAMES);
  const base = String(baseUrl).endsWith('/') ? String(baseUrl) : `${String(baseUrl)}/`;
  const urlOf = (file: string): string => {
    checkFileName(base, file);
    return new URL(file.split('/').map(encodeURIComponent).join('/'), base).href;
  };
  const open = async (file: string): Promise<ByteSource> => {
    const source = new HttpSource(urlOf(file), options);
    try {
      await source.size();
    } catch (error) {
      throw isAbsent(error) ? missingFile(base, file, error) : error;
    }
    return source;
  };
  return {
    name: base,
    open,
    has: async (file) => {
      // Not HEAD, which many servers refuse or answer differently.
      const response = await request(urlOf(file), options, { headers: { range: 'bytes=0-0' } });
      discard(response);
      if (response.status === 404 || response.status === 410) return false;
      if (!response.ok && response.status !== 416) throw statusError(urlOf(file), response);
      return !isPage(response);
    },
    readText: async (file, maxBytes = MAX_TEXT_BYTES) => {
      const url = urlOf(file);
      const response = await request(url, options, {});
      if (!response.ok) {
        discard(response);
        const error = statusError(url, response);
        throw isAbsent(error) ? missingFile(base, file, error) : error;
      }
      if (isPage(response)) {
        discard(response);
        throw new CheckpointError('http-body', `${quote(url)}: the server answered with a web page instead of the file.`, { file: url });
      }
      return decodeText(url, await collect(url, response, maxBytes));
    },
  };
}

class HttpSource implements ByteSource {
  #opening: Promise<{ size: number; head: Uint8Array; etag: string | null }> | undefined;

  constructor(
    readonly name: string,
    readonly options: HttpOptions,
  ) {}

  async size(): Promise<number> {
    return (await this.#open()).size;
  }

  async read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array> {
    const { size, head, etag } = await this.#open();
    const out = targetFor(this.name, size, offset, length, into);
    if (offset + length <= head.length) {
      out.set(head.subarray(offset, offset + length));
      return out;
    }
    const response = await this.#range(offset, offset + length - 1);
    const range = this.#rangeOf(response);
    if (range.size !== size || response.headers.get('etag') !== etag) {
      discard(response);
      throw new CheckpointError('http-changed', `${quote(this.name)}: the file changed on the server while it was read; open it again.`, {
        file: this.name,
      });
    }
    if (range.first !== offset || range.last !== offset + length - 1) {
      discard(response);
      throw this.#rangeError(`bytes ${offset} to ${offset + length - 1} were asked for, the server sent ${range.first} to ${range.last}`);
    }
    await this.#fill(response, out);
    return out;
  }

  // One request serves every reader that comes before it is answered. A failure is forgotten, so that a later call may try again.
  #open(): Promise<{ size: number; head: Uint8Array; etag: string | null }> {
    this.#opening ??= this.#fetchHead().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  async #fetchHead(): Promise<{ size: number; head: Uint8Array; etag: string | null }> {
    const response = await this.#range(0, HEAD_BYTES - 1);
    const etag = response.headers.get('etag');
    // An empty file has no range to give: the answer is 416 with `bytes */0`.
    if (response.status === 416 && response.headers.get('content-range') === 'bytes */0') {
      discard(response);
      return { size: 0, head: new Uint8Array(0), etag };
    }
    const { first, last, size } = this.#rangeOf(response);
    if (first !== 0 || last !== Math.min(HEAD_BYTES, size) - 1) {
      discard(response);
      throw this.#rangeError(`the first ${HEAD_BYTES} bytes were asked for, the server sent ${first} to ${last} of ${size}`);
    }
    const head = new Uint8Array(last + 1);
    await this.#fill(response, head);
    return { size, head, etag };
  }

  #range(first: number, last: number): Promise<Response> {
    return request(this.name, this.options, { headers: { range: `bytes=${first}-${last}` } });
  }

  #rangeOf(response: Response): { first: number; last: number; size: number } {
    if (response.status !== 206) {
      discard(response);
      if (response.status === 200) {
        throw isPage(response)
          ? new CheckpointError('http-body', `${quote(this.name)}: the server answered with a web page instead of the file.`, {
              file: this.name,
              status: 200,
            })
          : this.#rangeError('the server ignored the range and sent the whole file (status 200); download it first');
      }
      throw response.status === 416
        ? this.#rangeError('the server says the range lies outside the file (status 416)')
        : statusError(this.name, response);
    }
    const encoding = response.headers.get('content-encoding');
    if (encoding !== null && encoding !== 'identity') {
      discard(response);
      throw this.#rangeError(`the server compressed the range (${quote(encoding)}), so that its offsets mean nothing`);
    }
    const text = response.headers.get('content-range');
    const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})$/.exec(text ?? '');
    const [first, last, size] = (match?.slice(1) ?? []).map(Number);
    if (first === undefined || last === undefined || size === undefined || first > last || last >= size || size > Number.MAX_SAFE_INTEGER) {
      discard(response);
      const found =
        text === null ? 'there is no Content-Range (a server of another origin must expose it)' : `Content-Range is ${quote(text)}`;
      throw this.#rangeError(`${found}; expected bytes FIRST-LAST/SIZE`);
    }
    return { first, last, size };
  }

  async #fill(response: Response, out: Uint8Array): Promise<void> {
    const length = response.headers.get('content-length');
    if (length !== null && Number(length) !== out.length) {
      discard(response);
      throw new CheckpointError(
        'http-body',
        `${quote(this.name)}: the server announces ${quote(length)} bytes for a range of ${out.length}.`,
        {
          file: this.name,
        },
      );
    }
    if (response.body === null) {
      throw new CheckpointError('http-body', `${quote(this.name)}: the server sent no body for a range of ${out.length} bytes.`, {
        file: this.name,
      });
    }
    try {
      await fillFromStream(this.name, response.body, out, 'http-body');
    } catch (error) {
      throw abortError(this.name, this.options) ?? error;
    }
  }

  #rangeError(what: string): CheckpointError {
    return new CheckpointError('http-range', `${quote(this.name)}: ${what}.`, { file: this.name });
  }
}

async function request(url: string, options: HttpOptions, init: RequestInit): Promise<Response> {
  const early = abortError(url, options);
  if (early !== undefined) throw early;
  const send = options.fetch ?? globalThis.fetch;
  const headers = { ...options.headers, ...(init.headers as Record<string, string> | undefined) };
  try {
    return await send(url, { ...init, headers, ...(options.signal === undefined ? {} : { signal: options.signal }) });
  } catch (error) {
    throw (
      abortError(url, options) ??
      asCheckpointError(error, 'read-failed', `${quote(url)}: the request failed${causeOf(error)}`, { file: url })
    );
  }
}

// undici reports "fetch failed" and hides the reason in the cause.
function causeOf(error: unknown): string {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error ? ` (${cause.message})` : '';
}

function abortError(url: string, options: HttpOptions): CheckpointError | undefined {
  if (!options.signal?.aborted) return undefined;
  return new CheckpointError('aborted', `${quote(url)}: the read was aborted.`, { file: url, cause: options.signal.reason });
}

function statusError(url: string, response: Response): CheckpointError {
  const { status } = response;
  const advice =
    status === 401 || status === 403
      ? ' Access is restricted: send a token in the authorization header.'
      : status === 429
        ? ' The server limits the rate: try again later.'
        : '';
  return new CheckpointError('http-status', `${quote(url)}: the server answered ${status} ${response.statusText}.${advice}`, {
    file: url,
    status,
  });
}

function isAbsent(error: unknown): boolean {
  return CheckpointError.is(error) && (error.status === 404 || error.status === 410);
}

function isPage(response: Response): boolean {
  return /^\s*(text\/html|application\/xhtml)/i.test(response.headers.get('content-type') ?? '');
}

/** An unread body would keep its connection. */
function discard(response: Response): void {
  response.body?.cancel().catch(() => undefined);
}

async function collect(url: string, response: Response, maxBytes: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = response.body?.getReader();
  for (;;) {
    let part: { done: boolean; value?: Uint8Array | undefined } | undefined;
    try {
      part = await reader?.read();
    } catch (error) {
      throw asCheckpointError(error, 'http-body', `${quote(url)}: reading stopped after ${length} bytes`, { file: url });
    }
    if (part?.value === undefined) break;
    length += part.value.length;
    if (length > maxBytes) {
      await reader?.cancel();
      throw tooLong(url, `over ${maxBytes}`, maxBytes);
    }
    parts.push(part.value);
  }
  const all = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
