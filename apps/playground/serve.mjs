// Serves the built playground on this machine, with the headers under which browsers allow shared memory, and so threads.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const DIST = join(fileURLToPath(new URL('.', import.meta.url)), 'dist');

/** @type {Record<string, string>} */
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
  '.txt': 'text/plain; charset=utf-8',
  '.webmanifest': 'application/manifest+json',
  '.wasm': 'application/wasm',
};

export const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'X-Content-Type-Options': 'nosniff',
};

/**
 * @param {string} path of a URL
 * @param {string} root
 * @returns {string | undefined} the file that it means; none outside the folder
 */
function fileOf(path, root) {
  let name;
  try {
    name = normalize(decodeURIComponent(path));
  } catch {
    return undefined;
  }
  const file = join(root, name.endsWith('/') || name.endsWith(sep) ? `${name}index.html` : name);
  return file.startsWith(root + sep) && existsSync(file) && statSync(file).isFile() ? file : undefined;
}

/**
 * @param {{ port?: number, root?: string, isolated?: boolean }} [options] port 0 takes any free one
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export function servePlayground({ port = 0, root = DIST, isolated = true } = {}) {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://localhost');
    const file = request.method === 'GET' || request.method === 'HEAD' ? fileOf(pathname, root) : undefined;
    const headers = isolated ? HEADERS : { 'X-Content-Type-Options': 'nosniff' };
    if (file === undefined) {
      response.writeHead(404, { ...headers, 'Content-Type': 'text/plain' }).end('There is no such file.\n');
      return;
    }
    // The names of assets hold a hash of their content; everything else may change with the next build.
    const lasting = /[\\/]assets[\\/]/.test(file);
    response.writeHead(200, {
      ...headers,
      'Content-Type': TYPES[extname(file)] ?? 'application/octet-stream',
      'Content-Length': statSync(file).size,
      'Cache-Control': lasting ? 'public, max-age=31536000, immutable' : 'no-cache',
    });
    if (request.method === 'HEAD') response.end();
    else createReadStream(file).pipe(response);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => {
      const address = /** @type {import('node:net').AddressInfo} */ (server.address());
      resolve({
        url: `http://127.0.0.1:${address.port}/`,
        close: () =>
          new Promise((done) => {
            server.closeAllConnections();
            server.close(() => done());
          }),
      });
    });
  });
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const given = process.argv.slice(2);
  const port = given.length === 0 ? 4173 : given[0] === '--port' && given.length === 2 ? Number(given[1]) : Number.NaN;
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    console.error('npm run playground takes --port NUMBER, such as "npm run playground -- --port 8080", and nothing else');
    process.exit(2);
  }
  try {
    const { url } = await servePlayground({ port });
    console.log(`The playground is at ${url} (Ctrl-C ends it).`);
  } catch (error) {
    const taken = /** @type {NodeJS.ErrnoException} */ (error).code === 'EADDRINUSE';
    console.error(taken ? `Port ${port} is taken; choose another: npm run playground -- --port 0` : String(error));
    process.exit(1);
  }
}
