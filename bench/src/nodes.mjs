// The Node programs that peers and kernels run on: a pinned Node 24 from npm, and the one that runs this.
import { execFileSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);

/** The path of the Node 24 that bench's lockfile pins; undefined on a platform that its package does not exist for. */
function pinnedNode() {
  const name = `node-${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
  try {
    const folder = dirname(require.resolve(`${name}/package.json`));
    return join(folder, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
  } catch {
    return undefined;
  }
}

/** A Node program with its version. `which` is `pinned`, `current` or a path. */
export function findNode(which) {
  const path = which === 'current' ? process.execPath : which === 'pinned' ? pinnedNode() : which;
  if (path === undefined)
    throw new Error(`no pinned Node for ${process.platform} ${process.arch}; name one with --node PATH, or --node current`);
  let version;
  try {
    version = execFileSync(path, ['--version'], { encoding: 'utf8' }).trim().slice(1);
  } catch (error) {
    throw new Error(`--node "${path}" is not a Node program: ${error.message.split('\n')[0]}`);
  }
  return { path, version, major: Number(version.split('.')[0]) };
}

/** Node 24 first, and the running one beside it where it is another. */
export function defaultNodes() {
  const current = findNode('current');
  const pinned = pinnedNode() === undefined ? current : findNode('pinned');
  return pinned.major === current.major ? [pinned] : [pinned, current];
}
