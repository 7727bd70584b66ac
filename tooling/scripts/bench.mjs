// Behind `npm run bench`: builds the packages, installs the peers from bench's own lockfile, measures. Arguments are those of bench/run.mjs.
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { npm, pnpm, runShown } from './lib/process.mjs';
import { ROOT } from './lib/workspace.mjs';

const BENCH = join(ROOT, 'bench');

/** Whether what npm installed is as new as the lockfile. */
function peersInstalled() {
  const installed = join(BENCH, 'node_modules', '.package-lock.json');
  return existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(BENCH, 'package-lock.json')).mtimeMs;
}

// npm 11 takes no lockfile that leaves out a platform's optional packages, as one does that was made where the registry lacks them.
const install = npm(['exec', '--yes', 'npm@10.8.2', '--', 'ci', '--ignore-scripts', '--no-audit', '--no-fund']);

/** @type {[[string, string[]], { cwd: string }][]} */
const steps = [
  [pnpm(['install', '--frozen-lockfile', '--filter', '@unroll/cli...']), { cwd: ROOT }],
  [pnpm(['--filter', '@unroll/cli...', 'run', 'build']), { cwd: ROOT }],
  ...(peersInstalled() ? [] : [/** @type {[[string, string[]], { cwd: string }]} */ ([install, { cwd: BENCH }])]),
  [[process.execPath, [join(BENCH, 'run.mjs'), ...process.argv.slice(2)]], { cwd: ROOT }],
];
for (const [command, options] of steps) {
  process.exitCode = await runShown(command, options);
  if (process.exitCode !== 0) break;
}
