import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { build, defineConfig, type Plugin } from 'vite';
import { ISOLATION_HEADERS } from '../../tooling/scripts/chromium.mjs';

const conditions = ['@unroll/source', 'module', 'browser', 'import', 'default'];

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
  worker: { format: 'es' },
  build: { target: 'es2022', modulePreload: { polyfill: false }, chunkSizeWarningLimit: 4000 },
  server: { headers: ISOLATION_HEADERS },
  plugins: [serviceWorker()],
});
