import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readJson } from './process.mjs';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');

/**
 * @typedef {object} Manifest the fields of a package.json that the tooling reads
 * @property {string} name
 * @property {string} version
 * @property {boolean} [private]
 * @property {string} [license]
 * @property {boolean | string[]} [sideEffects]
 * @property {string[]} [files]
 * @property {string | Record<string, string>} [bin]
 * @property {Record<string, Record<string, string>>} [exports]
 * @property {{ access?: string, provenance?: boolean, exports?: Record<string, Record<string, string>> }} [publishConfig]
 * @property {Record<string, string>} [engines]
 * @property {Record<string, string>} [scripts]
 * @property {Record<string, string>} [dependencies]
 * @property {Record<string, string>} [peerDependencies]
 * @property {Record<string, string>} [optionalDependencies]
 * @property {Record<string, string>} [devDependencies]
 * @property {Record<string, { optional?: boolean }>} [peerDependenciesMeta]
 */

/** @typedef {{ name: string, folder: string, room: 'packages' | 'apps' | 'tooling', manifest: Manifest }} WorkspacePackage */

/**
 * Every package of the workspace below `root`, by name.
 *
 * @param {string} [root]
 * @returns {WorkspacePackage[]}
 */
export function listPackages(root = ROOT) {
  /** @type {WorkspacePackage[]} */
  const found = [];
  for (const room of /** @type {const} */ (['packages', 'apps', 'tooling'])) {
    if (!existsSync(join(root, room))) continue;
    for (const entry of readdirSync(join(root, room)).sort()) {
      const folder = join(root, room, entry);
      if (!existsSync(join(folder, 'package.json'))) continue;
      const manifest = /** @type {Manifest} */ (readJson(join(folder, 'package.json')));
      found.push({ name: manifest.name, folder, room, manifest });
    }
  }
  return found;
}

/** @param {string} [root] the packages that the registry gets */
export const listPublished = (root = ROOT) => listPackages(root).filter((p) => p.room !== 'tooling' && p.manifest.private !== true);

/**
 * `name` and all workspace packages that it needs, dependencies first.
 *
 * @param {WorkspacePackage[]} packages
 * @param {string} name
 * @param {{ dev?: boolean }} [options] dev: follow devDependencies as well
 * @returns {WorkspacePackage[]}
 */
export function closureOf(packages, name, options = {}) {
  const byName = new Map(packages.map((p) => [p.name, p]));
  /** @type {Set<WorkspacePackage>} */
  const done = new Set();
  /** @param {string} current @param {string[]} trail */
  const visit = (current, trail) => {
    const pkg = byName.get(current);
    if (pkg === undefined || done.has(pkg) || trail.includes(current)) return;
    const { dependencies, peerDependencies, optionalDependencies, devDependencies } = pkg.manifest;
    const next = { ...dependencies, ...peerDependencies, ...optionalDependencies, ...(options.dev ? devDependencies : {}) };
    for (const dependency of Object.keys(next)) visit(dependency, [...trail, current]);
    done.add(pkg);
  };
  visit(name, []);
  return [...done];
}

const SKIPPED_FOLDERS = new Set(['node_modules', 'dist', '.git', '.turbo', '.cache', 'out', 'coverage', 'fixtures', '__snapshots__']);

/**
 * Files below `folder`, sorted, as absolute paths; build outputs, installs and fixtures are left out.
 *
 * @param {string} folder
 * @param {(path: string) => boolean} [keep] by absolute path
 * @returns {string[]}
 */
export function listFiles(folder, keep = () => true) {
  if (!existsSync(folder)) return [];
  if (statSync(folder).isFile()) return keep(folder) ? [folder] : [];
  /** @type {string[]} */
  const files = [];
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) {
      if (!SKIPPED_FOLDERS.has(entry.name)) files.push(...listFiles(path, keep));
    } else if (entry.isFile() && keep(path)) files.push(path);
  }
  return files;
}

/** @param {string} path */
export const isGenerated = (path) => /\.generated\.[a-z]+$/.test(path) || path.split(sep).includes('generated');

/** @param {string} path @param {string} [root] as it is written in messages */
export const shown = (path, root = ROOT) => relative(root, path).split(sep).join('/');
