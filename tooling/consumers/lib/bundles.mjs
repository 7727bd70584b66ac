import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { build as esbuild } from 'esbuild';
import { chromium } from 'playwright';
import { build as vite } from 'vite';
import webpack from 'webpack';
import { CHROMIUM_ARGS, ensureChromium } from '../../scripts/chromium.mjs';
import { headersOf, threadPages } from './threads.mjs';

/** @typedef {{ name: string, file: string }} Page name as shown, file from the consumer folder */

const PAGE_LIMIT_MS = 60_000;
const CONTENT_TYPES = /** @type {Record<string, string>} */ ({
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.wasm': 'application/wasm',
  '.json': 'application/json',
});

/**
 * The module of a page: loads the program and leaves its outcome where the driver looks for it.
 *
 * @param {string} specifier
 */
const pageModule = (specifier) =>
  `import(${JSON.stringify(specifier)}).then(() => { globalThis.outcome = 'done'; }, (error) => { globalThis.outcome = String(error?.stack ?? error); });\n`;

/**
 * Its files over HTTP, cross-origin isolated unless the path begins as ./threads.mjs says.
 *
 * @param {string} folder
 * @returns {Promise<{ origin: string, close: () => void }>}
 */
function serve(folder) {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname));
    try {
      const { headers, file } = headersOf(path);
      const body = readFileSync(join(folder, file));
      response.writeHead(200, { ...headers, 'Content-Type': CONTENT_TYPES[extname(file)] ?? 'application/octet-stream' }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      resolve({ origin: `http://127.0.0.1:${port}`, close: () => server.close() });
    });
  });
}

/** @param {string} consumer @param {Page[]} pages @returns {Promise<(page: Page) => string>} the address of a page, from the served folder */
async function bundleWithVite(consumer, pages) {
  /** @type {Record<string, string>} */
  const input = {};
  for (const { name, file } of pages) {
    const id = name.replace(/[^\w]+/g, '-');
    mkdirSync(join(consumer, 'pages'), { recursive: true });
    writeFileSync(join(consumer, 'pages', `${id}.entry.js`), pageModule(`../${file}`));
    writeFileSync(
      join(consumer, 'pages', `${id}.html`),
      `<!doctype html><title>${name}</title><script type="module" src="./${id}.entry.js"></script>\n`,
    );
    input[id] = join(consumer, 'pages', `${id}.html`);
  }
  await vite({
    root: consumer,
    base: '/vite/',
    configFile: false,
    logLevel: 'error',
    build: { outDir: 'out/vite', target: 'es2022', rollupOptions: { input } },
  });
  return ({ name }) => `/vite/pages/${name.replace(/[^\w]+/g, '-')}.html`;
}

/** @param {string} consumer @param {Page[]} pages @returns {Promise<(page: Page) => string>} */
async function bundleWithEsbuild(consumer, pages) {
  for (const { name, file } of pages) {
    const id = name.replace(/[^\w]+/g, '-');
    const contents = pageModule(`./${file}`);
    const outfile = join(consumer, 'out', 'esbuild', `${id}.js`);
    await esbuild({
      stdin: { contents, resolveDir: consumer },
      bundle: true,
      format: 'esm',
      target: 'es2022',
      outfile,
      logLevel: 'silent',
    });
    writeFileSync(
      join(consumer, 'out', 'esbuild', `${id}.html`),
      `<!doctype html><title>${name}</title><script type="module" src="./${id}.js"></script>\n`,
    );
  }
  return ({ name }) => `/esbuild/${name.replace(/[^\w]+/g, '-')}.html`;
}

/** @param {string} consumer @param {Page[]} pages @returns {Promise<(page: Page) => string>} */
async function bundleWithWebpack(consumer, pages) {
  /** @type {Record<string, string>} */
  const entry = {};
  mkdirSync(join(consumer, 'out', 'webpack'), { recursive: true });
  for (const { name, file } of pages) {
    const id = name.replace(/[^\w]+/g, '-');
    entry[id] = join(consumer, 'run', `${id}.webpack.js`);
    writeFileSync(entry[id], pageModule(join(consumer, file)));
    writeFileSync(
      join(consumer, 'out', 'webpack', `${id}.html`),
      `<!doctype html><title>${name}</title><script defer src="./${id}.js"></script>\n`,
    );
  }
  const output = { path: join(consumer, 'out', 'webpack'), publicPath: 'auto' };
  const compiler = webpack({ context: consumer, mode: 'production', target: ['web', 'es2022'], entry, output });
  await new Promise((resolve, reject) => {
    compiler.run((error, stats) => {
      if (error !== null) reject(error);
      else if (stats?.hasErrors()) reject(new Error(stats.toString('errors-only')));
      else compiler.close(resolve);
    });
  });
  return ({ name }) => `/webpack/${name.replace(/[^\w]+/g, '-')}.html`;
}

