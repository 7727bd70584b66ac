import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { forward } from '@unroll/recurrent';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, describe, expect, it } from 'vitest';
import { runCommand } from '../src/command.js';
import { loadVariant, saveVariant } from '../src/files.js';
import { variantNames } from '../src/recipes.js';
import { trainVariant } from '../src/train.js';
import { read } from './support.js';

const folder = mkdtempSync(join(tmpdir(), 'unroll-variant-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function run(...args: string[]): Promise<{ code: number; out: string }> {
  let out = '';
  const code = await runCommand(args, (text) => {
    out += text;
  });
  return { code, out };
}

describe.each(variantNames)('%s', (name) => {
  const out = join(folder, name);

  it('is trained, measured and saved by one command, and asked by another', async () => {
    const trained = await run('train', name, '--steps', '4', '--problems', '4', '--out', out);
    expect(trained.code).toBe(0);
    expect(trained.out).toMatch(/^step 4: loss -?\d+\.\d{3}, problems of up to \d+ bits\n/);
    expect(trained.out).toContain('held-out problems');
    expect(trained.out.includes('mean loops and right answers')).toBe(name === 'ouro');
    expect(trained.out).toContain(`saved in ${out}`);
    const deep = await run('ask', out, '#0110=', '--depth', '3');
    expect(deep.code).toBe(0);
    expect(deep.out).toMatch(new RegExp(`^#0110=\\S*  \\(${name}; loops of each token: 3(, 3)*\\)\\n$`));
  });

  it('loads as it was saved', async () => {
    const device = createCpuDevice({ threads: 1 });
    const trainer = await trainVariant(device, name, { steps: 2, seed: 3 });
    await saveVariant(out, name, trainer);
    const { name: was, model } = await loadVariant(out, device);
    expect(was).toBe(name);
    const logits = (of: typeof model) => read(forward(of, [[11, 1, 2, 12]], { recurrences: 2 }));
    expect(logits(model)).toEqual(logits(trainer.model));
    model.dispose();
    trainer.dispose();
    expect(device.memory().buffers).toBe(0);
    device.dispose();
  });
});

it('the gate ends an answer, where there is one', async () => {
  const early = await run('ask', join(folder, 'ouro'), '#0110=', '--exit', '0.01');
  expect(early.out).toMatch(/loops of each token: 1(, 1)*\)/);
  expect(await run('ask', join(folder, 'gated'), '#0110=', '--exit', '0.01')).toEqual({
    code: 2,
    out: 'gateExit: the model has no exit gate\n',
  });
});

it.each([
  [['train', 'gru'], 'there is no variant "gru"; there are add, gated, ouro'],
  [['train'], 'there is no variant "undefined"'],
  [['train', 'add', '--steps', '0'], '--steps must be a whole number from 1; got 0'],
  [['train', 'add', '--step', '3'], "Unknown option '--step'"],
  [['ask', 'nowhere'], 'ask needs the folder of a trained variant and a prompt'],
  [['ask', 'nowhere', '#1='], 'ENOENT'],
  [['ask', join(folder, 'ouro'), '#1=', '--exit', 'half'], 'gateExit: threshold must be above 0 and at most 1; got NaN'],
  [['tell'], 'npm run variant -- train VARIANT'],
])('%j is refused', async (args, message) => {
  const { code, out } = await run(...args);
  expect(out).toContain(message);
  expect(code).toBe(2);
});

it('shows what it can do', async () => {
  const { code, out } = await run();
  expect(code).toBe(0);
  for (const name of variantNames) expect(out).toContain(name);
});

it('a folder without a variant’s name is refused', async () => {
  const other = join(folder, 'ouro', 'config.json');
  expect(existsSync(other)).toBe(true);
  const { variant: _, ...rest } = JSON.parse(readFileSync(other, 'utf8'));
  writeFileSync(other, JSON.stringify(rest));
  expect((await run('ask', join(folder, 'ouro'), '#1=')).out).toContain('there is no variant "undefined"');
});
