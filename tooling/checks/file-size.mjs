import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isGenerated, listFiles, ROOT, shown } from '../scripts/lib/workspace.mjs';

export const LINE_LIMIT = 500;

/** Files with a limit of their own: the model reads top to bottom. */
export const OWN_LIMITS = /** @type {Record<string, number>} */ ({ 'packages/recurrent/src/model.ts': 400 });

const isSource = (/** @type {string} */ path) => /\.(ts|tsx|mts|mjs|js|css|html|wgsl)$/.test(path) && !isGenerated(path);

/** @param {string} text */
const linesOf = (text) => text.split('\n').length - (text.endsWith('\n') ? 1 : 0);

/**
 * @param {string} [root]
 * @returns {string[]} one line per source file that is too long
 */
export function checkFileSizes(root = ROOT) {
  /** @type {string[]} */
  const problems = [];
  for (const file of listFiles(root, isSource)) {
    const name = shown(file, root);
    const limit = OWN_LIMITS[name] ?? LINE_LIMIT;
    const lines = linesOf(readFileSync(file, 'utf8'));
    if (lines > limit)
      problems.push(`${name} has ${lines} lines; the limit is ${limit}. Split it by subject (generated code belongs in *.generated.ts).`);
  }
  for (const name of Object.keys(OWN_LIMITS)) {
    if (listFiles(join(root, name)).length === 0)
      problems.push(`${name} does not exist, but has a limit in tooling/checks/file-size.mjs; move the limit along`);
  }
  return problems;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const problems = checkFileSizes();
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
