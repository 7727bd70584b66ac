import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** @typedef {Record<string, any>} Recipe */
/** @typedef {(argv: string[]) => Promise<string>} Unroll runs the program and gives what it wrote to standard output; rejects where it fails */

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/** @param {string | undefined} file @returns {Recipe} */
export function readRecipe(file) {
  if (file === undefined || !existsSync(file)) throw new Error('name a recipe that is there, such as packages/train/recipes/scratch.json');
  return JSON.parse(readFileSync(file, 'utf8'));
}

/**
 * The recipe over fewer steps: its schedule shrinks with it. Solved tasks do not rest, which a plan could not say.
 *
 * @param {Recipe} recipe @param {number} steps @returns {Recipe}
 */
export function shortened(recipe, steps) {
  const scaled = (/** @type {number} */ value) => Math.max(1, Math.round((value * steps) / recipe.steps));
  const schedule = { ...recipe.schedule };
  for (const field of ['warmup', 'total', 'decay']) if (field in schedule) schedule[field] = scaled(schedule[field]);
  if (recipe.curriculum === undefined) return { ...recipe, steps, schedule };
  const { rest: _, ...curriculum } = recipe.curriculum;
  return { ...recipe, steps, schedule, curriculum };
}

/**
 * Trains a recipe in OUT/NAME with `unroll train`, which goes on where an earlier run there ended, and gives the lines of its log.
 *
 * @param {Recipe} recipe @param {{ out: string, name: string, more: string[], unroll: Unroll }} options @returns {Promise<any[]>}
 */
export async function trained(recipe, { out, name, more, unroll }) {
  mkdirSync(out, { recursive: true });
  const [file, folder] = [join(out, `${name}.json`), join(out, name)];
  writeFileSync(file, `${JSON.stringify(recipe, null, 1)}\n`);
  await unroll(['train', file, '--out', folder, '--eval-every', String(recipe.steps), ...more]);
  const lines = readFileSync(join(folder, 'log.jsonl'), 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line));
}

/**
 * Rows of cells as lines of a table: the first column to the left, the others to the right.
 *
 * @param {string[][]} rows
 */
export function aligned(rows) {
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0))) ?? [];
  return rows.map((row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '));
}

/** The built program. @type {Unroll} */
export function program(argv) {
  const child = spawn(process.execPath, [MAIN, ...argv], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.on('data', (part) => {
    text += part;
  });
  return new Promise((resolve, reject) => {
    child.on('close', (code) => (code === 0 ? resolve(text) : reject(new Error(`unroll ${argv[0]} ended with ${code}`))));
  });
}
