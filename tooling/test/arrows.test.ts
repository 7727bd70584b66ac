import { describe, expect, test } from 'vitest';
import { checkArrows } from '../checks/arrows.mjs';
import { createTree, libraryManifest } from './tree.js';

const peerTensor = { peerDependencies: { '@unroll/tensor': 'workspace:^' }, devDependencies: { '@unroll/tensor': 'workspace:^' } };

/** A tree without a problem: two libraries, an app over both, tests beside. */
const good = {
  'tooling/dev/package.json': { name: '@unroll-internal/dev', private: true, devDependencies: { vitest: '4.1.12' } },
  'packages/tensor/package.json': libraryManifest('tensor'),
  'packages/tensor/src/index.ts': "export { shape } from './shape.ts';\n",
  'packages/tensor/src/shape.ts': 'export const shape = 1;\n',
  'packages/tensor/test/shape.test.ts':
    "import { readFileSync } from 'node:fs';\nimport { test } from 'vitest';\nimport { shape } from '../src/index.ts';\ntest('a', () => void [shape, readFileSync]);\n",
  'packages/sampler/package.json': libraryManifest('sampler', peerTensor),
  'packages/sampler/src/index.ts': "import { shape } from '@unroll/tensor';\nexport const twice = 2 * shape;\n",
  'apps/cli/package.json': {
    name: '@unroll/cli',
    bin: { unroll: './dist/main.js' },
    dependencies: { '@unroll/tensor': 'workspace:^', '@unroll/sampler': 'workspace:^', citty: '0.2.2' },
  },
  'apps/cli/src/main.ts':
    "import { readFileSync } from 'node:fs';\nimport { twice } from '@unroll/sampler';\nimport { defineCommand } from 'citty';\nvoid [readFileSync, twice, defineCommand];\n",
};

const problemsWith = (files: Record<string, string | object>) => checkArrows(createTree({ ...good, ...files }));

test('a good tree has no problem', () => {
  expect(problemsWith({})).toEqual([]);
});

describe('arrows between packages', () => {
  test('an import along an arrow that is not allowed', () => {
    const problems = problemsWith({
      'packages/tensor/src/shape.ts': "import { twice } from '@unroll/sampler';\nexport const shape = twice;\n",
    });
    expect(problems).toEqual([
      'packages/tensor/src/shape.ts:1: @unroll/tensor -> @unroll/sampler is not one of the arrows; tensor may use no other package',
    ]);
  });

  test('a subpath and a type-only import count as well', () => {
    const text =
      "import type { S } from '@unroll/sampler/x';\nexport const shape = 1;\nexport type T = import('@unroll/sampler').S;\nexport type { S };\n";
    expect(problemsWith({ 'packages/tensor/src/shape.ts': text })).toHaveLength(2);
  });

  test('a dependency in package.json alone, which also closes a cycle', () => {
    const manifest = libraryManifest('tensor', { dependencies: { '@unroll/sampler': 'workspace:^' } });
    const problems = problemsWith({ 'packages/tensor/package.json': manifest });
    expect(problems[0]).toContain('@unroll/tensor -> @unroll/sampler is not one of the arrows');
    expect(problems.at(-1)).toBe('cycle of packages: @unroll/sampler -> @unroll/tensor -> @unroll/sampler');
  });

  test('a library that uses an app', () => {
    const manifest = libraryManifest('sampler', { ...peerTensor, dependencies: { '@unroll/cli': 'workspace:^' } });
    expect(problemsWith({ 'packages/sampler/package.json': manifest }).join()).toContain('@unroll/sampler uses the app @unroll/cli');
  });

  test('a package that the rules do not know', () => {
    const files = {
      'packages/extra/package.json': libraryManifest('extra', peerTensor),
      'packages/extra/src/index.ts': "export { shape } from '@unroll/tensor';\n",
    };
    expect(problemsWith(files)[0]).toContain('@unroll/extra has no row in ARROWS');
  });

  test('a relative path into another package', () => {
    const problems = problemsWith({ 'packages/sampler/src/index.ts': "export { shape } from '../../tensor/src/index.ts';\n" });
    expect(problems).toEqual([
      'packages/sampler/src/index.ts:1: "../../tensor/src/index.ts" leaves the package; import the other package by its name',
    ]);
  });
});

