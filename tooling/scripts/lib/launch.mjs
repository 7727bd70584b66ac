import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { pnpm, runQuiet } from './process.mjs';
import { CLI, PLAYGROUND, pendingWork, readStamp, VARIANT, writeStamp } from './stamp.mjs';
import { ROOT } from './workspace.mjs';

/**
 * One step with a line on stderr; the tool's own output is shown only when it fails.
 *
 * @param {import('./stamp.mjs').App} app
 * @param {string} title
 * @param {string[]} args arguments of pnpm
 * @param {Record<string, string>} env
 */
async function step(app, title, args, env = {}) {
  const started = Date.now();
  process.stderr.write(`${title} ... `);
  const result = await runQuiet(pnpm(args), { cwd: ROOT, env });
  if (result.code === 0) {
    process.stderr.write(`${((Date.now() - started) / 1000).toFixed(1)} s\n`);
    return true;
  }
  process.stderr.write(`failed\n\n${result.all}\n`);
  process.stderr.write(
    `"pnpm ${args.join(' ')}" ended with code ${result.code}. Its output is above; correct what it names and run "${app.command}" again.\n`,
  );
  process.exitCode = 1;
  return false;
}

/** Types are most of the build time, and an inherited NODE_ENV would let bundlers build for development. */
const BUILD_ENVIRONMENT = { UNROLL_BUILD_TYPES: '0', NODE_ENV: 'production' };

/**
 * Installs and builds what an app needs.
 *
 * @param {import('./stamp.mjs').App} app
 * @returns {Promise<boolean>} whether it is ready
 */
export async function prepare(app) {
  const pending = pendingWork(app);
  if (pending.install) {
    // Only the app's own closure: the test tools come with `npm test`.
    const args = ['install', '--frozen-lockfile', '--prefer-offline', '--reporter=append-only', '--config.confirmModulesPurge=false'];
    const title = 'unroll: installing dependencies (the first time only)';
    if (!(await step(app, title, [...args, '--filter', `${app.name}...`]))) return false;
    const stamp = readStamp();
    writeStamp({ ...stamp, installs: { ...stamp.installs, [app.name]: pending.installSignature } });
  }
  // Packages are bundled apart from each other, so that only those whose own sources changed are built.
  if (pending.builds.length > 0) {
    const filters = pending.builds.flatMap((name) => ['--filter', name]);
    const title = `unroll: building ${pending.builds.length} package${pending.builds.length === 1 ? '' : 's'}`;
    if (!(await step(app, title, ['--reporter=append-only', ...filters, 'run', 'build'], BUILD_ENVIRONMENT))) return false;
    const stamp = readStamp();
    writeStamp({ ...stamp, builds: { ...stamp.builds, ...pending.signatures } });
  }
  if (existsSync(app.main)) return true;
  process.stderr.write(`unroll: the build of ${app.name} left no ${app.main}\n`);
  process.exitCode = 1;
  return false;
}

/**
 * Runs a script in this process, so that it has the terminal, the signals and the exit code for itself.
 *
 * @param {string} file
 * @param {string[]} args
 */
async function become(file, args) {
  process.argv.splice(1, process.argv.length - 1, file, ...args);
  await import(pathToFileURL(file).href);
}

/**
 * Makes the command line program ready if it is not, then becomes it.
 *
 * @param {string[]} args arguments of the program
 */
export async function launch(args) {
  if (await prepare(CLI)) await become(CLI.main, args);
}

/**
 * The same for the variants of apps/custom-variant.
 *
 * @param {string[]} args arguments of the program
 */
export async function launchVariant(args) {
  if (await prepare(VARIANT)) await become(VARIANT.main, args);
}

/**
 * The same for the playground's server.
 *
 * @param {string[]} args arguments of apps/playground/serve.mjs
 */
export async function launchPlayground(args) {
  if (await prepare(PLAYGROUND)) await become(join(ROOT, 'apps', 'playground', 'serve.mjs'), args);
}
