import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readJson } from '../scripts/lib/process.mjs';
import { listPackages, ROOT, shown } from '../scripts/lib/workspace.mjs';

/** @typedef {import('../scripts/lib/workspace.mjs').Manifest} Manifest */

const EXACT = /^(npm:(@[^/]+\/)?[^@]+@)?\d+\.\d+\.\d+(-[\w.]+)?$/;

/** Scripts that npm runs when somebody installs the package. */
const INSTALL_SCRIPTS = ['preinstall', 'install', 'postinstall', 'prepare', 'prepublish', 'preprepare', 'postprepare'];

/** @param {string} where @param {Manifest} manifest @returns {string[]} */
function versionProblems(where, manifest) {
  const problems = [];
  for (const field of /** @type {const} */ (['dependencies', 'devDependencies', 'optionalDependencies'])) {
    for (const [name, range] of Object.entries(manifest[field] ?? {})) {
      if (!EXACT.test(range) && !range.startsWith('workspace:'))
        problems.push(`${where}: ${field} "${name}": "${range}" is not an exact version`);
    }
  }
  return problems;
}

/** @param {string} where @param {Manifest} manifest @returns {string[]} */
function publishedProblems(where, manifest) {
  /** @type {string[]} */
  const problems = [];
  /** @param {boolean} good @param {string} message */
  const expect = (good, message) => good || problems.push(`${where}: ${message}`);
  expect(manifest.license === 'Apache-2.0', 'license must be "Apache-2.0"');
  expect(manifest.engines?.node === '>=20.19', 'engines.node must be ">=20.19"');
  expect(
    manifest.bin !== undefined || manifest.sideEffects === false,
    'sideEffects must be false, so that bundlers can drop what is unused',
  );
  for (const file of ['dist', 'README.md', 'LICENSE']) expect(manifest.files?.includes(file) === true, `files must contain "${file}"`);
  expect(manifest.publishConfig?.access === 'public', 'publishConfig.access must be "public": scoped packages are private by default');
  expect(manifest.publishConfig?.provenance === true, 'publishConfig.provenance must be true');
  for (const script of INSTALL_SCRIPTS)
    expect(manifest.scripts?.[script] === undefined, `script "${script}" would run on other people's machines at install`);
  expect(
    manifest.dependencies?.['@unroll/tensor'] === undefined || manifest.bin !== undefined,
    '@unroll/tensor must be a peer: two copies cannot share a device',
  );
  const inWorkspace = Object.entries(manifest.exports ?? {}).map(([subpath, conditions]) => {
    const { '@unroll/source': _source, ...rest } = conditions;
    return [subpath, rest];
  });
  const published = manifest.publishConfig?.exports ?? (manifest.exports === undefined ? {} : undefined);
  const same = JSON.stringify(Object.fromEntries(inWorkspace)) === JSON.stringify(published);
  expect(same, 'publishConfig.exports must be exports without the "@unroll/source" condition, in the same order');
  for (const name of Object.keys(manifest.peerDependencies ?? {})) {
    const atHand = manifest.devDependencies?.[name] !== undefined;
    expect(
      atHand || manifest.peerDependenciesMeta?.[name]?.optional === true,
      `peer "${name}" must be a devDependency as well, so that tests have it`,
    );
  }
  return problems;
}

/**
 * pnpm installs the root with every filtered install, so that a tool there would be fetched by `npm start`; tooling/dev holds them, hoisted.
 *
 * @param {string} root
 * @returns {string[]}
 */
function toolProblems(root) {
  const problems = [];
  const { dependencies, devDependencies } = readJson(join(root, 'package.json'));
  for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
    problems.push(`package.json: "${name}" belongs in tooling/dev/package.json and in publicHoistPattern of pnpm-workspace.yaml`);
  }
  const hoisted = readFileSync(join(root, 'pnpm-workspace.yaml'), 'utf8').split(/^publicHoistPattern:$/m)[1] ?? '';
  const names = [...hoisted.matchAll(/^ {2}- "?([^"\s]+)"?$/gm)].map((match) => match[1]);
  for (const name of Object.keys(readJson(join(root, 'tooling', 'dev', 'package.json')).devDependencies ?? {})) {
    if (!names.includes(name)) problems.push(`pnpm-workspace.yaml: publicHoistPattern must name "${name}", which tooling/dev installs`);
  }
  return problems;
}

/**
 * Exact versions everywhere, and what every published package.json must say.
 *
 * @param {string} [root]
 * @returns {string[]} one line per problem
 */
export function checkManifests(root = ROOT) {
  const problems = existsSync(join(root, 'tooling', 'dev')) ? toolProblems(root) : [];
  for (const { folder, manifest, room } of listPackages(root)) {
    const where = shown(join(folder, 'package.json'), root);
    problems.push(...versionProblems(where, manifest));
    if (room === 'packages' || manifest.private !== true) problems.push(...(room === 'tooling' ? [] : publishedProblems(where, manifest)));
    if (room === 'tooling' && manifest.private !== true) problems.push(`${where}: tooling is not published; say "private": true`);
  }
  return problems;
}
