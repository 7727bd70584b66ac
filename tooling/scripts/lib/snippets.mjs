import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listFiles, ROOT, shown } from './workspace.mjs';

/**
 * A code block of a Markdown file that is a region of a source file:
 *
 *     <!-- snippet: packages/nn/examples/layer.ts#layer -->
 *     ```ts
 *     ...
 *     ```
 *
 * @typedef {object} Snippet
 * @property {string} readme absolute path of the Markdown file
 * @property {number} line of the comment, from 1
 * @property {string} source path of the source file, relative to the root
 * @property {string} region
 * @property {string} code the block's text, with a final newline
 * @property {[number, number]} span of `code` in the Markdown text
 */

const BLOCK = /<!-- snippet: ([^\s#]+)#([\w-]+) -->\r?\n+```(?:ts|js|tsx|typescript|javascript)\r?\n([\s\S]*?)```/g;
const MARK = /<!-- snippet:/g;
const ANY_CODE = /^```(ts|typescript|js|javascript)\b/gm;

/**
 * What a command printed, as a file that it was written to: all of it, or the lines that match a pattern.
 *
 *     <!-- output: docs/measured/compare.txt /^  (strategy|plain)/ -->
 *     ```
 *     ...
 *     ```
 */
const OUTPUT = /<!-- output: (\S+?)(?: \/(.+)\/)? -->\r?\n+```\w*\r?\n([\s\S]*?)```/g;
const OUTPUT_MARK = /<!-- output:/g;

/** @param {string} text @param {number} index */
const lineAt = (text, index) => text.slice(0, index).split('\n').length;

/**
 * @param {string} readme
 * @param {string} [text]
 * @returns {Snippet[]}
 */
export function snippetsOf(readme, text = readFileSync(readme, 'utf8')) {
  return [...text.matchAll(BLOCK)].map((match) => {
    const code = /** @type {string} */ (match[3]);
    const end = match.index + match[0].length - 3;
    return {
      readme,
      line: lineAt(text, match.index),
      source: /** @type {string} */ (match[1]),
      region: /** @type {string} */ (match[2]),
      code,
      span: [end - code.length, end],
    };
  });
}

/**
 * The text between `// #region NAME` and its `// #endregion`, without common indentation and without the marks of regions inside it.
 *
 * @param {string} source text of the file
 * @param {string} region
 * @returns {string | undefined} undefined when there is no such region, or it is not closed
 */
export function regionOf(source, region) {
  const lines = source.split(/\r?\n/);
  const start = lines.findIndex((line) => line.trim() === `// #region ${region}`);
  if (start < 0) return undefined;
  let depth = 1;
  const body = [];
  for (const line of lines.slice(start + 1)) {
    if (/^\s*\/\/ #region\b/.test(line)) depth++;
    else if (/^\s*\/\/ #endregion\b/.test(line)) depth--;
    else body.push(line);
    if (depth === 0) {
      const indents = body.filter((text) => text.trim() !== '').map((text) => text.length - text.trimStart().length);
      const common = Math.min(...indents, Number.POSITIVE_INFINITY);
      return (
        body
          .map((text) => (Number.isFinite(common) ? text.slice(common) : text))
          .join('\n')
          .trim() + '\n'
      );
    }
  }
  return undefined;
}

/**
 * The blocks of a Markdown file that show printed output, with what they should be: undefined where the file is missing.
 *
 * @param {string} text
 * @param {string} [root]
 */
export function outputsOf(text, root = ROOT) {
  return [...text.matchAll(OUTPUT)].map((match) => {
    const [whole, source, pattern, shownText] = /** @type {[string, string, string | undefined, string]} */ (
      /** @type {unknown} */ (match)
    );
    const path = join(root, source);
    const lines = existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : undefined;
    const kept = lines?.filter((line) => pattern === undefined || new RegExp(pattern).test(line));
    const end = match.index + whole.length - 3;
    return {
      source,
      line: lineAt(text, match.index),
      text: shownText,
      expected: kept?.map((line) => `${line}\n`).join(''),
      span: /** @type {[number, number]} */ ([end - shownText.length, end]),
    };
  });
}

/** @param {string} [root] every Markdown file that may hold snippets */
export const listReadmes = (root = ROOT) => listFiles(root, (path) => path.endsWith('.md') && !path.endsWith('CHANGELOG.md'));

/**
 * @param {Snippet} snippet
 * @param {string} root
 * @returns {{ expected: string } | { problem: string }}
 */
export function expectedCode(snippet, root = ROOT) {
  const where = `${shown(snippet.readme, root)}:${snippet.line}`;
  const path = join(root, snippet.source);
  if (!existsSync(path)) return { problem: `${where}: ${snippet.source} does not exist` };
  const expected = regionOf(readFileSync(path, 'utf8'), snippet.region);
  if (expected === undefined) return { problem: `${where}: ${snippet.source} has no closed "// #region ${snippet.region}"` };
  return { expected };
}

/**
 * Every snippet equals its region; a package's README shows no TypeScript that is not one.
 *
 * @param {string} [root]
 * @returns {string[]} one line per problem
 */
export function checkSnippets(root = ROOT) {
  /** @type {string[]} */
  const problems = [];
  for (const readme of listReadmes(root)) {
    const text = readFileSync(readme, 'utf8');
    const name = shown(readme, root);
    const snippets = snippetsOf(readme, text);
    const marks = [...text.matchAll(MARK)].length;
    if (marks !== snippets.length)
      problems.push(`${name}: ${marks} snippet comments, but ${snippets.length} are followed by a \`\`\`ts block`);
    const blocks = [...text.matchAll(ANY_CODE)].length;
    if (/^packages\/[^/]+\/README\.md$/.test(name) && blocks !== snippets.length) {
      problems.push(
        `${name}: ${blocks - snippets.length} code blocks without a "<!-- snippet: FILE#REGION -->" line, so nothing runs them`,
      );
    }
    const outputs = outputsOf(text, root);
    if ([...text.matchAll(OUTPUT_MARK)].length !== outputs.length) problems.push(`${name}: an output comment is not followed by a block`);
    for (const { source, line, text: is, expected } of outputs) {
      if (expected === undefined || expected === '') problems.push(`${name}:${line}: ${source} does not exist, or has no such lines`);
      else if (expected !== is) problems.push(`${name}:${line}: differs from ${source}; run "npm run readme"`);
    }
    for (const snippet of snippets) {
      const result = expectedCode(snippet, root);
      if ('problem' in result) problems.push(result.problem);
      else if (result.expected !== snippet.code.replace(/\r\n/g, '\n')) {
        problems.push(`${name}:${snippet.line}: differs from ${snippet.source}#${snippet.region}; run "npm run readme"`);
      }
    }
  }
  return problems;
}
