import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { npm, runQuiet } from '../../scripts/lib/process.mjs';
import { ROOT } from '../../scripts/lib/workspace.mjs';
import { writeManifest } from './pack.mjs';

export const NEWER_NODE = '24.21.0';

/**
 * A newer Node from the registry, kept between runs.
 *
 * @returns {Promise<string>} its program
 * @throws {Error} when it could not be installed or does not run
 */
export async function newerNode() {
  const folder = join(ROOT, 'node_modules', '.cache', 'unroll', `node-${NEWER_NODE}`);
  const program = join(folder, 'node_modules', 'node', 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
  if (!existsSync(program)) {
    mkdirSync(folder, { recursive: true });
    writeManifest(folder, { name: 'newer-node' });
    // Its install script fetches the platform's program from the same registry, so that scripts stay on here.
    const args = ['install', '--no-audit', '--no-fund', '--no-package-lock', '--loglevel=error', `node@${NEWER_NODE}`];
    const result = await runQuiet(npm(args), { cwd: folder, timeoutMs: 300_000 });
    if (result.code !== 0) throw new Error(`npm install node@${NEWER_NODE} failed:\n${result.all}`);
  }
  const version = await runQuiet([program, ['--version']]);
  if (version.stdout.trim() !== `v${NEWER_NODE}`) throw new Error(`${program} --version says "${version.all.trim()}"`);
  return program;
}
