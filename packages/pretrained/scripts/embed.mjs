// Writes src/generated/NAME.generated.ts and NAME-weights.generated.ts from models/NAME. With --check it writes nothing and fails where a
// file differs from what it would write.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const HEAD = '// Written by scripts/embed.mjs from the files in models/. Do not edit.\n';

/** @param {string} folder @param {string} file */
const text = (folder, file) => readFileSync(join(folder, file), 'utf8');

/** @param {unknown} value */
const literal = (value) => JSON.stringify(value).replace(/[\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);

/** @param {string} name @returns {Record<string, string>} file name -> content */
function modulesOf(name) {
  const folder = join(ROOT, 'models', name);
  const json = (/** @type {string} */ file) => literal(JSON.parse(text(folder, file)));
  const problems = text(folder, 'problems.jsonl')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
    .map(({ prompt, answer, task, level }) => (task === undefined ? [prompt, answer] : [prompt, answer, task, level]));
  const files = [
    `export const config: unknown = ${json('config.json')};`,
    `export const tokenizer: unknown = ${json('tokenizer.json')};`,
    `export const tokenizerConfig: unknown = ${json('tokenizer_config.json')};`,
    `export const generationConfig: unknown = ${json('generation_config.json')};`,
    `export const problems: readonly (readonly [string, string, string?, number?])[] = ${literal(problems)};`,
    `export const card = ${literal(text(folder, 'README.md'))};`,
  ];
  const weights = readFileSync(join(folder, 'model.safetensors')).toString('base64');
  return {
    [`${name}.generated.ts`]: `${HEAD}${files.join('\n')}\n`,
    [`${name}-weights.generated.ts`]: `${HEAD}export const weights = '${weights}';\n`,
  };
}

const args = process.argv.slice(2);
if (args.some((arg) => arg !== '--check')) {
  console.error(`embed: unknown argument ${args.join(' ')}; use --check to compare without writing, nothing to write`);
  process.exit(2);
}
const target = join(ROOT, 'src', 'generated');
mkdirSync(target, { recursive: true });
for (const name of readdirSync(join(ROOT, 'models'))) {
  for (const [file, content] of Object.entries(modulesOf(name))) {
    const path = join(target, file);
    if (existsSync(path) && readFileSync(path, 'utf8') === content) continue;
    if (args.includes('--check')) {
      console.error(`embed: src/generated/${file} is not what models/${name} gives; run node packages/pretrained/scripts/embed.mjs`);
      process.exitCode = 1;
    } else {
      writeFileSync(path, content);
      console.log(`wrote src/generated/${file}`);
    }
  }
}
