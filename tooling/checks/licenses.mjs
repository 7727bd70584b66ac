import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { listPublished, ROOT, shown } from '../scripts/lib/workspace.mjs';

/**
 * Each published package carries a copy of the root's LICENSE: npm packs only what lies in the package's own folder, and a script that copies
 * it at pack time would be one more thing that can be skipped.
 *
 * @param {string} [root]
 * @returns {string[]} one line per problem
 */
export function checkLicenses(root = ROOT) {
  const text = readFileSync(join(root, 'LICENSE'), 'utf8');
  return listPublished(root).flatMap(({ folder }) => {
    const path = join(folder, 'LICENSE');
    if (!existsSync(path)) return [`${shown(path, root)} is missing; run "node tooling/checks/licenses.mjs --write"`];
    return readFileSync(path, 'utf8') === text
      ? []
      : [`${shown(path, root)} differs from the root's LICENSE; run "node tooling/checks/licenses.mjs --write"`];
  });
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  if (process.argv.includes('--write'))
    for (const { folder } of listPublished()) copyFileSync(join(ROOT, 'LICENSE'), join(folder, 'LICENSE'));
  const problems = checkLicenses();
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
