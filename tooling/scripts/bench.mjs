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

/** @type {[[string, string[]], { cwd: string }][]} */
const steps = [
  [pnpm(['install', '--frozen-lockfile', '--filter', '@unroll/cli...']), { cwd: ROOT }],
  [pnpm(['--filter', '@unroll/cli...', 'run', 'build']), { cwd: ROOT }],
  ...(peersInstalled() ? [] : [/** @type {[[string, string[]], { cwd: string }]} */ ([npm(['ci', '--ignore-scripts']), { cwd: BENCH }])]),
  [[process.execPath, [join(BENCH, 'run.mjs'), ...process.argv.slice(2)]], { cwd: ROOT }],
];
for (const [command, options] of steps) {
  process.exitCode = await runShown(command, options);
  if (process.exitCode !== 0) break;
}
