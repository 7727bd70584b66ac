// Uses every published package the way a stranger's project would: packed, installed with npm outside the workspace, run, type-checked, bundled.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { runQuiet } from '../scripts/lib/process.mjs';
import { listPackages, listPublished } from '../scripts/lib/workspace.mjs';
import { checkBundles } from './lib/bundles.mjs';
import { Checks } from './lib/checks.mjs';
import { copyExamples, readmeProblems } from './lib/examples.mjs';
import { publintProblems, typesWrongProblems } from './lib/lint.mjs';
import { NEWER_NODE, newerNode } from './lib/node-versions.mjs';
import { entriesOf, npmInstall, pack, packedClosure, tarballProblems, writeManifest } from './lib/pack.mjs';
import { sizesOf, sizeTable } from './lib/sizes.mjs';
import { threadsInNode } from './lib/threads.mjs';
import { checkTypes } from './lib/types.mjs';

/** @typedef {import('./lib/pack.mjs').Packed} Packed */

const RUN_LIMIT_MS = 120_000;

/** @param {string} node @param {string} folder @param {string[]} args @param {boolean} mustPrint @returns {Promise<string[]>} problems */
async function runNode(node, folder, args, mustPrint) {
  const result = await runQuiet([node, args], { cwd: folder, timeoutMs: RUN_LIMIT_MS });
  if (result.code !== 0) return [`ended with code ${result.code}:\n${result.all}`];
  return mustPrint && result.stdout.trim() === '' ? ['it printed nothing'] : [];
}

/** @param {Checks} checks @param {string} work @returns {Promise<Packed[]>} */
async function packAll(checks, work) {
  /** @type {Packed[]} */
  const packed = [];
  mkdirSync(join(work, 'tarballs'), { recursive: true });
  for (const source of listPublished()) {
    await checks.run(`${source.name} packs`, async () => {
      const result = await pack(source, join(work, 'tarballs'));
      packed.push(result);
      return tarballProblems(result);
    });
  }
  return packed;
}

/** @param {Checks} checks @param {Packed[]} packed */
async function lint(checks, packed) {
  for (const one of packed) {
    await checks.run(`publint: ${one.name}`, () => publintProblems(one));
    // A package that is only a command has nothing to import, and so no types that could be wrong.
    if (entriesOf(one).length > 0) await checks.run(`are the types wrong: ${one.name}`, () => typesWrongProblems(one));
  }
}

/**
 * Each package with nothing beside it but what it declares.
 *
 * @param {Checks} checks
 * @param {Packed[]} packed
 * @param {string} work
 */
async function alone(checks, packed, work) {
  for (const one of packed) {
    const folder = join(work, 'alone', one.name.replace('/', '-'));
    writeManifest(folder, { name: 'alone' });
    const imports = entriesOf(one).map((entry) => `await import('${entry}');`);
    writeFileSync(join(folder, 'load.js'), `${imports.join('\n')}\nconsole.log('loaded');\n`);
    await checks.run(`${one.name} alone: every entry loads in Node ${process.versions.node}`, async () => {
      await npmInstall(
        folder,
        packedClosure(one, packed).map((p) => p.tarball),
      );
      return runNode(process.execPath, folder, ['load.js'], true);
    });
  }
}

/** @param {Packed[]} packed @returns {{ name: string, path: string }[]} commands, as paths from the consumer folder */
function programsOf(packed) {
  return packed.flatMap(({ name, manifest: { bin } }) => {
    const programs = typeof bin === 'string' ? { [name]: bin } : (bin ?? {});
    return Object.entries(programs).map(([command, path]) => ({ name: command, path: join('node_modules', name, path) }));
  });
}

/** @param {Checks} checks @returns {Promise<{ label: string, program: string }[]>} */
async function nodes(checks) {
  const own = { label: `Node ${process.versions.node}`, program: process.execPath };
  if (Number(process.versions.node.split('.')[0]) >= 24) return [own];
  try {
    return [own, { label: `Node ${NEWER_NODE}`, program: await newerNode() }];
  } catch (error) {
    checks.skip(`everything under Node ${NEWER_NODE}`, `NOT RUN: ${error instanceof Error ? error.message : String(error)}`);
    return [own];
  }
}

/** @param {Checks} checks @param {string} work */
async function main(checks, work) {
  const packages = listPackages().filter((p) => p.room !== 'tooling');
  const packed = await packAll(checks, work);
  await lint(checks, packed);
  await alone(checks, packed, work);

  const consumer = join(work, 'consumer');
  writeManifest(consumer, { name: 'consumer' });
  const installed = await checks.run('all packages install together with npm', () =>
    npmInstall(
      consumer,
      packed.map((p) => p.tarball),
    ),
  );
  if (!installed) return;
  const entries = packed.flatMap(entriesOf);
  const examples = await copyExamples(packages, consumer);
  for (const { source } of packed) await checks.run(`README of ${source.name}`, () => readmeProblems(source, examples));

  for (const { label, program } of await nodes(checks)) {
    for (const example of examples)
      await checks.run(`${example.name} in ${label}`, () => runNode(program, consumer, [example.script], true));
    for (const { name, path } of programsOf(packed)) {
      await checks.run(`${name} --help in ${label}`, () => runNode(program, consumer, [path, '--help'], true));
    }
  }
  for (const { label, program } of await nodes(checks)) {
    for (const worker of [[], ['@unroll/tensor/worker']]) {
      await checks.run(`threads ${worker.length > 0 ? 'from the worker entry ' : ''}in ${label} start, and keep no process alive`, () =>
        runNode(program, consumer, [threadsInNode(consumer), ...worker], true),
      );
    }
  }
  await checkTypes(checks, consumer, entries, examples);
  const inBrowser = examples.filter((example) => !example.forNode);
  await checkBundles(
    checks,
    consumer,
    entries.filter((entry) => !/(^|[/-])node$/.test(entry)),
    inBrowser,
  );

  /** @type {import('./lib/sizes.mjs').Size[]} */
  const sizes = [];
  for (const one of packed) {
    await checks.run(`sizes of ${one.name}`, async () => {
      const own = await sizesOf(consumer, one);
      sizes.push(...own);
      return own
        .filter((s) => s.code > s.budget)
        .map((s) => `${s.entry} is ${s.code} bytes, minified and gzipped; the budget is ${s.budget}`);
    });
  }
  console.log(`\n${sizeTable(sizes)}\n`);
}

const args = process.argv.slice(2);
const keep = args.includes('--keep');
const at = args.indexOf('--report');
const report = at >= 0 ? args[at + 1] : undefined;
const unknown = args.filter((arg, i) => arg !== '--keep' && arg !== '--report' && !(at >= 0 && i === at + 1));
if (unknown.length > 0 || (at >= 0 && report === undefined)) {
  console.error('usage: node tooling/consumers/run.mjs [--report FILE] [--keep]   (--keep leaves the temporary folder in place)');
  process.exit(2);
}

const work = join(tmpdir(), `unroll-consumers-${process.pid}`);
mkdirSync(work, { recursive: true });
const checks = new Checks();
try {
  await checks.run('the consumer checks run to their end', () => main(checks, work));
} finally {
  if (report !== undefined) checks.writeReport(resolve(report));
  if (keep) console.log(`kept: ${work}`);
  else rmSync(work, { recursive: true, force: true, maxRetries: 3 });
}
process.exitCode = checks.totals.failed === 0 ? 0 : 1;
