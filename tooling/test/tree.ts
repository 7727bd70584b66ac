import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';

/** A folder with these files, removed after the test. Objects become JSON. */
export function createTree(files: Record<string, string | object>): string {
  const root = mkdtempSync(join(tmpdir(), 'unroll-tree-'));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), typeof content === 'string' ? content : `${JSON.stringify(content, null, 2)}\n`);
  }
  return root;
}

/** The package.json of a published library called `@unroll/NAME`, as the manifest check wants it. */
export function libraryManifest(name: string, extra: Record<string, unknown> = {}): Record<string, unknown> {
  const built = { types: './dist/index.d.ts', default: './dist/index.js' };
  return {
    name: `@unroll/${name}`,
    version: '0.1.0',
    license: 'Apache-2.0',
    type: 'module',
    sideEffects: false,
    engines: { node: '>=20.19' },
    files: ['dist', 'README.md', 'LICENSE'],
    exports: { '.': { '@unroll/source': './src/index.ts', ...built } },
    publishConfig: { access: 'public', provenance: true, exports: { '.': built } },
    ...extra,
  };
}
