// Measured runs as JSON files, one for each group, Node and number of threads.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { summary } from './statistics.mjs';

const FOLDER = fileURLToPath(new URL('../results/', import.meta.url));

const pathOf = (group, node, threads) => join(FOLDER, `${group}-node${node.major}-${threads}t.json`);

export function readRun(group, node, threads) {
  const path = pathOf(group, node, threads);
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : undefined;
}

export const readRuns = () =>
  existsSync(FOLDER)
    ? readdirSync(FOLDER)
        .filter((file) => file.endsWith('.json'))
        .map((file) => JSON.parse(readFileSync(join(FOLDER, file), 'utf8')))
    : [];

export function writeRun(run) {
  mkdirSync(FOLDER, { recursive: true });
  const [major] = run.node.split('.');
  writeFileSync(pathOf(run.group, { major }, run.threads), `${JSON.stringify(run, null, 1)}\n`);
}

/** Adds a sample's rows to a run. */
export function addRows(run, peer, rows) {
  for (const { what, kind, unit, value, ...more } of rows) {
    let row = run.rows.find((one) => one.what === what && one.peer === peer && one.kind === kind);
    if (row === undefined) {
      row = { what, peer, kind, unit, values: [] };
      run.rows.push(row);
    }
    row.values.push(Number(value.toPrecision(5)));
    Object.assign(row, summary(row.values), more);
  }
}

/** Notes, once, that a peer or a part of it did not run. */
export function addAbsent(run, peer, { kind, what, reason }) {
  const known = run.absent.some((one) => one.peer === peer && one.kind === kind && one.what === what);
  if (!known) run.absent.push({ peer, ...(kind === undefined ? {} : { kind }), ...(what === undefined ? {} : { what }), reason });
}