describe('declarations', () => {
  test('a package that is imported but not declared', () => {
    const problems = problemsWith({ 'packages/tensor/src/shape.ts': "export { clamp as shape } from 'lodash/fp';\n" });
    expect(problems).toEqual([
      'packages/tensor/src/shape.ts:1: "lodash" is imported but not declared; add it to dependencies or peerDependencies of @unroll/tensor',
    ]);
  });

  test('published code cannot use a tool of the repository, a test can', () => {
    const problems = problemsWith({ 'packages/tensor/src/shape.ts': "import { test } from 'vitest';\nexport const shape = test;\n" });
    expect(problems).toHaveLength(1);
  });

  test('published code cannot import its own tests', () => {
    const problems = problemsWith({
      'packages/tensor/src/shape.ts': "export { x as shape } from '../test/help.ts';\n",
      'packages/tensor/test/help.ts': 'export const x = 1;\n',
    });
    expect(problems).toEqual(['packages/tensor/src/shape.ts:1: "../test/help.ts" is a test or set-up file, which is not published']);
  });
});

describe('cycles of files', () => {
  const back = (text: string) => problemsWith({ 'packages/tensor/src/shape.ts': text });

  test('a cycle of values', () => {
    expect(back("import * as all from './index.js';\nexport const shape = () => all;\n")).toEqual([
      'cycle of files: packages/tensor/src/index.ts -> packages/tensor/src/shape.ts -> packages/tensor/src/index.ts',
    ]);
  });

  test('a cycle closed by a dynamic import', () => {
    expect(back("export const shape = () => import('./index.ts');\n")).toHaveLength(1);
  });

  test('types alone close none: they are gone when the code runs', () => {
    expect(back("import type { shape as s } from './index.ts';\nexport const shape = 1 as unknown as s;\n")).toEqual([]);
    expect(back("import { type shape as s } from './index.ts';\nexport const shape = 1 as unknown as s;\n")).toEqual([]);
  });
});

describe('Node in what browsers load', () => {
  test('a Node module behind another file of the default entry, with the way to it', () => {
    expect(problemsWith({ 'packages/tensor/src/shape.ts': "import { cpus } from 'os';\nexport const shape = cpus;\n" })).toEqual([
      'packages/tensor/src/shape.ts:1: "os" is reachable from @unroll/tensor (packages/tensor/src/index.ts > packages/tensor/src/shape.ts); inject the platform instead',
    ]);
  });

  test('a dynamic import is found as well', () => {
    expect(problemsWith({ 'packages/tensor/src/shape.ts': "export const shape = () => import('node:fs');\n" })).toHaveLength(1);
  });

  test('a subpath called node may use it, another may not', () => {
    const entry = (source: string) => ({ '@unroll/source': source, types: './dist/x.d.ts', default: './dist/x.js' });
    const files = { 'packages/tensor/src/files.ts': "export { readFileSync } from 'node:fs';\n" };
    const withEntry = (subpath: string) =>
      problemsWith({
        ...files,
        'packages/tensor/package.json': libraryManifest('tensor', {
          exports: { '.': entry('./src/index.ts'), [subpath]: entry('./src/files.ts') },
        }),
      });
    expect(withEntry('./node')).toEqual([]);
    expect(withEntry('./cpu')).toHaveLength(1);
  });

  test('an entry without a source file', () => {
    const exports = { '.': { '@unroll/source': './src/gone.ts', types: './dist/index.d.ts', default: './dist/index.js' } };
    expect(problemsWith({ 'packages/tensor/package.json': libraryManifest('tensor', { exports }) })[0]).toContain(
      './src/gone.ts, which does not exist',
    );
  });
});
