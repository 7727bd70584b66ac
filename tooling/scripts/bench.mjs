// Behind `npm run bench`: builds the tensor package, installs the peers from bench's own lockfile, measures.
import { join } from 'node:path';
import { npm, pnpm, runShown } from './lib/process.mjs';
import { ROOT } from './lib/workspace.mjs';

/** @type {[[string, string[]], { cwd: string }][]} */
const steps = [
  [pnpm(['install', '--frozen-lockfile', '--filter', '@unroll/tensor...']), { cwd: ROOT }],
  [pnpm(['--filter', '@unroll/tensor', 'run', 'build']), { cwd: ROOT }],
  [npm(['ci', '--ignore-scripts']), { cwd: join(ROOT, 'bench') }],
  [[process.execPath, [join(ROOT, 'bench', 'run.mjs')]], { cwd: ROOT }],
];
for (const [command, options] of steps) {
  process.exitCode = await runShown(command, options);
  if (process.exitCode !== 0) break;
}
