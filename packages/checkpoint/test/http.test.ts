import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { encodeSafetensors, httpFiles, httpSource, openCheckpoint, openSafetensors, type TensorToWrite } from '../src/index.js';
import { refused } from './support/raw.js';

// Generous, for machines that are busy with other things.
vi.setConfig({ testTimeout: 30_000 });

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const servers: Server[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

/** A loopback server; returns its base URL and the requests it has seen. */
async function serve(
  handler: Handler,
): Promise<{ url: string; seen: { path: string; range: string | undefined; token: string | undefined }[] }> {
  const seen: { path: string; range: string | undefined; token: string | undefined }[] = [];
  const server = createServer((request, response) => {
    seen.push({ path: request.url ?? '', range: request.headers.range, token: request.headers.authorization });
    handler(request, response);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
}

interface Answer {
  status: number;
  headers: Record<string, string | number>;
  body: Uint8Array;
}

/** What a correct server says to a range request for `bytes`. */
function answer(bytes: Uint8Array, request: IncomingMessage): Answer {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
  if (first === undefined) return { status: 200, headers: { 'content-length': bytes.length }, body: bytes };
  const from = Number(first);
  const to = Math.min(Number(last), bytes.length - 1);
  if (from >= bytes.length) return { status: 416, headers: { 'content-range': `bytes */${bytes.length}` }, body: new Uint8Array(0) };
  const body = bytes.subarray(from, to + 1);
  return {
    status: 206,
    headers: { 'content-range': `bytes ${from}-${to}/${bytes.length}`, 'content-length': body.length, etag: '"v1"' },
    body,
  };
}

/** Serves `bytes`; `bend` changes answers to requests after the first (the one that opens the file), or to all with `from` 0. */
const bent = (bytes: Uint8Array, bend: (answer: Answer) => Partial<Answer>, from = 1): Handler =>
  (() => {
    let count = 0;
    return (request: IncomingMessage, response: ServerResponse) => {
      const right = answer(bytes, request);
      const { status, headers, body } = count++ < from ? right : { ...right, ...bend(right) };
      response.writeHead(status, headers);
      response.end(body);
    };
  })();

const big = {
  name: 'big',
  dtype: 'U8',
  shape: [300_000],
  bytes: Uint8Array.from({ length: 300_000 }, (_, at) => at % 251),
} satisfies TensorToWrite;
const small: TensorToWrite = { name: 'small', dtype: 'F32', shape: [2], bytes: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) };
// `toEqual` takes seconds for arrays of this size.
const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const model = (): Promise<Uint8Array> => encodeSafetensors([big, small]);

describe('httpSource', () => {
  it('reads tensors by range, the header in one request', async () => {
    const bytes = await model();
    const { url, seen } = await serve(bent(bytes, () => ({})));
    const file = await openSafetensors(httpSource(`${url}/m.safetensors`, { headers: { authorization: 'Bearer t' } }));
    expect(seen).toEqual([{ path: '/m.safetensors', range: 'bytes=0-65535', token: 'Bearer t' }]);
    expect(await file.read('small')).toEqual(small.bytes);
    expect(seen.length).toBe(1);
    expect(same(await file.read('big'), big.bytes)).toBe(true);
    const { offset, byteLength } = file.entries.get('big') as { offset: number; byteLength: number };
    expect(seen[1]).toEqual({ path: '/m.safetensors', range: `bytes=${offset}-${offset + byteLength - 1}`, token: 'Bearer t' });
  });

  it('shares the first request among readers, and serves many ranges at once', async () => {
    const bytes = await model();
    const { url, seen } = await serve(bent(bytes, () => ({})));
    const source = httpSource(url);
    const ranges = Array.from({ length: 40 }, (_, at) => [at * 7000, 5000 + at] as const);
    const read = await Promise.all(ranges.map(([offset, length]) => source.read(offset, length)));
    for (const [at, [offset, length]] of ranges.entries()) {
      expect(same(read[at] as Uint8Array, bytes.subarray(offset, offset + length))).toBe(true);
    }
    expect(seen.filter(({ range }) => range === 'bytes=0-65535').length).toBe(1);
  });

  it('writes ranges into shared memory, many at once', async () => {
    const bytes = await model();
    const { url } = await serve(bent(bytes, () => ({})));
    const source = httpSource(url);
    const { buffer } = new WebAssembly.Memory({ initial: 5, maximum: 5, shared: true });
    const step = 70_001;
    const begins = Array.from({ length: Math.ceil(bytes.length / step) }, (_, at) => at * step);
    await Promise.all(begins.map((begin) => source.read(begin, Math.min(step, bytes.length - begin), new Uint8Array(buffer, begin))));
    expect(same(new Uint8Array(buffer, 0, bytes.length), bytes)).toBe(true);
    expect(new Uint8Array(buffer, bytes.length).every((byte) => byte === 0)).toBe(true);
  });

  it('reads an empty file and one byte', async () => {
    const empty = await serve(bent(new Uint8Array(0), () => ({})));
    expect(await httpSource(empty.url).size()).toBe(0);
    const single = await serve(bent(Uint8Array.of(9), () => ({})));
    expect(await httpSource(single.url).read(0, 1)).toEqual(Uint8Array.of(9));
    await refused(() => httpSource(single.url).read(0, 2), { code: 'out-of-range' });
  });

  it('uses the fetch that is given', async () => {
    const bytes = await model();
    const fetch = async (_: string, init: RequestInit): Promise<Response> => {
      const right = answer(bytes, { headers: init.headers } as unknown as IncomingMessage);
      return new Response(right.body as Uint8Array<ArrayBuffer>, {
        status: right.status,
        headers: right.headers as Record<string, string>,
      });
    };
    const file = await openSafetensors(httpSource('https://nowhere.invalid/m', { fetch }));
    expect(same(await file.read('big'), big.bytes)).toBe(true);
  });

  const atOpening: [string, (right: Answer) => Partial<Answer>, Parameters<typeof refused>[1]][] = [
    ['that ignores Range', () => ({ status: 200, headers: {} }), { code: 'http-range', message: /ignored the range/ }],
    [
      'that sends a web page',
      () => ({ status: 200, headers: { 'content-type': 'text/html; charset=utf-8' } }),
      { code: 'http-body', message: /web page/ },
    ],
    ['that says 404', () => ({ status: 404, headers: {} }), { code: 'http-status' }],
    ['that wants a token', () => ({ status: 401, headers: {} }), { code: 'http-status', message: /token/ }],
    ['that limits the rate', () => ({ status: 429, headers: {} }), { code: 'http-status', message: /later/ }],
    ['that breaks', () => ({ status: 500, headers: {} }), { code: 'http-status' }],
    [
      'that has no Content-Range',
      ({ headers: { 'content-range': _, ...headers } }) => ({ headers }),
      { code: 'http-range', message: /expose/ },
    ],
    [
      'with a malformed Content-Range',
      ({ headers }) => ({ headers: { ...headers, 'content-range': 'bytes 0-9/*' } }),
      { code: 'http-range' },
    ],
    [
      'with a range beyond its size',
      ({ headers }) => ({ headers: { ...headers, 'content-range': 'bytes 0-65535/100' } }),
      { code: 'http-range' },
    ],
    [
      'with a size over 2^53',
      ({ headers }) => ({ headers: { ...headers, 'content-range': 'bytes 0-65535/9999999999999999' } }),
      { code: 'http-range' },
    ],
    [
      'that starts elsewhere',
      ({ headers }) => ({ headers: { ...headers, 'content-range': 'bytes 1-65536/300400' } }),
      { code: 'http-range' },
    ],
    [
      'that compresses',
      ({ headers }) => ({ headers: { ...headers, 'content-encoding': 'gzip' } }),
      { code: 'http-range', message: /compressed/ },
    ],
  ];
  for (const [what, bend, expected] of atOpening) {
    it(`refuses a server ${what}`, async () => {
      const { url } = await serve(bent(await model(), bend, 0));
      const error = await refused(() => openSafetensors(httpSource(`${url}/m`)), { ...expected, file: `${url}/m` });
      if (expected.code === 'http-status') expect(error.status).toBeGreaterThanOrEqual(400);
    });
  }

  const atReading: [string, (right: Answer) => Partial<Answer>, Parameters<typeof refused>[1]][] = [
    [
      'another range',
      ({ headers }) => ({ headers: { ...headers, 'content-range': String(headers['content-range']).replace(/ \d+-/, ' 7-') } }),
      { code: 'http-range' },
    ],
    [
      'another total',
      ({ headers }) => ({ headers: { ...headers, 'content-range': String(headers['content-range']).replace(/\/\d+/, '/9999999') } }),
      { code: 'http-changed' },
    ],
    ['another ETag', ({ headers }) => ({ headers: { ...headers, etag: '"v2"' } }), { code: 'http-changed' }],
    ['the whole file', () => ({ status: 200, headers: {} }), { code: 'http-range' }],
    [
      'fewer bytes than promised',
      ({ headers: { 'content-length': _, ...headers }, body }) => ({ headers, body: body.subarray(1) }),
      { code: 'http-body' },
    ],
    [
      'more bytes than promised',
      ({ headers: { 'content-length': _, ...headers }, body }) => ({ headers, body: Uint8Array.from([...body, 0]) }),
      { code: 'http-body', message: /more than/ },
    ],
    [
      'a length that contradicts the range',
      ({ headers, body }) => ({ headers: { ...headers, 'content-length': body.length - 1 }, body: body.subarray(1) }),
      { code: 'http-body', message: /announces/ },
    ],
    ['an error', () => ({ status: 503, headers: {} }), { code: 'http-status' }],
  ];
  for (const [what, bend, expected] of atReading) {
    it(`refuses ${what} in the middle of a file`, async () => {
      const { url } = await serve(bent(await model(), bend));
      const file = await openSafetensors(httpSource(`${url}/m`));
      await refused(() => file.read('big'), { ...expected, file: `${url}/m` });
    });
  }

  it('reports a connection that is cut inside a range', async () => {
    const bytes = await model();
    let count = 0;
    const { url } = await serve((request, response) => {
      const { status, headers, body } = answer(bytes, request);
      response.writeHead(status, headers);
      if (count++ === 0) response.end(body);
      else response.write(body.subarray(0, 1000), () => setTimeout(() => response.destroy(), 20));
    });
    const file = await openSafetensors(httpSource(url));
    await refused(() => file.read('big'), { code: 'http-body', message: /of 300000 bytes/ });
  });

  it('reports a server that is not there, and tries again when asked again', async () => {
    await refused(() => httpSource('http://127.0.0.1:1/m').size(), { code: 'read-failed', message: /request failed/ });
    const bytes = await model();
    let count = 0;
    const { url } = await serve((request, response) => {
      const { status, headers, body } = answer(bytes, request);
      response.writeHead(count++ === 0 ? 503 : status, headers);
      response.end(body);
    });
    const source = httpSource(url);
    await refused(() => source.size(), { code: 'http-status' });
    expect(await source.size()).toBe(bytes.length);
  });

  it('stops when it is aborted, before and during a request', async () => {
    const bytes = await model();
    let count = 0;
    const { url, seen } = await serve((request, response) => {
      const { status, headers, body } = answer(bytes, request);
      response.writeHead(status, headers);
      if (count++ === 0) response.end(body);
      else response.write(body.subarray(0, 1000));
    });
    const controller = new AbortController();
    const file = await openSafetensors(httpSource(url, { signal: controller.signal }));
    const reading = refused(() => file.read('big'), { code: 'aborted' });
    setTimeout(() => controller.abort(), 30);
    await reading;
    const before = seen.length;
    await refused(() => file.read('big'), { code: 'aborted' });
    expect(seen.length).toBe(before);
  });

  it('refuses unknown options', async () => {
    await refused(async () => httpSource('http://x/', { header: {} } as object), { code: 'unknown-option', message: /"header"/ });
    await refused(async () => httpFiles('http://x/', { timeout: 1 } as object), { code: 'unknown-option', message: /"timeout"/ });
  });
});

describe('httpFiles', () => {
  it('opens a checkpoint below a URL, names encoded', async () => {
    const files: Record<string, Uint8Array> = {
      '/a%20b/model.safetensors': await model(),
      '/a%20b/config.json': new TextEncoder().encode('{"é":1}'),
    };
    const { url } = await serve((request, response) => {
      const bytes = files[request.url ?? ''];
      if (bytes === undefined) {
        response.writeHead(404);
        response.end('no');
        return;
      }
      const { status, headers, body } = answer(bytes, request);
      response.writeHead(status, headers);
      response.end(body);
    });
    const folder = httpFiles(`${url}/a%20b`);
    expect(await folder.has('config.json')).toBe(true);
    expect(await folder.has('tokenizer.json')).toBe(false);
    expect(await folder.readText('config.json')).toBe('{"é":1}');
    const checkpoint = await openCheckpoint(folder);
    expect(same(await checkpoint.read('big'), big.bytes)).toBe(true);
    await refused(() => folder.open('none.safetensors'), { code: 'missing-file', file: 'none.safetensors' });
    await refused(() => folder.readText('none.json'), { code: 'missing-file' });
    await refused(() => folder.readText('config.json', 3), { code: 'header-limit' });
    await refused(() => folder.readText('../secret'), { code: 'bad-file-name' });
  });

  it('does not take a web page for a file', async () => {
    const { url } = await serve((_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' });
      response.end('<!doctype html>');
    });
    const folder = httpFiles(url);
    expect(await folder.has('model.safetensors')).toBe(false);
    await refused(() => folder.readText('config.json'), { code: 'http-body', message: /web page/ });
    await refused(() => folder.open('model.safetensors'), { code: 'http-body' });
  });

  it('reports a folder that is closed to us', async () => {
    const { url } = await serve((_, response) => {
      response.writeHead(403);
      response.end();
    });
    await refused(() => openCheckpoint(httpFiles(url)), { code: 'http-status', message: /token/ });
  });
});