/**
 * @param {import('playwright').Browser} browser
 * @param {string} address
 * @param {boolean} mustPrint
 * @returns {Promise<string[]>} problems
 */
async function openPage(browser, address, mustPrint) {
  const page = await browser.newPage();
  /** @type {string[]} */
  const lines = [];
  /** @type {string[]} */
  const problems = [];
  page.on('console', (message) => {
    const { url } = message.location();
    // Chromium asks for an icon by itself.
    if (url.endsWith('favicon.ico')) return;
    if (message.type() === 'error') problems.push(`console error: ${message.text()} (${url})`);
    else lines.push(message.text());
  });
  page.on('pageerror', (error) => problems.push(`uncaught: ${error.message}`));
  try {
    await page.goto(address);
    // A page with a problem may never reach its end.
    for (const limit = Date.now() + PAGE_LIMIT_MS; ; await delay(20)) {
      const outcome = await page.evaluate(() => /** @type {{ outcome?: string }} */ (/** @type {unknown} */ (globalThis)).outcome);
      if (outcome !== undefined && outcome !== 'done') problems.push(outcome);
      if (outcome !== undefined || problems.length > 0) break;
      if (Date.now() > limit) throw new Error(`not finished after ${PAGE_LIMIT_MS / 1000} s`);
    }
    if (mustPrint && lines.length === 0) problems.push('it printed nothing');
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
  } finally {
    await page.close();
  }
  return problems;
}

/**
 * Bundles every page with Vite, esbuild and webpack and opens it in Chromium; the page of threads also under a strict content security policy.
 *
 * @param {import('./checks.mjs').Checks} checks
 * @param {string} consumer
 * @param {string[]} entries every one is loaded by one page
 * @param {import('./examples.mjs').Example[]} examples those that browsers can run
 */
export async function checkBundles(checks, consumer, entries, examples) {
  mkdirSync(join(consumer, 'run'), { recursive: true });
  const all = entries.map((entry, i) => `import * as entry${i} from '${entry}';`).join('\n');
  writeFileSync(
    join(consumer, 'run', 'entries.js'),
    `${all}\nconsole.log([${entries.map((_, i) => `entry${i}`).join(', ')}].map((entry) => Object.keys(entry).length).join(' '));\n`,
  );
  const threads = threadPages(consumer);
  const pages = [
    { name: 'every entry', file: 'run/entries.js' },
    threads.page,
    ...examples.map(({ name, script }) => ({ name, file: script })),
  ];
  const bundlers = [
    { label: 'Vite 7.3.8', bundle: bundleWithVite },
    { label: 'esbuild 0.27.7', bundle: bundleWithEsbuild },
    { label: 'webpack 5.112.2', bundle: bundleWithWebpack },
  ];
  const executablePath = await ensureChromium();
  const browser = await chromium.launch({ executablePath, args: CHROMIUM_ARGS });
  const server = await serve(join(consumer, 'out'));
  try {
    for (const { label, bundle } of bundlers) {
      /** @type {((page: Page) => string) | undefined} */
      let addressOf;
      await checks.run(`${label} bundles every entry and ${examples.length} examples`, async () => {
        addressOf = await bundle(consumer, pages);
      });
      for (const page of pages) {
        await checks.run(`${page.name} in Chromium, bundled by ${label}`, () => {
          if (addressOf === undefined) return ['there is no bundle'];
          return openPage(browser, server.origin + addressOf(page), true);
        });
      }
      for (const { name, prefix, query } of threads.variants) {
        await checks.run(`threads ${name} in Chromium, bundled by ${label}`, () => {
          if (addressOf === undefined) return ['there is no bundle'];
          return openPage(browser, `${server.origin}${prefix}${addressOf(threads.page)}${query}`, true);
        });
      }
    }
  } finally {
    server.close();
    await browser.close();
  }
}
