import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ADDER = fileURLToPath(new URL('../../../packages/pretrained/models/adder', import.meta.url));

export interface HubOptions {
  /** Cuts the connection after so many bytes of the weights, the first so many times. */
  readonly cutAfter?: number;
  readonly cuts?: number;
  /** A wrong SHA-256 for the weights. */
  readonly lie?: boolean;
  /** Milliseconds between pieces of the weights. */
  readonly slow?: number;
}

export interface Hub {
  readonly url: string;
  /** Byte from which each request for the weights asked. */
  readonly asked: number[];
  options: HubOptions;
  close(): Promise<void>;
}

const WEIGHTS = 'model.safetensors';
const PIECE = 32_768;

/** A hub on the loopback with one model, `owner/adder`: its listing with SHA-256, its files with ranges, and the troubles that are asked for. */
export async function startHub(initial: HubOptions = {}): Promise<Hub> {
  const files = new Map(readdirSync(ADDER).map((name) => [name, readFileSync(join(ADDER, name))]));
  const asked: number[] = [];
  const hub = { options: initial, asked };
  let cuts = 0;

  const list = (response: ServerResponse) => {
    const entries = [...files].map(([path, bytes]) => ({
      type: 'file',
      path,
      size: bytes.length,
      ...(path === WEIGHTS
        ? { lfs: { size: bytes.length, oid: hub.options.lie === true ? '0'.repeat(64) : createHash('sha256').update(bytes).digest('hex') } }
        : {}),
    }));
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(entries));
  };

  const send = async (name: string, bytes: Buffer, request: IncomingMessage, response: ServerResponse) => {
    const etag = `"${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}"`;
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const fits = request.headers['if-range'] === undefined || request.headers['if-range'] === etag;
    const start = fits ? from : 0;
    if (name === WEIGHTS) asked.push(start);
    response.writeHead(start > 0 ? 206 : 200, {
      ETag: etag,
      'Content-Length': bytes.length - start,
      'Content-Type': 'application/octet-stream',
      ...(start > 0 ? { 'Content-Range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` } : {}),
    });
    const { cutAfter, cuts: most = 1, slow } = hub.options;
    for (let at = start; at < bytes.length; at += PIECE) {
      if (name === WEIGHTS && cutAfter !== undefined && cuts < most && at - start >= cutAfter) {
        cuts++;
        response.destroy();
        return;
      }
      response.write(bytes.subarray(at, at + PIECE));
      if (name === WEIGHTS && (slow !== undefined || cutAfter !== undefined))
        await new Promise((resolve) => setTimeout(resolve, slow ?? 5));
    }
    response.end();
  };

  const server = createServer((request, response) => {
    response.setHeader('Access-Control-Allow-Origin', '*');
    response.setHeader('Access-Control-Expose-Headers', 'ETag, Content-Range');
    response.setHeader('Access-Control-Allow-Headers', '*');
    const { pathname } = new URL(request.url ?? '/', 'http://hub');
    if (request.method === 'OPTIONS') {
      response.writeHead(204).end();
      return;
    }
    if (pathname === '/api/models/owner/adder/tree/main') {
      list(response);
      return;
    }
    const name = pathname.replace(/^\/(owner\/adder\/resolve\/main|plain)\//, '');
    const bytes = files.get(name);
    if (bytes === undefined) response.writeHead(404).end('not here');
    else void send(name, bytes, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(hub, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  });
}
