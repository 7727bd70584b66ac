import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { checkFileSizes } from '../checks/file-size.mjs';
import { checkLicenses } from '../checks/licenses.mjs';
import { checkManifests } from '../checks/manifests.mjs';
import { checkNode } from '../scripts/lib/node-version.mjs';
import { checkSnippets, regionOf } from '../scripts/lib/snippets.mjs';
import { totalsLine, vitestTotals } from '../scripts/lib/totals.mjs';
import { createTree, libraryManifest } from './tree.js';

const lines = (count: number) => 'x\n'.repeat(count);

describe('file sizes', () => {
  const model = 'packages/recurrent/src/model.ts';

  test('500 lines pass, 501 do not; the model may have 400', () => {
    expect(checkFileSizes(createTree({ [model]: lines(400), 'packages/a/src/b.ts': lines(500) }))).toEqual([]);
    expect(checkFileSizes(createTree({ [model]: lines(401), 'packages/a/src/b.ts': lines(501) }))).toEqual([
      expect.stringContaining('packages/a/src/b.ts has 501 lines; the limit is 500'),
      expect.stringContaining('model.ts has 401 lines; the limit is 400'),
    ]);
  });

  test('generated files have no limit, and a limit without its file is a problem', () => {
    expect(checkFileSizes(createTree({ 'packages/a/src/b.generated.ts': lines(900) }))).toEqual([
      expect.stringContaining('model.ts does not exist'),
    ]);
  });
});

describe('package manifests', () => {
  const problemsOf = (extra: Record<string, unknown>) =>
    checkManifests(createTree({ 'packages/nn/package.json': libraryManifest('nn', extra) })).map((line) =>
      line.replace('packages/nn/package.json: ', ''),
    );

  test('a good one', () => expect(problemsOf({})).toEqual([]));

  test.each([
    [{ dependencies: { citty: '^0.2.2' } }, 'dependencies "citty": "^0.2.2" is not an exact version'],
    [{ scripts: { postinstall: 'node x.js' } }, 'script "postinstall" would run'],
    [{ sideEffects: true }, 'sideEffects must be false'],
    [{ engines: { node: '>=18' } }, 'engines.node must be'],
    [{ files: ['dist', 'README.md'] }, 'files must contain "LICENSE"'],
    [{ publishConfig: { access: 'public', provenance: true } }, 'publishConfig.exports must be'],
    [{ peerDependencies: { '@unroll/tensor': 'workspace:^' } }, 'peer "@unroll/tensor" must be a devDependency'],
    [{ dependencies: { '@unroll/tensor': 'workspace:^' } }, '@unroll/tensor must be a peer'],
  ])('%j', (extra, message) => {
    const problems = problemsOf(extra);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(message);
  });
});

test('tools: not in the root, and hoisted', () => {
  const tree = (root: object, hoisted: string) =>
    createTree({
      'package.json': { name: 'root', ...root },
      'pnpm-workspace.yaml': `packages:\n  - vitest\npublicHoistPattern:\n  - ${hoisted}\n`,
      'tooling/dev/package.json': { name: '@unroll-internal/dev', private: true, devDependencies: { '@biomejs/biome': '2.6.8' } },
    });
  expect(checkManifests(tree({}, '"@biomejs/biome"'))).toEqual([]);
  expect(checkManifests(tree({ devDependencies: { vitest: '4.1.12' } }, '"@biomejs/biome"'))).toEqual([
    expect.stringContaining('"vitest" belongs in tooling/dev'),
  ]);
  expect(checkManifests(tree({}, 'vitest'))).toEqual([expect.stringContaining('must name "@biomejs/biome"')]);
});

test('LICENSE: missing and different copies are named', () => {
  const root = createTree({ LICENSE: 'text', 'packages/nn/package.json': libraryManifest('nn') });
  expect(checkLicenses(root)).toEqual([expect.stringContaining('packages/nn/LICENSE is missing')]);
  writeFileSync(join(root, 'packages/nn/LICENSE'), 'other');
  expect(checkLicenses(root)).toEqual([expect.stringContaining('differs from the root')]);
  writeFileSync(join(root, 'packages/nn/LICENSE'), 'text');
  expect(checkLicenses(root)).toEqual([]);
});

describe('README snippets', () => {
  const source =
    'import a;\nfunction f() {\n  // #region use\n  one();\n\n  // #region inner\n  two();\n  // #endregion\n  // #endregion\n}\n';
  const readme = (code: string) => `# x\n\n<!-- snippet: packages/nn/examples/use.ts#use -->\n\`\`\`ts\n${code}\`\`\`\n`;
  const tree = (text: string) => createTree({ 'packages/nn/examples/use.ts': source, 'packages/nn/README.md': text });

  test('a region loses its indentation and the marks inside it', () => {
    expect(regionOf(source, 'use')).toBe('one();\n\ntwo();\n');
    expect(regionOf(source, 'inner')).toBe('two();\n');
    expect(regionOf(source, 'none')).toBeUndefined();
    expect(regionOf('// #region open\nx\n', 'open')).toBeUndefined();
  });

  test('equal, different, unknown region, block without a source', () => {
    expect(checkSnippets(tree(readme('one();\n\ntwo();\n')))).toEqual([]);
    expect(checkSnippets(tree(readme('one();\n')))[0]).toContain('packages/nn/README.md:3: differs from packages/nn/examples/use.ts#use');
    expect(checkSnippets(tree(readme('x\n').replace('#use', '#gone')))[0]).toContain('no closed "// #region gone"');
    expect(checkSnippets(tree('```ts\nuntested();\n```\n'))[0]).toContain('1 code blocks without');
    expect(checkSnippets(tree('<!-- snippet: packages/nn/examples/use.ts#use -->\n\ntext\n'))[0]).toContain('1 snippet comments, but 0');
  });
});

describe('totals', () => {
  const report = (failed: number, results: object[]) =>
    join(
      createTree({ 'r.json': { numPassedTests: 5, numFailedTests: failed, numPendingTests: 1, numTodoTests: 1, testResults: results } }),
      'r.json',
    );
  const brokenFile = { status: 'failed', assertionResults: [] };

  test('a file that did not load, and an exit code that no test explains, count as failures', () => {
    expect(vitestTotals(report(0, []), 0)).toEqual({ passed: 5, failed: 0, skipped: 2 });
    expect(vitestTotals(report(0, [brokenFile]), 1).failed).toBe(1);
    expect(vitestTotals(report(2, [brokenFile, { status: 'failed', assertionResults: [{ status: 'failed' }] }]), 1).failed).toBe(3);
    expect(vitestTotals(report(0, []), 1).failed).toBe(1);
    expect(vitestTotals('/nowhere/report.json', 0).failed).toBe(1);
  });

  test('the last line', () => {
    expect(totalsLine({ passed: 3, failed: 0, skipped: 0 })).toBe('3 passed, 0 failed');
    expect(totalsLine({ passed: 3, failed: 1, skipped: 2 })).toBe('3 passed, 1 failed, 2 skipped');
  });
});

test('Node below the floor is refused with a message', () => {
  const written = vi.spyOn(console, 'error').mockImplementation(() => {});
  expect(checkNode('20.19.0', '"npm start"')).toBe(true);
  expect(checkNode('26.0.0', '"npm start"')).toBe(true);
  expect(written).not.toHaveBeenCalled();
  expect(checkNode('20.18.3', '"npm start"')).toBe(false);
  expect(checkNode('8.17.0', '"npm start"')).toBe(false);
  expect(written.mock.calls[0]?.[0]).toContain('needs Node 20.19 or newer; this is Node 20.18.3');
  written.mockRestore();
});
