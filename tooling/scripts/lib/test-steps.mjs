import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { API_JSON, apiCoverage } from './api-coverage.mjs';
import { pnpm, readJson, runQuiet, runShown } from './process.mjs';
import { APPS, builtFiles, installSignature, pendingWork, readStamp, writeStamp } from './stamp.mjs';
import { addTotals, noTotals, oneCheck, totalsLine, vitestTotals } from './totals.mjs';
import { closureOf, listPackages, listPublished, ROOT, shown } from './workspace.mjs';

/** @typedef {import('./totals.mjs').Totals} Totals */
/** @typedef {{ name: string, about: string, run: () => Promise<Totals> }} Step */

const REPORTS = join(ROOT, 'out', 'reports');

/** @param {string} name of a package of the root @param {string} bin @returns {string} the file that Node runs for its command */
function toolFile(name, bin) {
  const manifest = createRequire(join(ROOT, 'package.json')).resolve(`${name}/package.json`);
  const declared = readJson(manifest).bin;
  return join(dirname(manifest), typeof declared === 'string' ? declared : declared[bin]);
}

/** @param {string} title @param {string[]} problems @returns {Totals} one check, with its problems shown */
function problemsCheck(title, problems) {
  for (const problem of problems) console.log(`  ${problem}`);
  console.log(`${problems.length === 0 ? 'ok' : 'FAILED'}: ${title}`);
  return oneCheck(problems.length === 0);
}

/** @param {string} title @param {[string, string[]]} command one check; its output is shown when it fails */
async function commandCheck(title, command) {
  const result = await runQuiet(command, { cwd: ROOT });
  if (result.code !== 0) console.log(result.all.trimEnd());
  console.log(`${result.code === 0 ? 'ok' : 'FAILED'}: ${title}`);
  return oneCheck(result.code === 0);
}

/** Whether every tool is found from the root, in the version that tooling/dev asks for. */
function toolsAreHoisted() {
  const tools = Object.entries(readJson(join(ROOT, 'tooling', 'dev', 'package.json')).devDependencies);
  return tools.every(([name, version]) => {
    const manifest = join(ROOT, 'node_modules', name, 'package.json');
    return existsSync(manifest) && readJson(manifest).version === version;
  });
}

async function install() {
  const args = ['install', '--frozen-lockfile', '--prefer-offline', '--reporter=append-only', '--config.confirmModulesPurge=false'];
  let totals = await commandCheck('the lockfile installs', pnpm(args));
  if (totals.failed === 0 && !toolsAreHoisted()) {
    // pnpm hoists only what it links anew; without its record it links everything.
    rmSync(join(ROOT, 'node_modules', '.modules.yaml'), { force: true });
    rmSync(join(ROOT, 'node_modules', '.pnpm-workspace-state-v1.json'), { force: true });
    totals = await commandCheck('the lockfile installs (again, hoisting the tools)', pnpm(args));
  }
  if (totals.failed === 0) {
    const signatureOf = (/** @type {string} */ name) => installSignature(closureOf(listPackages(), name, { dev: true }));
    writeStamp({ ...readStamp(), installs: Object.fromEntries(APPS.map(({ name }) => [name, signatureOf(name)])) });
  }
  return totals;
}

/** Types that `npm start` left out: turbo may believe that its cached output is still in place. */
function missingTypes() {
  return listPublished().flatMap(({ folder, manifest }) =>
    Object.values(manifest.exports ?? {}).flatMap((c) =>
      c.types !== undefined && !existsSync(join(folder, c.types)) ? [join(folder, c.types)] : [],
    ),
  );
}

async function build() {
  const signatures = Object.assign({}, ...APPS.map((app) => pendingWork(app).signatures));
  const turbo = [
    '--reporter=append-only',
    'exec',
    'turbo',
    'run',
    'build',
    '--ui=stream',
    '--log-order=grouped',
    '--output-logs=errors-only',
  ];
  let totals = await commandCheck('every package builds', pnpm(turbo));
  if (totals.failed === 0 && missingTypes().length > 0)
    totals = await commandCheck('every package builds (again, with types)', pnpm([...turbo, '--force']));
  if (totals.failed > 0) return totals;
  writeStamp({ ...readStamp(), builds: signatures });
  const missing = [...missingTypes(), ...listPublished().flatMap(builtFiles)].filter((path) => !existsSync(path));
  return addTotals(
    totals,
    problemsCheck(
      'builds leave every file that package.json names',
      missing.map((path) => `${shown(path)} is named in package.json, but the build left no such file`),
    ),
  );
}

async function lint() {
  return commandCheck('biome check', [process.execPath, [toolFile('@biomejs/biome', 'biome'), 'check', '--max-diagnostics=60', '.']]);
}

/** The root configuration has Node's types, for tests; each package's own has only what its users have. */
async function types() {
  const tsc = toolFile('typescript', 'tsc');
  const projects = [ROOT, ...listPackages().map((p) => p.folder)]
    .map((folder) => join(folder, 'tsconfig.json'))
    .filter((path) => existsSync(path));
  /** @type {Totals[]} */
  const results = [];
  const queue = [...projects];
  const worker = async () => {
    for (let project = queue.shift(); project !== undefined; project = queue.shift()) {
      results.push(await commandCheck(`types of ${shown(project)}`, [process.execPath, [tsc, '-p', project, '--noEmit']]));
    }
  };
  await Promise.all(Array.from({ length: Math.min(4, Math.max(1, cpus().length)) }, worker));
  return results.reduce(addTotals, noTotals());
}

