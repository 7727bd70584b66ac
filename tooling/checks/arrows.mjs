import { existsSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { readJson } from '../scripts/lib/process.mjs';
import { listFiles, listPackages, ROOT, shown } from '../scripts/lib/workspace.mjs';
import { cyclesOf, importsOf, isNodeModule, isRelative, packageOf } from './imports.mjs';

/** Which package of `packages/` may use which others when it runs. Apps may use all of them; nothing may use an app. */
export const ARROWS = /** @type {Record<string, string[]>} */ ({
  tensor: [],
  nn: ['tensor'],
  recurrent: ['nn', 'tensor'],
  train: ['checkpoint', 'nn', 'recurrent', 'tensor'],
  sampler: ['tensor'],
  checkpoint: ['tensor'],
  tokenizer: [],
  pretrained: [],
});

/** What its tests and examples may use besides: real files are read with the real readers. */
export const TEST_ARROWS = /** @type {Record<string, string[]>} */ ({
  recurrent: ['checkpoint'],
  sampler: ['checkpoint', 'nn', 'pretrained', 'recurrent', 'tokenizer'],
});

/** @typedef {import('../scripts/lib/workspace.mjs').WorkspacePackage} WorkspacePackage */
/** @typedef {'src' | 'test' | 'config'} Part where a file stands: what is published, what runs in the repository only, build set-up */

const isSource = (/** @type {string} */ path) => /\.(ts|tsx|mts|mjs|js)$/.test(path);

/** @param {WorkspacePackage} pkg @param {string} path @returns {Part} */
function partOf(pkg, path) {
  const inside = relative(pkg.folder, path).split(sep);
  if (inside.some((name) => /\.(test|bench)\.[a-z]+$/.test(name))) return 'test';
  if (inside[0] === 'src') return 'src';
  return inside.length === 1 ? 'config' : 'test';
}

/** @param {string} from @param {string} specifier @returns {string | undefined} the file that a relative import means */
function resolveRelative(from, specifier) {
  const base = join(dirname(from), specifier);
  const bare = base.replace(/\.(js|mjs)$/, '');
  const candidates = [base, `${bare}.ts`, `${bare}.tsx`, `${bare}.mts`, join(base, 'index.ts')];
  return candidates.find((path) => isSource(path) && existsSync(path));
}

/** @param {WorkspacePackage} pkg @returns {string} the name that the rules use: its folder's */
const roomName = (pkg) => /** @type {string} */ (pkg.folder.split(sep).at(-1));

/**
 * Checks one edge of the package graph.
 *
 * @param {WorkspacePackage} from
 * @param {WorkspacePackage} to
 * @param {boolean} inTests
 * @returns {string | undefined} why it is refused
 */
function refusal(from, to, inTests) {
  if (from === to || from.room === 'tooling') return undefined;
  if (to.room === 'tooling') return inTests ? undefined : `${from.name} uses ${to.name}, which is tooling and is not published`;
  if (to.room === 'apps') return `${from.name} uses the app ${to.name}; nothing may depend on an app`;
  if (from.room === 'apps') return undefined;
  const name = roomName(from);
  const allowed = ARROWS[name];
  if (allowed === undefined) return `${from.name} has no row in ARROWS (tooling/checks/arrows.mjs); decide there what it may use`;
  const reach = inTests ? [...allowed, ...(TEST_ARROWS[name] ?? [])] : allowed;
  if (reach.includes(roomName(to))) return undefined;
  return `${from.name} -> ${to.name} is not one of the arrows; ${name} may use ${reach.length === 0 ? 'no other package' : reach.join(', ')}`;
}

/** @param {WorkspacePackage} pkg @param {Map<string, WorkspacePackage>} byName @returns {string[]} */
function manifestProblems(pkg, byName) {
  const problems = [];
  const { dependencies, peerDependencies, optionalDependencies, devDependencies } = pkg.manifest;
  for (const name of Object.keys({ ...dependencies, ...peerDependencies, ...optionalDependencies })) {
    const target = byName.get(name);
    const why = target && refusal(pkg, target, false);
    if (why) problems.push(`${why} (package.json)`);
  }
  for (const name of Object.keys(devDependencies ?? {})) {
    const target = byName.get(name);
    const why = target && refusal(pkg, target, true);
    if (why) problems.push(`${why} (package.json, devDependencies)`);
  }
  return problems;
}

/**
 * @param {WorkspacePackage} pkg
 * @param {string} file
 * @param {Map<string, WorkspacePackage>} byName
 * @param {Set<string>} tools what tooling/dev installs, which tests and set-up files may use
 * @param {string} root
 */
function fileProblems(pkg, file, byName, tools, root) {
  /** @type {string[]} */
  const problems = [];
  /** @type {string[]} */
  const localValues = [];
  const part = partOf(pkg, file);
  const { dependencies, peerDependencies, optionalDependencies, devDependencies } = pkg.manifest;
  const published = new Set(Object.keys({ ...dependencies, ...peerDependencies, ...optionalDependencies }));
  const inRepository = new Set([...published, ...Object.keys(devDependencies ?? {}), ...tools]);
  // An app is bundled or run from the workspace only when it is private; then its devDependencies are at hand as well.
  const declared = part === 'src' && pkg.manifest.private !== true ? published : inRepository;
  for (const { specifier, typeOnly, line } of importsOf(file)) {
    const where = `${shown(file, root)}:${line}`;
    if (isNodeModule(specifier)) continue;
    if (isRelative(specifier)) {
      const target = resolveRelative(file, specifier);
      if (target === undefined) continue;
      const outside = relative(pkg.folder, target).startsWith('..');
      if (outside && part === 'src') problems.push(`${where}: "${specifier}" leaves the package; import the other package by its name`);
      else if (outside && !relative(join(root, 'tooling'), target).startsWith('..')) continue;
      else if (outside && pkg.room !== 'tooling')
        problems.push(`${where}: "${specifier}" reaches into another package; import it by its name`);
      else if (part === 'src' && partOf(pkg, target) !== 'src')
        problems.push(`${where}: "${specifier}" is a test or set-up file, which is not published`);
      else if (!typeOnly) localValues.push(target);
      continue;
    }
    const name = packageOf(specifier);
    const target = byName.get(name);
    const why = target && refusal(pkg, target, part !== 'src');
    if (why) problems.push(`${where}: ${why}`);
    else if (name !== pkg.name && !declared.has(name)) {
      const field = part === 'src' ? 'dependencies or peerDependencies' : 'devDependencies';
      problems.push(`${where}: "${name}" is imported but not declared; add it to ${field} of ${pkg.name}`);
    }
  }
  return { problems, localValues };
}

/**
 * Node modules that a browser would meet when it loads a library's entries. Subpaths called `node` are the place for such code.
 *
 * @param {WorkspacePackage} pkg
 * @param {string} root
 */
function nodeInEntries(pkg, root) {
  /** @type {string[]} */
  const problems = [];
  for (const [subpath, conditions] of Object.entries(pkg.manifest.exports ?? {})) {
    if (/(^|[/-])node$/.test(subpath) || typeof conditions !== 'object') continue;
    const source = conditions['@unroll/source'];
    if (source === undefined) continue;
    const entry = join(pkg.folder, source);
    if (!existsSync(entry)) {
      problems.push(`${shown(join(pkg.folder, 'package.json'), root)}: exports["${subpath}"] names ${source}, which does not exist`);
      continue;
    }
    /** @type {Map<string, string[]>} */
    const reached = new Map([[entry, [shown(entry, root)]]]);
    for (const [file, trail] of reached) {
      for (const { specifier, line } of importsOf(file)) {
        if (isNodeModule(specifier)) {
          problems.push(
            `${shown(file, root)}:${line}: "${specifier}" is reachable from ${pkg.name}${subpath.slice(1)} (${trail.join(' > ')}); inject the platform instead`,
          );
        } else if (isRelative(specifier)) {
          const target = resolveRelative(file, specifier);
          if (target !== undefined && !reached.has(target)) reached.set(target, [...trail, shown(target, root)]);
        }
      }
    }
  }
  return problems;
}

/**
 * The dependency rules of the workspace: the arrows between packages (manifests and import statements), no cycles between packages or files,
 * nothing undeclared, no Node in what browsers load.
 *
 * @param {string} [root]
 * @returns {string[]} one line per problem
 */
export function checkArrows(root = ROOT) {
  const packages = listPackages(root);
  const byName = new Map(packages.map((p) => [p.name, p]));
  const tools = listTools(root);
  /** @type {string[]} */
  const problems = [];
  /** @type {Map<string, string[]>} */
  const packageGraph = new Map();
  for (const pkg of packages) {
    const { dependencies, peerDependencies, optionalDependencies, devDependencies } = pkg.manifest;
    const all = Object.keys({ ...dependencies, ...peerDependencies, ...optionalDependencies, ...devDependencies });
    packageGraph.set(
      pkg.name,
      all.filter((name) => byName.has(name)),
    );
    problems.push(...manifestProblems(pkg, byName));
    /** @type {Map<string, string[]>} */
    const fileGraph = new Map();
    for (const file of listFiles(pkg.folder, isSource)) {
      const result = fileProblems(pkg, file, byName, tools, root);
      problems.push(...result.problems);
      fileGraph.set(file, result.localValues);
    }
    for (const cycle of cyclesOf(fileGraph)) problems.push(`cycle of files: ${cycle.map((file) => shown(file, root)).join(' -> ')}`);
    if (pkg.room === 'packages') problems.push(...nodeInEntries(pkg, root));
  }
  for (const cycle of cyclesOf(packageGraph)) problems.push(`cycle of packages: ${cycle.join(' -> ')}`);
  return problems;
}

/** @param {string} root @returns {Set<string>} */
function listTools(root) {
  const path = join(root, 'tooling', 'dev', 'package.json');
  return new Set(existsSync(path) ? Object.keys(readJson(path).devDependencies ?? {}) : []);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const problems = checkArrows();
  for (const problem of problems) console.error(problem);
  console.log(problems.length === 0 ? 'arrows: no problem' : `arrows: ${problems.length} problems`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
