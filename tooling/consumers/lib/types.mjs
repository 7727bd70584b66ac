import { mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { readJson, runQuiet } from '../../scripts/lib/process.mjs';
import { npmInstall, writeManifest } from './pack.mjs';

export const WEBGPU_TYPES = '@webgpu/types@0.1.74';
export const NODE_TYPES = '@types/node@20.19.9';

/**
 * TypeScript 5.9 has no WebGPU in lib.dom, so its users install @webgpu/types; newer ones have it and would get conflicts from them.
 *
 * @type {{ tool: string, label: string, webgpuTypes: boolean }[]}
 */
const COMPILERS = [
  { tool: 'typescript', label: 'TypeScript 5.9.3 with @webgpu/types', webgpuTypes: true },
  { tool: 'typescript-6', label: 'TypeScript 6.0.3', webgpuTypes: false },
  { tool: 'typescript-7', label: 'TypeScript 7.0.2', webgpuTypes: false },
];

const RESOLUTIONS = [
  { module: 'nodenext', moduleResolution: 'nodenext' },
  { module: 'esnext', moduleResolution: 'bundler' },
];

/** @param {string} tool @returns {string} */
function compiler(tool) {
  const manifest = createRequire(import.meta.url).resolve(`${tool}/package.json`);
  return join(dirname(manifest), readJson(manifest).bin.tsc);
}

/**
 * Type-checks, as a strict project would (`strict`, `skipLibCheck: false`), a file that imports every entry, and the examples. The entries are
 * checked without Node's types: a library must not need them.
 *
 * @param {import('./checks.mjs').Checks} checks
 * @param {string} consumer
 * @param {string[]} entries what an import statement may name
 * @param {import('./examples.mjs').Example[]} examples
 */
export async function checkTypes(checks, consumer, entries, examples) {
  const extra = join(consumer, 'extra');
  writeManifest(extra, { name: 'extra-types' });
  await npmInstall(extra, [WEBGPU_TYPES, NODE_TYPES]);
  mkdirSync(join(consumer, 'typed'), { recursive: true });
  writeFileSync(join(consumer, 'typed', 'entries.ts'), entries.map((entry, i) => `export * as entry${i} from '${entry}';`).join('\n'));
  const programs = [
    { what: 'every entry', files: ['typed/entries.ts'], node: false },
    { what: 'examples', files: examples.map((example) => example.typescript), node: examples.some((example) => example.forNode) },
  ];
  for (const { tool, label, webgpuTypes } of COMPILERS) {
    for (const resolution of RESOLUTIONS) {
      for (const { what, files, node } of programs) {
        if (files.length === 0) continue;
        const config = `tsconfig.${tool}.${resolution.moduleResolution}.${what.split(' ').at(-1)}.json`;
        const ambient = [
          ...(webgpuTypes ? ['extra/node_modules/@webgpu/types/dist/index.d.ts'] : []),
          ...(node ? ['extra/node_modules/@types/node/index.d.ts'] : []),
        ];
        const compilerOptions = {
          ...resolution,
          target: 'es2022',
          strict: true,
          // Node's own types do not pass this one.
          exactOptionalPropertyTypes: !node,
          skipLibCheck: false,
          noEmit: true,
          types: [],
        };
        writeFileSync(join(consumer, config), JSON.stringify({ compilerOptions, files: [...ambient, ...files] }, null, 2));
        await checks.run(`types of ${what}, ${label}, ${resolution.moduleResolution}`, async () => {
          const result = await runQuiet([process.execPath, [compiler(tool), '-p', config]], { cwd: consumer, timeoutMs: 180_000 });
          return result.code === 0 ? [] : [result.all];
        });
      }
    }
  }
}
