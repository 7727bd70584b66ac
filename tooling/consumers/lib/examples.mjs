import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { transform } from 'esbuild';
import { importsOf, isNodeModule, isRelative } from '../../checks/imports.mjs';
import { snippetsOf } from '../../scripts/lib/snippets.mjs';
import { listFiles, ROOT } from '../../scripts/lib/workspace.mjs';

/** @typedef {import('../../scripts/lib/workspace.mjs').WorkspacePackage} WorkspacePackage */

/**
 * A program of an `examples` folder. Each .ts file directly inside one is a program; what lies deeper helps it.
 *
 * @typedef {object} Example
 * @property {string} name PACKAGE/FILE without its ending
 * @property {string} source path from the root of the repository
 * @property {string} script the JavaScript made of it, from the consumer folder
 * @property {string} typescript its copy, from the consumer folder
 * @property {boolean} forNode it imports Node's modules, so that browsers cannot run it
 */

/** @param {string} file @returns {boolean} it or a file that it imports names a module of Node */
function needsNode(file) {
  const seen = new Set([file]);
  for (const current of seen) {
    for (const { specifier } of importsOf(current)) {
      if (isNodeModule(specifier) || /[/-]node$/.test(specifier)) return true;
      if (!isRelative(specifier)) continue;
      const target = join(dirname(current), specifier.replace(/\.(js|ts)$/, '.ts'));
      if (existsSync(target)) seen.add(target);
    }
  }
  return false;
}

/**
 * Copies every `examples` folder into the consumer: the sources for the type checks, and beside them what Node runs.
 *
 * @param {WorkspacePackage[]} packages
 * @param {string} consumer
 * @returns {Promise<Example[]>}
 */
export async function copyExamples(packages, consumer) {
  /** @type {Example[]} */
  const examples = [];
  for (const { folder } of packages) {
    const home = join(folder, 'examples');
    const room = folder.split(sep).at(-1) ?? '';
    for (const file of listFiles(home)) {
      const inside = relative(home, file).split(sep).join('/');
      if (inside.endsWith('.test.ts')) continue;
      const typescript = `typed/${room}/${inside}`;
      const script = `run/${room}/${inside.replace(/\.ts$/, '.js')}`;
      for (const path of [typescript, script]) mkdirSync(dirname(join(consumer, path)), { recursive: true });
      copyFileSync(file, join(consumer, typescript));
      if (!inside.endsWith('.ts')) {
        copyFileSync(file, join(consumer, script));
        continue;
      }
      const { code } = await transform(readFileSync(file, 'utf8'), { loader: 'ts', format: 'esm', target: 'es2022' });
      writeFileSync(join(consumer, script), code);
      if (!inside.includes('/')) {
        const source = relative(ROOT, file).split(sep).join('/');
        examples.push({ name: `${room}/${inside.slice(0, -3)}`, source, script, typescript, forNode: needsNode(file) });
      }
    }
  }
  return examples;
}

/**
 * @param {WorkspacePackage} pkg
 * @param {Example[]} examples
 * @returns {string[]} problems: a library's README must open with code that the runs below cover
 */
export function readmeProblems(pkg, examples) {
  const readme = join(pkg.folder, 'README.md');
  if (!existsSync(readme)) return ['there is no README.md'];
  const snippets = snippetsOf(readme);
  if (snippets.length === 0 && pkg.manifest.bin === undefined)
    return ['README.md shows no code ("<!-- snippet: FILE#REGION -->" and a ```ts block)'];
  const programs = new Set(examples.map((example) => example.source));
  return snippets
    .filter((snippet) => !programs.has(snippet.source))
    .map((snippet) => `line ${snippet.line}: ${snippet.source} is not a program of an examples folder, so nothing runs it`);
}
