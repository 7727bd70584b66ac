import { readdirSync, readFileSync } from 'node:fs';
import * as tensor from '@unroll/tensor';
import * as cpu from '@unroll/tensor/cpu';
import * as testing from '@unroll/tensor/testing';
import { Generate, opList } from '@unroll/tensor/testing';
import { describe, expect, it } from 'vitest';
import { instantiateKernels, kernelModule } from '../src/cpu/kernels.js';
import type { OpDef } from '../src/op.js';

const at = (path: string) => new URL(`../${path}`, import.meta.url);

describe('the list of operations', () => {
  // The list, a view, and WGSL templates and samples of operations that have a file of their own: no OpDef in them.
  const without = ['list.ts', 'reshape.ts'];
  const files = readdirSync(at('src/ops')).filter(
    (file) => file.endsWith('.ts') && !/-(wgsl|samples)\.ts$/.test(file) && !without.includes(file),
  );
  const isOp = (value: unknown): value is OpDef<unknown> =>
    typeof value === 'object' && value !== null && 'infer' in value && 'reference' in value;

  it.each(files)('has every operation of src/ops/%s, with samples', async (file) => {
    const module: Record<string, unknown> = await import(at(`src/ops/${file}`).href);
    const ops = Object.values(module).flatMap((value) =>
      isOp(value) ? [value] : typeof value === 'object' && value !== null ? Object.values(value).filter(isOp) : [],
    );
    expect(ops.length, `operations exported by ${file}`).toBeGreaterThan(0);
    for (const op of ops) {
      expect(opList, `${op.name} of ${file}`).toContain(op);
      expect(op.samples(new Generate(1)).length).toBeGreaterThan(0);
    }
  });

  it('has no name twice, and every defineOp of the folder', () => {
    const names = opList.map((op) => op.name);
    expect(new Set(names).size).toBe(names.length);
    for (const file of readdirSync(at('src/ops'))) {
      for (const [, name] of readFileSync(at(`src/ops/${file}`), 'utf8').matchAll(/defineOp<[^(]*\(\{\s*name: '(\w+)'/g))
        expect(names).toContain(name);
    }
  });

  it.each(opList.map((op) => [op.name, op] as const))('%s has samples with dims of 0 and of 1', (_, op) => {
    const shapes = [1, 2, 3]
      .flatMap((seed) => op.samples(new Generate(seed)))
      .flatMap((sample) => sample.inputs.map((input) => input.shape));
    expect(shapes.some((shape) => shape.includes(0))).toBe(true);
    expect(shapes.some((shape) => shape.includes(1))).toBe(true);
  });

  it.each(opList.map((op) => [op.name, op] as const))('%s has samples that fill a vector of 4 and more, and some that do not', (_, op) => {
    const sizes = [1, 2, 3]
      .flatMap((seed) => op.samples(new Generate(seed)))
      .flatMap((sample) => sample.inputs.map((input) => input.data.length));
    expect(sizes.some((size) => size >= 8)).toBe(true);
    expect(sizes.some((size) => size % 4 !== 0)).toBe(true);
  });
});

describe('the kernels', () => {
  const exported = Object.entries(
    instantiateKernels(kernelModule('plain', false), new WebAssembly.Memory({ initial: 1, maximum: 65536 })),
  ).filter(([, value]) => typeof value === 'function');

  it('export exactly what the interface Kernels declares, with as many parameters', () => {
    const source = readFileSync(at('src/cpu/kernels.ts'), 'utf8');
    const declared = [...source.matchAll(/readonly (\w+): Kernel<(\d+)/g)].map(([, name, arity]) => `${name}/${arity}`);
    expect(declared.length).toBeGreaterThan(15);
    expect(exported.map(([name, kernel]) => `${name}/${kernel.length}`).sort()).toEqual(declared.sort());
  });
});

describe('the entries', () => {
  it('README lists every export and type of the four entries', () => {
    const readme = readFileSync(at('README.md'), 'utf8');
    const types = ['index', 'cpu', 'webgpu', 'testing'].flatMap((entry) => [
      ...readFileSync(at(`src/${entry}.ts`), 'utf8').matchAll(/export (?:type )?\{([^}]*)\}|^export interface (\w+)/gm),
    ]);
    const names = [
      ...[tensor, cpu, testing].flatMap((entry) => Object.keys(entry)),
      ...types.flatMap(([, list, single]) => (single ?? list ?? '').split(',').map((name) => name.replace('type ', '').trim())),
    ].filter((name) => name !== '');
    expect(names.length).toBeGreaterThan(90);
    const missing = [...new Set(names)].filter((name) => !new RegExp(`\`[^\`]*\\b${name}\\b[^\`]*\``).test(readme));
    expect(missing).toEqual([]);
  });

  it('no module but the tests imports from Node', () => {
    const walk = (folder: string): string[] =>
      readdirSync(at(folder), { withFileTypes: true }).flatMap((entry) =>
        entry.isDirectory() ? walk(`${folder}/${entry.name}`) : [`${folder}/${entry.name}`],
      );
    for (const file of walk('src')) expect(readFileSync(at(file), 'utf8'), file).not.toMatch(/from 'node:|require\(|\bprocess\./);
  });
});
