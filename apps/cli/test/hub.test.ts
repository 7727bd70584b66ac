import { createHash } from 'node:crypto';
import { readdir, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { adderFolder, temporaryFolder, unroll } from './support.js';

// --model ORGANISATION/NAME against a server on this machine that has the paths of the hub.

const COMMIT = 'c'.repeat(40);
const FILES = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json', 'model.safetensors'];
let folder: string;
let server: Server;
let endpoint: string;
let requests: { url: string; token: string | undefined }[] = [];
const caches: string[] = [];

beforeAll(async () => {
  folder = await adderFolder();
  server = createServer(async (request, response) => {
    const { authorization, range } = request.headers;
    const url = request.url!;
    requests.push({ url, token: authorization });
    if (url.includes('/secret')) {
      response.writeHead(authorization === 'Bearer right' ? 404 : 401, { 'x-error-code': 'GatedRepo' }).end();
      return;
    }
    if (/^\/api\/models\/org\/adder\/revision\/(main|v2)$/.test(url)) {
      response.end(JSON.stringify({ sha: COMMIT, siblings: FILES.map((rfilename) => ({ rfilename })) }));
      return;
    }
    const file = FILES.find((name) => new RegExp(`^/org/adder/resolve/(main|v2|${COMMIT})/${name}$`).test(url));
    if (file === undefined) {
      response.writeHead(404, { 'x-error-code': url.includes('/org/adder') ? 'RevisionNotFound' : 'RepoNotFound' }).end();
      return;
    }
    const bytes = await readFile(join(folder, file));
    const etag = `"${createHash('sha256').update(bytes).digest('hex')}"`;
    const asked = /^bytes=(\d+)-(\d+)$/.exec(range ?? '');
    const [first, last] = asked === null ? [0, bytes.length - 1] : [Number(asked[1]), Math.min(Number(asked[2]), bytes.length - 1)];
    response.writeHead(asked === null ? 200 : 206, {
      etag,
      'content-length': String(last - first + 1),
      ...(asked === null ? {} : { 'content-range': `bytes ${first}-${last}/${bytes.length}` }),
    });
    response.end(request.method === 'HEAD' ? undefined : bytes.subarray(first, last + 1));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  for (const path of [folder, ...caches]) await rm(path, { recursive: true, force: true });
});
afterEach(() => {
  requests = [];
});

const freshCache = () => {
  const cache = temporaryFolder();
  caches.push(cache);
  return cache;
};
const run = (argv: string[], cache: string, more: Record<string, string> = {}) =>
  unroll(argv, { env: { HF_ENDPOINT: endpoint, HF_HUB_CACHE: cache, ...more } });
const ask = ['generate', '731+94=', '--init-scale', '0', '--model', 'org/adder'];

describe('a model on the hub', () => {
  it('is downloaded once, and runs from the cache without the hub', async () => {
    const cache = freshCache();
    expect(await run(ask, cache, { HF_TOKEN: 'right' })).toEqual({ code: 0, out: '825\n', err: '' });
    expect(requests.every(({ token }) => token === 'Bearer right')).toBe(true);
    expect((await readdir(join(cache, 'models--org--adder', 'snapshots', COMMIT))).sort()).toEqual([...FILES].sort());
    requests = [];
    expect((await run(ask, cache)).out).toBe('825\n');
    expect(requests.map(({ url }) => url)).toEqual(['/api/models/org/adder/revision/main']);
    expect(await run(ask, cache, { HF_ENDPOINT: 'http://127.0.0.1:9' })).toEqual({ code: 0, out: '825\n', err: '' });
  });

  it('is taken at a revision, and inspected and estimated by its name', async () => {
    const cache = freshCache();
    expect((await run([...ask, '--revision', 'v2'], cache)).out).toBe('825\n');
    expect(await readFile(join(cache, 'models--org--adder', 'refs', 'v2'), 'utf8')).toBe(COMMIT);
    expect((await run(['inspect', '--model', 'org/adder'], cache)).out).toMatch(/^org\/adder\n/);
    const empty = freshCache();
    const { code, out, err } = await run(['estimate', '--model', 'org/adder', '--no-calibration', '--json'], empty);
    expect([code, err]).toEqual([0, '']);
    expect(JSON.parse(out)).toMatchObject({ model: 'org/adder', byDepth: [{ parameters: 211520 }, {}, {}, {}, {}] });
    // Read by ranges, kept nowhere.
    expect(await readdir(empty)).toEqual([]);
  });

  it('says what is wrong: no such repository, no such revision, gated, no connection', async () => {
    const cache = freshCache();
    const failure = async (argv: string[], env: Record<string, string> = {}) => {
      const { code, out, err } = await run(argv, cache, env);
      expect([code, out]).toEqual([1, '']);
      return err;
    };
    expect(await failure(['generate', 'x', '--model', 'org/none'])).toMatch(
      /org\/none@main.*there is no such repository, revision or file on http/,
    );
    expect(await failure([...ask, '--revision', 'v3'])).toMatch(/there is no revision "v3"/);
    expect(await failure(['generate', 'x', '--model', 'org/secret'])).toMatch(
      /access is restricted; accept its terms on .* and give a token \(HF_TOKEN\)/,
    );
    expect(await failure(ask, { HF_ENDPOINT: 'http://127.0.0.1:9' })).toMatch(/the request failed/);
  });
});
