import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { readJson } from '../scripts/lib/process.mjs';
import { listPackages, ROOT, shown } from '../scripts/lib/workspace.mjs';
import { createTree } from './tree.js';

const CHANGESET = join(ROOT, 'node_modules', '@changesets', 'cli', 'bin.js');

/** Runs `changeset version` on a copy of the manifests, with one changeset. */
function versionsAfter(released: string, bump: string): Record<string, string> {
  const root = createTree({ '.changeset/one.md': `---\n'${released}': ${bump}\n---\n\nA change.\n` });
  for (const path of ['package.json', 'pnpm-workspace.yaml', '.changeset/config.json']) cpSync(join(ROOT, path), join(root, path));
  for (const { folder } of listPackages()) {
    const path = join(root, shown(folder), 'package.json');
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, readFileSync(join(folder, 'package.json')));
  }
  const git = ['-c', 'user.name=test', '-c', 'user.email=test@localhost', '-c', 'commit.gpgsign=false'];
  execFileSync('git', ['init', '--quiet', '--initial-branch=main'], { cwd: root });
  execFileSync('git', [...git, 'add', '--all'], { cwd: root });
  execFileSync('git', [...git, 'commit', '--quiet', '--message', 'before'], { cwd: root });
  execFileSync(process.execPath, [CHANGESET, 'version'], { cwd: root, stdio: 'pipe' });
  return Object.fromEntries(
    listPackages(root)
      .map(({ folder }) => readJson(join(folder, 'package.json')))
      .map((m) => [m.name, m.version]),
  );
}

const before = Object.fromEntries(listPackages().map(({ name, manifest }) => [name, manifest.version]));
const peersOfTensor = listPackages().filter(({ manifest }) => manifest.peerDependencies?.['@unroll/tensor'] !== undefined);
const major = (version: string | undefined) => Number(version?.split('.')[0]);

test('the rule under test has packages to hold for', () => {
  expect(peersOfTensor.map((p) => p.name)).toContain('@unroll/nn');
});

test.each(['patch', 'minor'])('a %s of @unroll/tensor releases none of the packages that take it as a peer', (bump) => {
  const after = versionsAfter('@unroll/tensor', bump);
  expect(after['@unroll/tensor']).not.toBe(before['@unroll/tensor']);
  for (const { name } of peersOfTensor) expect({ name, version: after[name] }).toEqual({ name, version: before[name] });
});

test('no patch or minor anywhere makes a major elsewhere', () => {
  for (const released of ['@unroll/nn', '@unroll/tokenizer']) {
    const after = versionsAfter(released, 'minor');
    expect(after[released]).not.toBe(before[released]);
    for (const [name, version] of Object.entries(after))
      expect({ name, major: major(version) }).toEqual({ name, major: major(before[name]) });
  }
});
