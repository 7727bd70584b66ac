import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { entriesOf } from './pack.mjs';

/** @typedef {import('./pack.mjs').Packed} Packed */
/** @typedef {{ entry: string, code: number, data: number, withDependencies: number, budget: number }} Size bytes, minified and gzipped */

const kB = 1000;
const DEFAULT_BUDGET = 20 * kB;
const BUDGETS = /** @type {Record<string, number>} */ ({
  '@unroll/tensor': 60 * kB,
  // Cards and held-out problems of the models, which are data too; what a bundle gets of them is split off, a part for each model.
  '@unroll/pretrained': 35 * kB,
  '@unroll/sampler': 25 * kB,
});

/** Long base64 literals: WebAssembly modules and embedded weights, which are counted apart from the code. */
const DATA_LITERAL = /(["'`])[A-Za-z0-9+/=_-]{256,}\1/g;

/** @param {string} text */
const gzipped = (text) => gzipSync(text, { level: 9 }).length;

/** @param {string} consumer @param {string} entry @param {string[]} external */
async function minified(consumer, entry, external) {
  const result = await build({
    stdin: { contents: `export * from '${entry}';`, resolveDir: consumer, loader: 'js' },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    write: false,
    legalComments: 'none',
    logLevel: 'silent',
    external,
  });
  return result.outputFiles.map((file) => file.text).join('');
}

/**
 * @param {string} consumer folder where everything is installed
 * @param {Packed} packed
 * @returns {Promise<Size[]>} one per entry of the package
 */
export async function sizesOf(consumer, packed) {
  const dependencies = Object.keys({ ...packed.manifest.dependencies, ...packed.manifest.peerDependencies });
  const optional = Object.keys(packed.manifest.peerDependenciesMeta ?? {});
  const own = dependencies.flatMap((name) => [name, `${name}/*`]);
  const sizes = [];
  for (const entry of entriesOf(packed)) {
    if (/(^|[/-])node$/.test(entry)) continue;
    const text = await minified(consumer, entry, own);
    const code = gzipped(text.replace(DATA_LITERAL, '""'));
    const all = await minified(consumer, entry, optional);
    sizes.push({ entry, code, data: gzipped(text) - code, withDependencies: gzipped(all), budget: BUDGETS[packed.name] ?? DEFAULT_BUDGET });
  }
  return sizes;
}

/** @param {Size[]} sizes @returns {string} */
export function sizeTable(sizes) {
  const rows = [
    ['entry', 'code', 'budget', 'data', 'with dependencies'],
    ...sizes.map((s) => [s.entry, ...[s.code, s.budget, s.data, s.withDependencies].map((bytes) => `${(bytes / kB).toFixed(1)} kB`)]),
  ];
  const widths = /** @type {string[]} */ (rows[0]).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0))).join('  '),
  );
  return ['Sizes, minified and gzipped (data: embedded WebAssembly and weights):', ...lines].join('\n');
}
