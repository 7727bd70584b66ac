import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { embeddedNames, loadEmbedded, PretrainedError } from '../src/index.js';

const inModel = (file: string): URL => new URL(`../models/${file}`, import.meta.url);
const json = (file: string): unknown => JSON.parse(readFileSync(inModel(file), 'utf8'));

describe('loadEmbedded', () => {
  it.each(embeddedNames)('gives the files of the model folder: %s', async (name) => {
    const model = await loadEmbedded(name);
    expect(model.name).toBe(name);
    expect(model.config).toEqual(json(`${name}/config.json`));
    expect(model.tokenizer).toEqual(json(`${name}/tokenizer.json`));
    expect(model.tokenizerConfig).toEqual(json(`${name}/tokenizer_config.json`));
    expect(model.generationConfig).toEqual(json(`${name}/generation_config.json`));
    expect(model.card).toBe(readFileSync(inModel(`${name}/README.md`), 'utf8'));
    expect(Buffer.from(model.weights).equals(readFileSync(inModel(`${name}/model.safetensors`)))).toBe(true);
    const lines = readFileSync(inModel(`${name}/problems.jsonl`), 'utf8')
      .trimEnd()
      .split('\n');
    expect(model.problems).toEqual(lines.map((line) => JSON.parse(line) as unknown));
    expect(model.problems.length).toBeGreaterThanOrEqual(800);
  });

  it('gives every caller weights of its own', async () => {
    const [a, b] = [await loadEmbedded('adder'), await loadEmbedded('adder')];
    a.weights.fill(0);
    expect(b.weights.some((byte) => byte !== 0)).toBe(true);
  });

  it('refuses another name, and says which there are', async () => {
    expect(embeddedNames).toEqual(['adder', 'reckoner']);
    for (const name of ['subtracter', 'toString']) {
      const error: unknown = await loadEmbedded(name as 'adder').catch((reason: unknown) => reason);
      expect(PretrainedError.is(error)).toBe(true);
      expect((error as Error).message).toBe(`loadEmbedded: there is no embedded model "${name}"; there are adder, reckoner`);
    }
  });

  it('has problems of every task, each once', async () => {
    const { problems } = await loadEmbedded('reckoner');
    expect([...new Set(problems.map(({ task }) => task))].sort()).toEqual(['addition', 'chain', 'parity', 'permutation', 'pointer']);
    expect(new Set(problems.map(({ prompt }) => prompt)).size).toBe(problems.length);
    for (const { prompt, answer, task, level } of problems) {
      if (task === 'parity') expect([prompt.length - 2, Number(answer)]).toEqual([level, prompt.replace(/[^1]/g, '').length % 2]);
      if (task === 'chain') {
        const terms = [...prompt.slice(1, -1)].map(Number);
        expect([terms.length, Number(answer)]).toEqual([level, terms.reduce((a, b) => a + b) % 5]);
      }
      if (task === 'addition')
        expect(
          prompt
            .slice(0, -1)
            .split('+')
            .map(Number)
            .reduce((a, b) => a + b),
        ).toBe(Number(answer));
    }
  });

  it('has problems whose answers are right', async () => {
    for (const { prompt, answer } of (await loadEmbedded('adder')).problems) {
      const [a, b] = prompt.slice(0, -1).split('+').map(Number);
      expect(Number(answer)).toBe(a! + b!);
    }
  });
});

it('loads as its README says', async () => {
  const example = await import('../examples/load.js');
  expect(example.weights).toHaveLength(854_528);
  expect(example.card).toContain('# adder');
  expect([example.config, example.tokenizer, example.problems].every((part) => typeof part === 'object')).toBe(true);
});

describe('the generated modules', () => {
  it('are what scripts/embed.mjs makes of models/', () => {
    const script = fileURLToPath(new URL('../scripts/embed.mjs', import.meta.url));
    expect(execFileSync(process.execPath, [script, '--check'], { encoding: 'utf8' })).toBe('');
  });
});
