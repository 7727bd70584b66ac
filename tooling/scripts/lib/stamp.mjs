import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readJson } from './process.mjs';
import { closureOf, listFiles, listPackages, ROOT } from './workspace.mjs';

/** What the last good install and build were made from. Inside node_modules, so that it goes when the install goes. */
export const STAMP_FILE = join(ROOT, 'node_modules', '.cache', 'unroll', 'stamp.json');

export const CLI = '@unroll/cli';
export const CLI_MAIN = join(ROOT, 'apps', 'cli', 'dist', 'main.js');

/** @typedef {{ install?: string, builds: Record<string, string> }} Stamp */

/** @returns {Stamp} an empty one when there is none or it cannot be read: then everything is made again */
export function readStamp() {
  if (!existsSync(STAMP_FILE)) return { builds: {} };
  try {
    const stamp = readJson(STAMP_FILE);
    return typeof stamp?.builds === 'object' && stamp.builds !== null ? stamp : { builds: {} };
  } catch {
    return { builds: {} };
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

/** @param {import('./workspace.mjs').WorkspacePackage} pkg its code as built from these sources */
export function buildSignature(pkg) {
  const own = ['src', 'package.json', 'tsconfig.json', 'tsup.config.ts'].flatMap((name) => listFiles(join(pkg.folder, name)));
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
 * What `npm start` still has to do: nothing when the last install and builds were made from these very files.
 *
 * @returns {{ install: boolean, installSignature: string, builds: string[], signatures: Record<string, string> }}
 */
export function pendingWork() {
  const stamp = readStamp();
  const packages = listPackages();
  const closure = closureOf(packages, CLI, { dev: true });
  const install = installSignature(closure);
  const signatures = Object.fromEntries(closure.map((p) => [p.name, buildSignature(p)]));
  const builds = closure
    .filter((p) => stamp.builds[p.name] !== signatures[p.name] || builtFiles(p).some((path) => !existsSync(path)))
    .map((p) => p.name);
  return {
    install: stamp.install !== install || !existsSync(join(ROOT, 'node_modules', '.pnpm')),
    installSignature: install,
    builds,
    signatures,
  };
}
