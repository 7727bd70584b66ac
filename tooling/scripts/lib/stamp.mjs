import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readJson } from './process.mjs';
import { closureOf, listFiles, listPackages, ROOT } from './workspace.mjs';

/** What the last good install and build were made from. Inside node_modules, so that it goes when the install goes. */
export const STAMP_FILE = join(ROOT, 'node_modules', '.cache', 'unroll', 'stamp.json');

/**
 * An app that runs from the workspace.
 *
 * @typedef {object} App
 * @property {string} name of its package
 * @property {string} command what people type
 * @property {string} main the file that its build leaves and that runs
 * @property {boolean} bundlesSources its build takes the sources of the packages that it uses, so that they need no builds of their own
 */

/** @type {App} */
export const CLI = {
  name: '@unroll/cli',
  command: 'npm start',
  main: join(ROOT, 'apps', 'cli', 'dist', 'main.js'),
  bundlesSources: false,
};
/** @type {App} */
export const PLAYGROUND = {
  name: '@unroll/playground',
  command: 'npm run playground',
  main: join(ROOT, 'apps', 'playground', 'dist', 'index.html'),
  bundlesSources: true,
};

/** @type {App} */
export const VARIANT = {
  name: '@unroll/custom-variant',
  command: 'npm run variant',
  main: join(ROOT, 'apps', 'custom-variant', 'dist', 'main.js'),
  bundlesSources: false,
};
/** What commands of the root run. */
export const APPS = [CLI, PLAYGROUND, VARIANT];

/** @typedef {{ installs: Record<string, string>, builds: Record<string, string> }} Stamp installs by app, builds by package */

/** @returns {Stamp} an empty one when there is none or it cannot be read: then everything is made again */
export function readStamp() {
  const none = { installs: {}, builds: {} };
  if (!existsSync(STAMP_FILE)) return none;
  try {
    const { installs, builds } = readJson(STAMP_FILE);
    return { installs: { ...installs }, builds: { ...builds } };
  } catch {
    return none;
  }
}

/** @param {Stamp} stamp */
export function writeStamp(stamp) {
  mkdirSync(dirname(STAMP_FILE), { recursive: true });
  writeFileSync(STAMP_FILE, `${JSON.stringify(stamp, null, 2)}\n`);
}

/** @param {string[]} files @param {string} [salt] */
function digest(files, salt = '') {
  const hash = createHash('sha1').update(salt);
  for (const file of files) hash.update(`\0${file}\0`).update(readFileSync(file));
  return hash.digest('hex');
}

/** @param {import('./workspace.mjs').WorkspacePackage[]} closure */
export function installSignature(closure) {
  const files = [join(ROOT, 'pnpm-lock.yaml'), join(ROOT, 'pnpm-workspace.yaml'), ...closure.map((p) => join(p.folder, 'package.json'))];
  return digest(files, `${process.platform} ${process.arch} ${process.versions.modules}`);
}

const SOURCES = ['src', 'public', 'index.html', 'package.json', 'tsconfig.json', 'tsup.config.ts', 'vite.config.ts'];

/** @param {import('./workspace.mjs').WorkspacePackage[]} packages what one build takes in @returns {string} its result as built from these sources */
export function buildSignature(packages) {
  const own = packages.flatMap((pkg) => SOURCES.flatMap((name) => listFiles(join(pkg.folder, name))));
  return digest([...own, ...listFiles(join(ROOT, 'tooling', 'tsup')), join(ROOT, 'tsconfig.base.json')]);
}

/** @param {import('./workspace.mjs').WorkspacePackage} pkg the files that its build must have left */
export function builtFiles(pkg) {
  const { exports, bin } = pkg.manifest;
  const entries = Object.values(exports ?? {}).flatMap((conditions) =>
    typeof conditions === 'object' && conditions.default !== undefined ? [conditions.default] : [],
  );
  const programs = typeof bin === 'string' ? [bin] : Object.values(bin ?? {});
  return [...entries, ...programs].map((path) => join(pkg.folder, path));
}

/**
 * What an app's command still has to do: nothing when the last install and builds were made from these very files.
 *
 * @param {App} app
 * @returns {{ install: boolean, installSignature: string, builds: string[], signatures: Record<string, string> }}
 */
export function pendingWork(app) {
  const stamp = readStamp();
  const closure = closureOf(listPackages(), app.name, { dev: true });
  const install = installSignature(closure);
  const built = app.bundlesSources ? closure.filter((p) => p.name === app.name) : closure;
  const signatures = Object.fromEntries(built.map((p) => [p.name, buildSignature(app.bundlesSources ? closure : [p])]));
  const builds = built
    .filter((p) => stamp.builds[p.name] !== signatures[p.name] || builtFiles(p).some((path) => !existsSync(path)))
    .map((p) => p.name);
  if (!existsSync(app.main) && !builds.includes(app.name)) builds.push(app.name);
  return {
    install: stamp.installs[app.name] !== install || !existsSync(join(ROOT, 'node_modules', '.pnpm')),
    installSignature: install,
    builds,
    signatures,
  };
}
