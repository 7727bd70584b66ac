import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { npm, pnpm, readJson, runQuiet } from '../../scripts/lib/process.mjs';
import { ROOT } from '../../scripts/lib/workspace.mjs';

/** @typedef {import('../../scripts/lib/workspace.mjs').Manifest} Manifest */
/** @typedef {import('../../scripts/lib/workspace.mjs').WorkspacePackage} WorkspacePackage */

/**
 * @typedef {object} Packed
 * @property {string} name
 * @property {WorkspacePackage} source
 * @property {string} tarball absolute path
 * @property {string} folder where it is unpacked
 * @property {Manifest} manifest as the registry would get it
 */

/** @param {{ code: number, all: string }} result @param {string} what */
export function expectSuccess(result, what) {
  if (result.code !== 0) throw new Error(`${what} ended with code ${result.code}:\n${result.all}`);
}

/** @param {string} folder @param {object} manifest */
export function writeManifest(folder, manifest) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify({ private: true, type: 'module', ...manifest }, null, 2)}\n`);
}

/**
 * Installs with npm as a stranger would: outside the workspace, from tarballs and the registry, without running anybody's scripts.
 *
 * @param {string} folder has a package.json
 * @param {string[]} wanted tarballs and NAME@VERSION
 */
export async function npmInstall(folder, wanted) {
  const args = [
    'install',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--no-package-lock',
    '--prefer-offline',
    '--loglevel=error',
    ...wanted,
  ];
  expectSuccess(await runQuiet(npm(args), { cwd: folder, timeoutMs: 300_000 }), `npm install in ${folder}`);
}

/**
 * @param {WorkspacePackage} source
 * @param {string} folder for the tarball and its content
 * @returns {Promise<Packed>}
 */
export async function pack(source, folder) {
  const file = source.name.replace('@', '').replace('/', '-');
  const tarball = join(folder, `${file}.tgz`);
  expectSuccess(await runQuiet(pnpm(['pack', '--out', tarball]), { cwd: source.folder }), `pnpm pack of ${source.name}`);
  const unpacked = join(folder, file);
  mkdirSync(unpacked, { recursive: true });
  // tar is part of Windows as well since 2018 (untested there).
  expectSuccess(await runQuiet(['tar', ['-xzf', tarball, '-C', unpacked]]), `tar of ${tarball}`);
  const inner = join(unpacked, 'package');
  return { name: source.name, source, tarball, folder: inner, manifest: /** @type {Manifest} */ (readJson(join(inner, 'package.json'))) };
}

/** @param {string} folder @param {string} [prefix] @returns {string[]} every file of a tarball, nothing left out */
function allFiles(folder, prefix = '') {
  return readdirSync(join(folder, prefix), { withFileTypes: true }).flatMap((entry) => {
    const path = prefix === '' ? entry.name : `${prefix}/${entry.name}`;
    return entry.isDirectory() ? allFiles(folder, path) : [path];
  });
}

/** @param {Packed} packed @param {string[]} files @returns {string[]} code of other packages inside its bundles, by package */
function bundledPackages(packed, files) {
  const names = new Set();
  for (const map of files.filter((path) => path.endsWith('.map'))) {
    for (const source of /** @type {string[]} */ (readJson(join(packed.folder, map)).sources ?? [])) {
      const inside = source.split('node_modules/').at(-1);
      if (source.includes('node_modules/') && inside !== undefined)
        names.add(
          inside
            .split('/')
            .slice(0, inside.startsWith('@') ? 2 : 1)
            .join('/'),
        );
    }
  }
  return /** @type {string[]} */ ([...names]);
}

/**
 * What a tarball must hold and must not.
 *
 * @param {Packed} packed
 * @returns {string[]} problems
 */
export function tarballProblems(packed) {
  const files = allFiles(packed.folder);
  const { manifest } = packed;
  const problems = [];
  for (const file of ['LICENSE', 'README.md', 'package.json']) if (!files.includes(file)) problems.push(`${file} is missing`);
  if (files.includes('LICENSE') && readFileSync(join(packed.folder, 'LICENSE'), 'utf8') !== readFileSync(join(ROOT, 'LICENSE'), 'utf8')) {
    problems.push("LICENSE differs from the root's");
  }
  for (const file of files) {
    if (/^(src|test|examples|node_modules)\//.test(file) || /\.test\.|tsconfig|tsup\.config/.test(file))
      problems.push(`${file} should not be published`);
  }
  const text = JSON.stringify({ ...manifest, devDependencies: undefined });
  if (text.includes('workspace:')) problems.push('package.json still has a "workspace:" range');
  if (text.includes('@unroll/source'))
    problems.push('exports still have the "@unroll/source" condition; publishConfig.exports did not apply');
  const named = Object.values(manifest.exports ?? {}).flatMap((conditions) => Object.values(conditions));
  const programs = typeof manifest.bin === 'string' ? [manifest.bin] : Object.values(manifest.bin ?? {});
  for (const path of [...named, ...programs]) {
    if (!existsSync(join(packed.folder, path)))
      problems.push(`package.json names ${path}, which is not in the tarball (build with types first: npm test -- build)`);
  }
  const notices = files.includes('THIRD-PARTY-NOTICES.md') ? readFileSync(join(packed.folder, 'THIRD-PARTY-NOTICES.md'), 'utf8') : '';
  for (const name of bundledPackages(packed, files)) {
    if (!notices.includes(name))
      problems.push(`code of "${name}" is bundled, but THIRD-PARTY-NOTICES.md does not name it (it must also be in "files")`);
  }
  return problems;
}

/** @param {Packed} packed @returns {string[]} what an import statement may name: @unroll/tensor, @unroll/tensor/cpu */
export const entriesOf = (packed) =>
  Object.keys(packed.manifest.exports ?? {})
    .filter((subpath) => !subpath.endsWith('.json'))
    .map((subpath) => packed.name + subpath.slice(1));

/** @param {Packed} packed @param {Packed[]} all @returns {Packed[]} it and those of ours that it needs when it runs */
export function packedClosure(packed, all) {
  /** @type {Set<Packed>} */
  const found = new Set([packed]);
  for (const current of found) {
    const needs = { ...current.manifest.dependencies, ...current.manifest.peerDependencies };
    for (const other of all) if (other.name in needs) found.add(other);
  }
  return [...found];
}
