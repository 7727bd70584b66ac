import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type CheckpointError, type FileSet, hubFiles } from '../src/index.js';
import { type DownloadOptions, type DownloadProgress, downloadFromHub, hubCacheFolder } from '../src/node.js';
import { transpileSources } from './support/transpile.js';

// Waits between tries and a child process, on a machine that may be busy.
vi.setConfig({ testTimeout: 30_000 });

const COMMIT = 'a'.repeat(40);
const REPO = 'org/model';
const big = new Uint8Array(300_000).map((_, i) => (i * 7919) >> 3);
const config = new TextEncoder().encode('{"n_embd": 8}');
const contents: Record<string, Uint8Array> = { 'config.json': config, 'model.safetensors': big };
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const gitBlob = (bytes: Uint8Array) => createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

type Answer = (request: IncomingMessage, response: ServerResponse) => boolean | undefined;

const answered = (_: unknown): true => true;

interface Server {
  readonly url: string;
  readonly seen: { method: string; url: string; token: string | undefined; range: string | undefined }[];
  close(): Promise<void>;
}

async function serve(answer: Answer): Promise<Server> {
  const seen: Server['seen'] = [];
  const server = createServer((request, response) => {
    const { authorization, range } = request.headers;
    seen.push({ method: request.method!, url: request.url!, token: authorization, range });
    if (answer(request, response) === true) return;
    response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function sendRange(request: IncomingMessage, response: ServerResponse, bytes: Uint8Array, headers: Record<string, string> = {}): true {
  const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  if (match === null) {
    response.writeHead(200, { 'content-length': String(bytes.length), ...headers });
    response.end(request.method === 'HEAD' ? undefined : bytes);
    return true;
  }
  const [first, last] = [Number(match[1]), Math.min(Number(match[2]), bytes.length - 1)];
  response.writeHead(206, {
    'content-range': `bytes ${first}-${last}/${bytes.length}`,
    'content-length': String(last - first + 1),
    ...headers,
  });
  response.end(bytes.subarray(first, last + 1));
  return true;
}

/** The paths of a hub: the listing, small files by themselves, the large one by a redirect to where its bytes are. */
function hub(storage: () => string, parts: { readonly bytes?: Answer; readonly before?: Answer } = {}): Answer {
  return (request, response) => {
    const url = request.url!;
    if (parts.before?.(request, response) === true) return true;
    if (url === `/api/models/${REPO}/revision/main`) {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(
        JSON.stringify({ sha: COMMIT, siblings: ['.gitattributes', ...Object.keys(contents)].map((rfilename) => ({ rfilename })) }),
      );
      return true;
    }
    if (url === `/${REPO}/resolve/${COMMIT}/config.json`) return sendRange(request, response, config, { etag: `"${gitBlob(config)}"` });
    if (url === `/${REPO}/resolve/${COMMIT}/model.safetensors`) {
      response.writeHead(302, {
        location: `${storage()}/storage/abc?sign=1`,
        'x-linked-etag': `"${sha256(big)}"`,
        'x-linked-size': String(big.length),
      });
      response.end();
      return true;
    }
    if (url.startsWith('/storage/abc')) return parts.bytes?.(request, response) ?? sendRange(request, response, big);
    return false;
  };
}

let cache: string;
const open: Server[] = [];
beforeEach(async () => {
  cache = await mkdtemp(join(tmpdir(), 'hub-'));
});
afterEach(async () => {
  for (const server of open.splice(0)) await server.close();
  await rm(cache, { recursive: true, force: true });
});
async function start(parts: Parameters<typeof hub>[1] = {}): Promise<Server> {
  const server: Server = await serve(hub(() => server.url, parts));
  open.push(server);
  return server;
}
const download = (server: { url: string }, more: Partial<DownloadOptions> = {}) =>
  downloadFromHub({ repo: REPO, endpoint: server.url, cache, partBytes: 50_000, stallMs: 2000, ...more });
const folder = () => join(cache, 'models--org--model');
const caught = (promise: Promise<unknown>): Promise<CheckpointError> =>
  promise.then(
    () => expect.fail('must throw'),
    (error) => error,
  );

async function whole(files: FileSet): Promise<Uint8Array> {
  const source = await files.open('model.safetensors');
  const bytes = await source.read(0, await source.size());
  await source.close?.();
  return bytes;
}

describe('a cache without a connection', () => {
  const nowhere = { url: 'http://127.0.0.1:9' };
  const snapshot = () => join(folder(), 'snapshots', COMMIT);
  const put = async (files: Record<string, string>) => {
    await mkdir(snapshot(), { recursive: true });
    await mkdir(join(folder(), 'refs'), { recursive: true });
    // Tools of the hub write this before they download.
    await writeFile(join(folder(), 'refs', 'main'), COMMIT);
    for (const [file, text] of Object.entries(files)) await writeFile(join(snapshot(), file), text);
  };
  const index = JSON.stringify({ metadata: {}, weight_map: { a: 'one.safetensors', b: 'two.safetensors' } });

  it('is not taken for whole where a file of the weights is missing, and the message names it', async () => {
    await put({ 'config.json': '{}' });
    expect(await caught(download(nowhere))).toMatchObject({ code: 'read-failed', file: 'model.safetensors' });
    await put({ 'model.safetensors.index.json': index, 'one.safetensors': 'x' });
    const error = await caught(download(nowhere));
    expect(error).toMatchObject({ code: 'read-failed', file: 'two.safetensors' });
    expect(error.message).toMatch(/The snapshot in the cache, "[^"]+", is not whole: "two.safetensors" is not there\.$/);
    // What a download that was stopped leaves: a link to bytes that are not all there yet.
    await symlink(join('..', '..', 'blobs', 'abc'), join(snapshot(), 'two.safetensors'));
    expect(await caught(download(nowhere, { revision: COMMIT }))).toMatchObject({ file: 'two.safetensors' });
  });

  it('is taken where all of them are there, under whatever names', async () => {
    await put({ 'config.json': '{}', 'model.safetensors.index.json': index, 'one.safetensors': 'x', 'two.safetensors': 'y' });
    expect((await download(nowhere)).name).toBe(snapshot());
    await rm(snapshot(), { recursive: true });
    await put({ 'config.json': '{}', 'model-bf16.safetensors': 'x' });
    expect((await download(nowhere)).name).toBe(snapshot());
  });
});

describe('downloadFromHub', () => {
  it("fills the hub's own cache layout, and finds there what has been downloaded", async () => {
    const server = await start();
    const progress: DownloadProgress[] = [];
    const files = await download(server, { onProgress: (now) => progress.push(now) });
    expect(await files.readText('config.json')).toBe('{"n_embd": 8}');
    expect(await whole(files)).toEqual(big);
    expect((await readdir(join(folder(), 'blobs'))).sort()).toEqual([gitBlob(config), sha256(big)].sort());
    expect(await readFile(join(folder(), 'refs', 'main'), 'utf8')).toBe(COMMIT);
    expect(await readlink(join(folder(), 'snapshots', COMMIT, 'model.safetensors'))).toBe(join('..', '..', 'blobs', sha256(big)));
    expect(progress.at(-1)).toMatchObject({
      loadedBytes: big.length + config.length,
      totalBytes: big.length + config.length,
      secondsLeft: 0,
    });
    const before = server.seen.length;
    await download(server);
    expect(server.seen.slice(before).map(({ url }) => url)).toEqual([`/api/models/${REPO}/revision/main`]);
    await server.close();
    open.length = 0;
    expect(await (await download(server)).readText('config.json')).toBe('{"n_embd": 8}');
  });

  it('asks for parts at once, each once', async () => {
    const server = await start();
    await download(server);
    const ranges = server.seen.filter(({ url, method }) => url.startsWith('/storage') && method === 'GET').map(({ range }) => range);
    expect(ranges.sort()).toEqual([0, 1, 2, 3, 4, 5].map((i) => `bytes=${i * 50_000}-${(i + 1) * 50_000 - 1}`).sort());
  });

  it('sends the token to the endpoint alone, not to another host that it redirects to', async () => {
    const storage = await start();
    const server: Server = await serve(hub(() => storage.url));
    open.push(server);
    await download(server, { token: 'secret' });
    expect(server.seen.every(({ token }) => token === 'Bearer secret')).toBe(true);
    expect(storage.seen.length).toBeGreaterThan(0);
    expect(storage.seen.every(({ token }) => token === undefined)).toBe(true);
  });

  it.each([
    ['cuts', (response: ServerResponse) => void response.socket!.destroy()],
    ['stalls', () => undefined],
    [
      'breaks off in the middle',
      (response: ServerResponse, bytes: Uint8Array) => {
        response.writeHead(206, { 'content-range': `bytes 0-49999/${big.length}`, 'content-length': '50000' });
        response.write(bytes.subarray(0, 20_000), () => response.socket!.destroy());
      },
    ],
    [
      'lies about the length',
      (response: ServerResponse, bytes: Uint8Array) => {
        response.writeHead(206, { 'content-range': `bytes 0-49999/${big.length}`, 'content-length': '40000' });
        response.end(bytes.subarray(0, 40_000));
      },
    ],
    ['limits the rate', (response: ServerResponse) => void response.writeHead(429, { 'retry-after': '0' }).end()],
    ['is out of order', (response: ServerResponse) => void response.writeHead(503).end()],
  ])('tries a part again where the server %s', async (_, fail) => {
    let failures = 0;
    const server = await start({
      bytes: (request, response) => {
        if (request.headers.range !== 'bytes=0-49999' || failures++ > 0) return undefined;
        fail(response, big);
        return true;
      },
    });
    const progress: DownloadProgress[] = [];
    const files = await download(server, { stallMs: 300, onProgress: (now) => progress.push(now) });
    expect(failures).toBe(2);
    expect(await whole(files)).toEqual(big);
    expect(progress.at(-1)!.loadedBytes).toBe(big.length + config.length);
  });

  it.each([
    ['gated', 'gated', /accept its terms on .* and give a token \(HF_TOKEN\)/, 401, {}],
    ['gated', 'gated', /access is restricted/, 403, {}],
    ['missing', 'missing-file', /no such repository/, 404, {}],
    ['of a missing revision', 'missing-file', /no revision "main"/, 404, { 'x-error-code': 'RevisionNotFound' }],
  ] as const)('says that a repository is %s', async (_, code, message, status, headers) => {
    const server = await start({ before: (_request, response) => answered(response.writeHead(status, headers).end()) });
    const error = await caught(download(server));
    expect(error).toMatchObject({ code, status });
    expect(error.message).toMatch(message);
  });

  it('follows a repository that has moved', async () => {
    const server = await start({
      before: (request, response) => {
        if (!request.url!.includes('old/name')) return undefined;
        response.writeHead(307, { location: request.url!.replace('old/name', REPO) }).end();
        return true;
      },
    });
    const files = await download(server, { repo: 'old/name' });
    expect(await files.readText('config.json')).toBe('{"n_embd": 8}');
  });

  it.each([
    ['a web page', 'http-body', (response: ServerResponse) => void response.writeHead(200, { 'content-type': 'text/html' }).end('<html>')],
    [
      'another range',
      'http-range',
      (response: ServerResponse) =>
        void response
          .writeHead(206, { 'content-range': `bytes 1-50000/${big.length}`, 'content-length': '50000' })
          .end(big.subarray(1, 50_001)),
    ],
    ['the whole file', 'http-range', (response: ServerResponse) => void response.writeHead(200).end(big)],
  ])('refuses %s for a range, and leaves nothing that could be taken for the file', async (_, code, send) => {
    const server = await start({ bytes: (_request, response) => answered(send(response)) });
    expect(await caught(download(server))).toMatchObject({ code });
    expect((await readdir(join(folder(), 'blobs'))).filter((name) => name.startsWith(sha256(big)) && !name.includes('incomplete'))).toEqual(
      [],
    );
    expect(await stat(join(folder(), 'snapshots', COMMIT, 'model.safetensors')).catch(() => 'none')).toBe('none');
  });

  it('gives up after as many tries as were allowed, with the last reason', async () => {
    const server = await start({ bytes: (_request, response) => answered(response.writeHead(429, { 'retry-after': '0' }).end()) });
    const error = await caught(download(server, { tries: 3, connections: 1 }));
    expect(error).toMatchObject({ code: 'http-status', status: 429 });
    expect(error.message).toMatch(/limits the rate/);
    expect(server.seen.filter(({ url }) => url.startsWith('/storage')).length).toBe(3);
  });

  it('throws bytes of a wrong hash away', async () => {
    const wrong = big.slice();
    wrong[123] = wrong[123]! ^ 1;
    let lie = true;
    const server = await start({ bytes: (request, response) => (lie ? sendRange(request, response, wrong) : undefined) });
    expect(await caught(download(server))).toMatchObject({ code: 'wrong-hash', file: 'model.safetensors' });
    expect((await readdir(join(folder(), 'blobs'))).filter((name) => name.startsWith(sha256(big)))).toEqual([]);
    lie = false;
    expect(await whole(await download(server))).toEqual(big);
  });

  it('goes on after an abort with the parts that are missing', async () => {
    const stop = new AbortController();
    const server = await start();
    const error = await caught(
      download(server, { connections: 1, signal: stop.signal, onProgress: ({ loadedBytes }) => loadedBytes > 150_000 && stop.abort() }),
    );
    expect(error.code).toBe('aborted');
    const before = server.seen.length;
    await download(server);
    const again = server.seen.slice(before).filter(({ url, method }) => url.startsWith('/storage') && method === 'GET').length;
    expect(again).toBeGreaterThan(0);
    expect(again).toBeLessThan(6);
  });

  it('refuses names that lead out of the cache, and ids and revisions of another form', async () => {
    for (const wrong of [{ repo: '../x' }, { repo: 'a' }, { revision: '../../x' }]) {
      expect(await caught(download({ url: 'http://127.0.0.1:1' }, wrong))).toMatchObject({ code: 'bad-argument' });
    }
    const server = await start({
      before: (request, response) => {
        if (!request.url!.startsWith('/api')) return undefined;
        response.end(JSON.stringify({ sha: COMMIT, siblings: [{ rfilename: '../../evil.safetensors' }] }));
        return true;
      },
    });
    expect(await caught(download(server, { wanted: () => true }))).toMatchObject({ code: 'bad-file-name' });
  });

  it('says that the disk is full', async () => {
    const server = await start();
    // /dev/full takes no byte: the way to a full disk without filling one.
    await mkdir(join(folder(), 'blobs'), { recursive: true });
    await symlink('/dev/full', join(folder(), 'blobs', `${sha256(big)}.incomplete`));
    const error = await caught(download(server));
    expect(error).toMatchObject({ code: 'disk-full' });
    expect(error.message).toMatch(/the disk is full; free some room and start again/);
  });
});

describe('where the cache is', () => {
  it("is said by the hub's own variables", () => {
    expect(hubCacheFolder({ HF_HUB_CACHE: '/a', HF_HOME: '/b' })).toBe('/a');
    expect(hubCacheFolder({ HF_HOME: '/b', XDG_CACHE_HOME: '/c' })).toBe(join('/b', 'hub'));
    expect(hubCacheFolder({ XDG_CACHE_HOME: '/c' })).toBe(join('/c', 'huggingface', 'hub'));
    expect(hubCacheFolder({})).toMatch(/[\\/]\.cache[\\/]huggingface[\\/]hub$/);
  });
});

describe('hubFiles', () => {
  it('reads ranges without keeping them', async () => {
    const server = await serve((request, response) =>
      request.url === `/${REPO}/resolve/main/model.safetensors` ? sendRange(request, response, big, { etag: '"x"' }) : undefined,
    );
    open.push(server);
    const files = hubFiles({ repo: REPO, endpoint: server.url, token: 'secret' });
    expect(await (await files.open('model.safetensors')).read(200_000, 1000)).toEqual(big.slice(200_000, 201_000));
    expect(server.seen.every(({ token }) => token === 'Bearer secret')).toBe(true);
    expect(await files.has('config.json')).toBe(false);
  });
});

describe('a killed download', () => {
  it('goes on where it was, and is never taken for whole', async () => {
    // Serves two parts and then no more, so that the kill comes in the middle.
    let slow = true;
    let served = 0;
    const server = await start({
      bytes: (request, response) => {
        if (slow && served++ >= 2) return true;
        return sendRange(request, response, big);
      },
    });
    const modules = await transpileSources(join(cache, 'modules'));
    const script = `import { downloadFromHub } from ${JSON.stringify(pathToFileURL(join(modules, 'node.js')).href)};
await downloadFromHub({ repo: '${REPO}', endpoint: '${server.url}', cache: ${JSON.stringify(cache)}, partBytes: 50000, connections: 1 });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'inherit', 'inherit'] });
    const journal = join(folder(), 'blobs', `${sha256(big)}.incomplete.parts`);
    const parts = async () => (await readFile(journal, 'utf8').catch(() => '')).split('\n').length - 2;
    for (let i = 0; i < 200 && (await parts()) < 2; i++) await new Promise((resolve) => setTimeout(resolve, 50));
    expect(await parts()).toBe(2);
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    expect(await stat(join(folder(), 'snapshots', COMMIT, 'model.safetensors')).catch(() => 'none')).toBe('none');
    slow = false;
    const before = server.seen.length;
    const files = await download(server);
    expect(server.seen.slice(before).filter(({ url, method }) => url.startsWith('/storage') && method === 'GET').length).toBe(4);
    expect(await whole(files)).toEqual(big);
  });
});
