import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, defineConfig, type Plugin } from 'vite';
import { ISOLATION_HEADERS } from '../../tooling/scripts/chromium.mjs';

const conditions = ['@unroll/source', 'module', 'browser', 'import', 'default'];

const NOTICES = 'third-party.txt';
/** Folders of the packages from elsewhere that end up in the app, the worker's included. */
const bundled = new Set<string>();

const packageOf = (module: string): string | undefined => /^(?!\0).*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(module)?.[0];

const collect = (): Plugin => ({
  name: 'unroll-collect-packages',
  generateBundle(_, bundle) {
    for (const part of Object.values(bundle)) {
      for (const module of part.type === 'chunk' ? part.moduleIds : []) {
        const folder = packageOf(module);
        if (folder !== undefined) bundled.add(folder);
      }
    }
  },
});

/** Puts the licences of everything from elsewhere beside the app. A package without one fails the build. */
const notices = (): Plugin => ({
  name: 'unroll-notices',
  apply: 'build',
  generateBundle: {
    order: 'post',
    handler() {
      const texts = [...bundled].map((folder) => {
        const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<string, string>;
        const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
        if (file === undefined) throw new Error(`${name} has no licence file; its terms must be shipped with the app`);
        return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
      });
      this.emitFile({ type: 'asset', fileName: NOTICES, source: texts.sort().join(`\n${'-'.repeat(78)}\n\n`) });
    },
  },
});

/** Builds the service worker once the names of all other files are known: its list of them is what works offline. */
function serviceWorker(): Plugin {
  return {
    name: 'unroll-service-worker',
    apply: 'build',
    async writeBundle(options, bundle) {
      const publicFiles = ['favicon.svg', 'manifest.webmanifest'];
      const files = [...Object.keys(bundle).filter((name) => name !== 'index.html' && !name.endsWith('.map')), ...publicFiles].sort();
      const contents = Object.values(bundle).map((part) => (part.type === 'asset' ? part.source : part.code));
      const version = createHash('sha256').update(files.join('\n'));
      for (const content of contents) version.update(content);
      await build({
        configFile: false,
        publicDir: false,
        logLevel: 'warn',
        define: { __FILES__: JSON.stringify(files), __VERSION__: JSON.stringify(version.digest('hex').slice(0, 16)) },
        build: {
          outDir: options.dir!,
          emptyOutDir: false,
          lib: { entry: fileURLToPath(new URL('src/sw/sw.ts', import.meta.url)), formats: ['es'], fileName: () => 'sw.js' },
        },
      });
    },
  };
}

export default defineConfig({
  // Relative, so that the built folder works below any path.
  base: './',
  resolve: { conditions },
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact' },
  worker: { format: 'es', plugins: () => [collect()] },
  build: { target: 'es2022', modulePreload: { polyfill: false }, chunkSizeWarningLimit: 4000 },
  server: { headers: ISOLATION_HEADERS },
  plugins: [collect(), notices(), serviceWorker()],
});
