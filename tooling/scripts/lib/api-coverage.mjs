import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readJson } from './process.mjs';
import { listPublished, ROOT } from './workspace.mjs';

/** @typedef {{ comment?: object }} Documented */
/**
 * The part of typedoc's JSON that is read here.
 *
 * @typedef {Documented & { name: string, variant?: string, signatures?: Documented[], getSignature?: Documented, children?: Reflection[],
 *   type?: { declaration?: { signatures?: Documented[] } } }} Reflection
 */

/** @param {Reflection} reflection */
const isDocumented = (reflection) =>
  [reflection, reflection.getSignature, ...(reflection.signatures ?? []), ...(reflection.type?.declaration?.signatures ?? [])].some(
    (part) => part?.comment !== undefined,
  );

/**
 * How much of the public API has a docstring, and how much its package's README names.
 *
 * @param {string} jsonFile as typedoc wrote it
 * @returns {string} a table; what has no docstring is named below it
 */
export function apiCoverage(jsonFile) {
  const project = /** @type {Reflection} */ (readJson(jsonFile));
  const modules = project.children ?? [];
  /** @type {string[][]} */
  const rows = [];
  /** @type {string[]} */
  const missing = [];
  for (const { name, folder, manifest } of listPublished()) {
    if (manifest.exports === undefined) continue;
    const room = /** @type {string} */ (name.split('/').at(-1));
    // typedoc names a module after its file, from the common folder of all entries.
    const own = modules.filter((m) => m.name === `${room}/src` || m.name.startsWith(`${room}/src/`));
    const exported = own.flatMap((m) => m.children ?? []).filter((child) => child.variant !== 'reference');
    const readmeFile = join(folder, 'README.md');
    const readme = existsSync(readmeFile) ? readFileSync(readmeFile, 'utf8') : '';
    const undocumented = exported.filter((child) => !isDocumented(child)).map((child) => child.name);
    const named = exported.filter((child) => new RegExp(`\\b${child.name.replace(/\$/g, '\\$')}\\b`).test(readme));
    rows.push([name, String(exported.length), String(exported.length - undocumented.length), String(named.length)]);
    if (undocumented.length > 0) missing.push(`${name}: no docstring on ${undocumented.join(', ')}`);
  }
  const head = ['package', 'exports', 'with docstring', 'in README'];
  const widths = head.map((cell, column) => Math.max(cell.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const lines = [head, ...rows].map((row) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '),
  );
  return ['API coverage:', ...lines, ...missing].join('\n');
}

/** Where typedoc.config.mjs has the JSON written. */
export const API_JSON = join(ROOT, 'out', 'api.json');
