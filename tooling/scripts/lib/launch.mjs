import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { pnpm, runQuiet } from './process.mjs';
import { CLI, CLI_MAIN, pendingWork, readStamp, writeStamp } from './stamp.mjs';
import { ROOT } from './workspace.mjs';

/**
 * One step with a line on stderr; the tool's own output is shown only when it fails.
 *
 * @param {string} title
 * @param {string[]} args arguments of pnpm
 * @param {Record<string, string>} env
 */
async function step(title, args, env = {}) {
  const started = Date.now();
  process.stderr.write(`${title} ... `);
  const result = await runQuiet(pnpm(args), { cwd: ROOT, env });
  if (result.code === 0) {
    process.stderr.write(`${((Date.now() - started) / 1000).toFixed(1)} s\n`);
    return true;
  }
  process.stderr.write(`failed\n\n${result.all}\n`);
  process.stderr.write(
    `"pnpm ${args.join(' ')}" ended with code ${result.code}. Its output is above; correct what it names and run "npm start" again.\n`,
  );
  process.exitCode = 1;
  return false;
}

/** Installs and builds what the command line program needs. @returns {Promise<boolean>} whether it is ready */
async function prepare() {
  const pending = pendingWork();
  const stamp = readStamp();
  if (pending.install) {
    // Only the program's own closure: the test tools come with `npm test`.
    const args = ['install', '--frozen-lockfile', '--prefer-offline', '--reporter=append-only', '--config.confirmModulesPurge=false'];
    if (!(await step('unroll: installing dependencies (the first time only)', [...args, '--filter', `${CLI}...`]))) return false;
    writeStamp({ ...stamp, install: pending.installSignature });
  }
  // Packages are bundled apart from each other, so that only those whose own sources changed are built.
  if (pending.builds.length > 0) {
    const filters = pending.builds.flatMap((name) => ['--filter', name]);
    const title = `unroll: building ${pending.builds.length} package${pending.builds.length === 1 ? '' : 's'}`;
    if (!(await step(title, ['--reporter=append-only', ...filters, 'run', 'build'], { UNROLL_BUILD_TYPES: '0' }))) return false;
    writeStamp({ install: pending.installSignature, builds: { ...stamp.builds, ...pending.signatures } });
  }
  if (existsSync(CLI_MAIN)) return true;
  process.stderr.write(`unroll: the build left no ${CLI_MAIN}; see apps/cli/tsup.config.ts\n`);
  process.exitCode = 1;
  return false;
}

/**
 * Makes the program ready if it is not, then becomes it: loaded into this process, it has the terminal, the signals and the exit code for
 * itself.
 *
 * @param {string[]} args arguments of the program
 */
export async function launch(args) {
  if (!(await prepare())) return;
  process.argv.splice(1, process.argv.length - 1, CLI_MAIN, ...args);
  await import(pathToFileURL(CLI_MAIN).href);
}
