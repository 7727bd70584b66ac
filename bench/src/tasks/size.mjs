import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { packageFolder } from '../peers/index.mjs';

const PACKAGES = fileURLToPath(new URL('../../../packages/', import.meta.url));

function folderBytes(folder, skip = () => false) {
  let sum = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.name === 'node_modules' || skip(entry.name)) continue;
    sum += entry.isDirectory() ? folderBytes(path, skip) : statSync(path).size;
  }
  return sum;
}

/** Folders of packages and of everything installed that they depend on. */
function closure(names, seen = new Map()) {
  for (const name of names) {
    if (seen.has(name)) continue;
    let folder;
    try {
      folder = packageFolder(name);
    } catch {
      // An optional package of another platform.
      continue;
    }
    seen.set(name, folder);
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    closure([...Object.keys(dependencies), ...Object.keys(optionalDependencies)], seen);
  }
  return seen;
}

/** What a tarball of ours holds, and what it depends on beside others of ours. */
function ownInstall(names) {
  let bytes = 0;
  for (const name of names) {
    const folder = join(PACKAGES, name);
    bytes +=
      folderBytes(join(folder, 'dist')) +
      ['package.json', 'README.md', 'LICENSE'].reduce((sum, file) => sum + statSync(join(folder, file)).size, 0);
    const { dependencies = {} } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    for (const other of Object.keys(dependencies).filter((one) => !one.startsWith('@unroll/'))) {
      const path = join(folder, 'node_modules', other);
      if (existsSync(path)) bytes += folderBytes(path);
    }
  }
  return bytes;
}

/** Bytes that a page fetches: modules bundled, minified and gzipped, and files beside them gzipped. */
async function pageBytes({ code, files = [] }) {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: fileURLToPath(new URL('../', import.meta.url)) },
    bundle: true,
    minify: true,
    splitting: true,
    outdir: '.',
    write: false,
    format: 'esm',
    platform: 'browser',
    logLevel: 'silent',
    external: ['node:*', 'fs', 'path', 'os', 'crypto', 'worker_threads', 'perf_hooks', 'util', 'module'],
  });
  const gzip = (bytes) => gzipSync(bytes, { level: 9 }).length;
  const scripts = outputFiles.reduce((sum, { contents }) => sum + gzip(contents), 0);
  return scripts + files.reduce((sum, [name, file]) => sum + gzip(readFileSync(join(packageFolder(name), file))), 0);
}

/** Megabytes that installing takes on this platform, and kilobytes (gzip) that a page fetches. */
export async function run(_, { kind, own, install, page }) {
  const bytes = own === undefined ? [...closure(install).values()].reduce((sum, folder) => sum + folderBytes(folder), 0) : ownInstall(own);
  const rows = [{ what: 'installed', kind, unit: 'MB', value: bytes / 1e6 }];
  if (page !== undefined) rows.push({ what: 'fetched by a page, gzip', kind, unit: 'kB', value: (await pageBytes(page)) / 1e3 });
  return rows;
}