async function rules() {
  // Loaded here and not above: they need the installed TypeScript.
  const { checkArrows } = await import('../../checks/arrows.mjs');
  const { checkFileSizes } = await import('../../checks/file-size.mjs');
  const { checkManifests } = await import('../../checks/manifests.mjs');
  const { checkLicenses } = await import('../../checks/licenses.mjs');
  const { checkSnippets } = await import('./snippets.mjs');
  return [
    problemsCheck('dependency arrows, cycles, undeclared imports, Node in library entries', checkArrows()),
    problemsCheck('file sizes', checkFileSizes()),
    problemsCheck('package manifests', checkManifests()),
    problemsCheck('LICENSE in every package', checkLicenses()),
    problemsCheck('README snippets are regions of files', checkSnippets()),
  ].reduce(addTotals, noTotals());
}

/** Every package with committed generated files has a script that makes them again and compares. */
async function generated() {
  let totals = noTotals();
  for (const { folder, name } of listPackages()) {
    const script = join(folder, 'scripts', 'build-kernels.mjs');
    if (!existsSync(script)) continue;
    totals = addTotals(
      totals,
      await commandCheck(`generated files of ${name} are those of their sources`, [process.execPath, [script, '--check']]),
    );
  }
  return totals;
}

async function docs() {
  const totals = await commandCheck('API documentation builds without warnings', [
    process.execPath,
    [toolFile('typedoc', 'typedoc'), '--options', 'typedoc.config.mjs', '--treatWarningsAsErrors'],
  ]);
  if (totals.failed === 0) console.log(apiCoverage(API_JSON));
  return totals;
}

/** @param {string} project as vitest's --project takes it @param {string} label */
async function vitest(project, label) {
  const report = join(REPORTS, `vitest-${label}.json`);
  rmSync(report, { force: true });
  const args = ['run', `--project=${project}`, '--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const code = await runShown([process.execPath, [toolFile('vitest', 'vitest'), ...args]], { cwd: ROOT });
  return vitestTotals(report, code);
}

/** The browser, whose package also brings the Vulkan driver that Dawn runs on where there is no GPU: both kinds of tests need it. */
async function drivers() {
  const { ensureChromium } = await import('../chromium.mjs');
  return problemsCheck(`Chromium is there: ${await ensureChromium()}`, []);
}

async function consumers() {
  const report = join(REPORTS, 'consumers.json');
  rmSync(report, { force: true });
  const code = await runShown([process.execPath, [join(ROOT, 'tooling', 'consumers', 'run.mjs'), '--report', report]], { cwd: ROOT });
  const totals = existsSync(report) ? /** @type {Totals} */ (readJson(report).totals) : noTotals();
  return code !== 0 && totals.failed === 0 ? addTotals(totals, oneCheck(false)) : totals;
}

/** @type {Step[]} */
const STEPS = [
  { name: 'install', about: 'all dependencies, test tools included', run: install },
  { name: 'build', about: 'all packages and apps', run: build },
  { name: 'lint', about: 'biome', run: lint },
  { name: 'types', about: 'tsc', run: types },
  { name: 'rules', about: 'arrows, file sizes, manifests, licences, snippets', run: rules },
  { name: 'generated', about: 'committed generated files', run: generated },
  { name: 'docs', about: 'typedoc', run: docs },
  { name: 'drivers', about: 'Chromium and a Vulkan driver', run: drivers },
  { name: 'node', about: 'vitest in Node', run: () => vitest('node', 'node') },
  { name: 'browser', about: 'vitest in Chromium', run: () => vitest('browser', 'browser') },
  { name: 'playground', about: 'the built playground in Chromium', run: () => vitest('playground', 'playground') },
  { name: 'consumers', about: 'the packed packages in a stranger’s project', run: consumers },
];

/**
 * `npm test` runs everything; `npm test -- lint types` only the steps named.
 *
 * @param {string[]} args names of steps
 */
export async function main(args) {
  const unknown = args.filter((arg) => !STEPS.some((step) => step.name === arg));
  if (unknown.length > 0) {
    console.error(
      `npm test: no step is called ${unknown.join(', ')}. The steps:\n${STEPS.map((s) => `  ${s.name.padEnd(10)} ${s.about}`).join('\n')}`,
    );
    process.exitCode = 2;
    return;
  }
  mkdirSync(REPORTS, { recursive: true });
  const chosen = args.length === 0 ? STEPS : STEPS.filter((step) => args.includes(step.name));
  let totals = noTotals();
  /** @type {string[]} */
  const summary = [];
  for (const [index, step] of chosen.entries()) {
    console.log(`\n== ${step.name}: ${step.about} (${index + 1} of ${chosen.length})`);
    const started = Date.now();
    /** @type {Totals} */
    let result;
    try {
      result = await step.run();
    } catch (error) {
      console.log(`FAILED: ${error instanceof Error ? error.message : String(error)}`);
      result = oneCheck(false);
    }
    totals = addTotals(totals, result);
    summary.push(`${step.name.padEnd(10)} ${totalsLine(result).padEnd(36)} ${((Date.now() - started) / 1000).toFixed(1)} s`);
  }
  console.log(`\n${summary.join('\n')}\n`);
  console.log(totalsLine(totals));
  process.exitCode = totals.failed === 0 ? 0 : 1;
}
