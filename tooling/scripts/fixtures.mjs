import { createReadStream, existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../../../shared/fixtures', import.meta.url));
const route = '/shared-fixtures/';

/**
 * Serves the reference outputs that lie beside the repository (`../shared/fixtures`) to test pages, as /shared-fixtures/NAME/FILE. Where they
 * are missing every request is answered 404, and a notice says at the start that what needs them is not tested.
 *
 * @typedef {(request: import('node:http').IncomingMessage, response: import('node:http').ServerResponse, next: () => void) => unknown} Handler
 */
export function sharedFixtures() {
  return {
    name: 'shared-fixtures',
    /** @param {{ middlewares: { use(handler: Handler): unknown } }} server */
    configureServer(server) {
      if (!existsSync(folder))
        console.warn('NOTICE: there is no folder shared/fixtures beside the repository; parity in the browser is NOT tested in this run');
      server.middlewares.use((request, response, next) => {
        const { pathname } = new URL(request.url ?? '/', 'http://localhost');
        if (!pathname.startsWith(route)) return next();
        const parts = pathname.slice(route.length).split('/');
        const path = join(folder, ...parts);
        if (parts.length !== 2 || !parts.every((part) => /^[\w-]+(\.[\w-]+)*$/.test(part)) || !existsSync(path)) {
          response.statusCode = 404;
          return response.end();
        }
        response.setHeader('Content-Type', 'application/octet-stream');
        response.setHeader('Content-Length', statSync(path).size);
        createReadStream(path).pipe(response);
      });
    },
  };
}
