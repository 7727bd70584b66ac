import { readFileSync, writeFileSync } from 'node:fs';
import { checkSnippets, expectedCode, listReadmes, outputsOf, snippetsOf } from './lib/snippets.mjs';
import { shown } from './lib/workspace.mjs';

const args = process.argv.slice(2);
const unknown = args.filter((arg) => arg !== '--write');
if (unknown.length > 0) {
  console.error(
    `sync-readme: unknown argument ${unknown.join(' ')}; use --write to bring the README files up to date, nothing to check them`,
  );
  process.exit(2);
}

if (args.includes('--write')) {
  for (const readme of listReadmes()) {
    let text = readFileSync(readme, 'utf8');
    const before = text;
    // From the last to the first, so that the spans of those before stay right.
    for (const snippet of snippetsOf(readme, text).reverse()) {
      const result = expectedCode(snippet);
      if ('expected' in result) text = text.slice(0, snippet.span[0]) + result.expected + text.slice(snippet.span[1]);
    }
    for (const { expected, span } of outputsOf(text).reverse()) {
      if (expected !== undefined) text = text.slice(0, span[0]) + expected + text.slice(span[1]);
    }
    if (text !== before) {
      writeFileSync(readme, text);
      console.log(`updated ${shown(readme)}`);
    }
  }
}

const problems = checkSnippets();
for (const problem of problems) console.error(problem);
process.exitCode = problems.length === 0 ? 0 : 1;
