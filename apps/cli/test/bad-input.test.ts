import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { loadEmbedded } from '@unroll/pretrained';
import { describe, expect, it } from 'vitest';
import { adderFolder, adderWeights, OWN_FIXTURE, temporaryFolder, unroll } from './support.js';

/** One line, no stack, with what it must say. */
async function refused(argv: readonly string[], code: number, ...says: (string | RegExp)[]): Promise<void> {
  const result = await unroll(argv, { stdin: '' });
  expect(result.err.trimEnd().split('\n'), result.err).toHaveLength(1);
  expect(result.err).not.toContain('unexpected error');
  expect(result.err).not.toMatch(/^\s+at /m);
  for (const text of says) expect(result.err).toMatch(text);
  expect(result.code).toBe(code);
}

describe('bad flags', () => {
  it.each<[string[], ...(string | RegExp)[]]>([
    [['generate', '1+1=', '--dept', '3'], /unknown flag --dept; did you mean --depth\?/],
    [['generate', '1+1=', '--frobnicate'], /unknown flag --frobnicate/, /--help/],
    [['generate', '1+1=', '-x'], /unknown flag -x/],
    [['generate', '1+1=', '--depth'], /--depth needs a value/],
    [['generate', '1+1=', '--depth', '--json'], /--depth needs a value/],
    [['generate', '1+1=', '--json=yes'], /--json takes no value/],
    [['generate', '1+1=', '--depth', '2', '--depth', '3'], /--depth is given twice/],
    [['generate', '1+1=', '2+2='], /unexpected word "2\+2="/],
    [['generate', '1+1=', '--depth', '0'], /--depth must be a whole number from 1 to 65536; got 0/],
    [['generate', '1+1=', '--depth', '-3'], /--depth .*got -3/],
    [['generate', '1+1=', '--depth', '1000000000'], /--depth .*got 1000000000/],
    [['generate', '1+1=', '--depth', '1.5'], /--depth .*got 1.5/],
    [['generate', '1+1=', '--depth', 'deep'], /--depth .*got "deep"/],
    [['generate', '1+1=', '--depth', ''], /--depth .*got ""/],
    [['generate', '1+1=', '--depth', '0x10'], /--depth .*got "0x10"/],
    [['generate', '1+1=', '--temperature', '-1'], /--temperature/],
    [['generate', '1+1=', '--top-p', '0'], /--top-p must be a number above 0, at most 1; got 0/],
    [['generate', '1+1=', '--alternatives', '2'], /--alternatives .*--json/],
    [['generate', '1+1=', '--top-k', '0'], /--top-k/],
    [['generate', '1+1=', '--top-k', '4'], /--top-k says what is sampled from.*--temperature/],
    [['generate', '1+1=', '--min-p', '0.1'], /--min-p says what is sampled from.*--temperature/],
    [['generate', '1+1=', '--stop', ''], /--stop must be a text of at least one character/],
    [['generate', '1+1=', '--seed', '-1'], /--seed/],
    [['generate', '1+1=', '--seed', '1e300'], /--seed/],
    [['generate', '1+1=', '--init-scale', 'NaN'], /--init-scale/],
    [['generate', '1+1=', '--device', 'abacus'], /--device must be cpu, webgpu, auto; got "abacus"/],
    [['generate', '1+1=', '--tokens', '1,2'], /not both/],
    [['generate', '--tokens', '1,x'], /--tokens .*got "x"/],
    [['generate', '--tokens', '99'], /token 99 is outside the vocabulary of 24/],
    [['generate', '--tokens', ''], /empty/],
    [['generate'], /prompt is empty/],
    [['eval'], /FILE is missing/],
    [['eval', 'x.jsonl', '--depths', '1,0'], /--depths .*got 0/],
    [['eval', 'x.jsonl', '--depths', '1,1'], /names a depth twice/],
    [['eval', 'x.jsonl', '--depths', '1,,2'], /--depths .*got ""/],
    [['eval', 'x.jsonl', '--batch-size', '0'], /--batch-size/],
    [['parity'], /DIR is missing/],
    [['inspect', '--depths', '1000000000'], /--depths .*got 1000000000/],
    [['chat', '--system', 'be kind'], /no chat template/],
    [['genrate'], /unknown command "genrate"; did you mean "unroll generate"\?/],
    [['--nonsense'], /unknown flag "--nonsense"/],
  ])('%j', (argv, ...says) => refused(argv, 2, ...says));
});

describe('bad prompts', () => {
  it('names the character that the vocabulary lacks', () => refused(['generate', '2+2=é'], 2, /"é" \(U\+00E9\)/, /index 4/));
  it('names the lengths when the prompt exceeds the context', () =>
    refused(['generate', '1'.repeat(128)], 2, /128 tokens/, /context of 128/));
  it('names the room that is left', () => refused(['generate', '1+1=', '--max-new-tokens', '125'], 2, /at most 124 new tokens/));
  it('asks for a prompt on a terminal', async () => {
    const { code, err } = await unroll(['generate'], { stdinTTY: true });
    expect([code, err]).toEqual([2, expect.stringMatching(/^error generate: a prompt is missing/)]);
  });
  it('wants token ids where there is no tokenizer', async () => {
    await refused(['generate', '1+1=', '--model', await adderFolder({ 'tokenizer.json': null })], 2, /no tokenizer\.json/, /--tokens/);
  });
});

describe('bad checkpoints', () => {
  const inspectAndRun = async (folder: string, ...says: (string | RegExp)[]) =>
    refused(['generate', '1+1=', '--model', folder], 1, ...says);

  it('no such folder', () => refused(['inspect', '--model', '/no/such/folder'], 1, /there is no folder "\/no\/such\/folder"/, /adder/));
  it('an empty folder', async () => inspectAndRun(temporaryFolder(), /there is no file "config.json"/, /name the folder/));
  it('no weights', async () => inspectAndRun(await adderFolder({ 'model.safetensors': null }), /model\.safetensors/));
  it('no such weight file', async () => refused(['generate', '1+1=', '--weights', 'nope.safetensors'], 1, /nope\.safetensors/));
  it('config that is not JSON', async () => inspectAndRun(await adderFolder({ 'config.json': '{' }), /config\.json is not JSON/));
  it('config that is not an object', async () => inspectAndRun(await adderFolder({ 'config.json': '[]' }), /config\.json/, /an array/));

  it('an unknown config field, and the flag that lets it pass', async () => {
    const { config } = await loadEmbedded('adder');
    const folder = await adderFolder({ 'config.json': JSON.stringify({ ...(config as object), wibble: 1 }) });
    await inspectAndRun(folder, /unknown field "wibble"/, /--allow-unknown/);
    const { code } = await unroll(['generate', '1+1=', '--model', folder, '--allow-unknown', 'wibble']);
    expect(code).toBe(0);
  });

  it('truncated weights', async () => {
    const { weights } = await loadEmbedded('adder');
    await inspectAndRun(await adderFolder({ 'model.safetensors': weights.slice(0, weights.length - 100) }), /model\.safetensors/);
    await inspectAndRun(await adderFolder({ 'model.safetensors': weights.slice(0, 5) }), /model\.safetensors/);
  });

  it('a tensor of the wrong shape, and one that is missing: both in one line', async () => {
    const weights = await adderWeights(({ name, shape, bytes }) => {
      if (name === 'transformer.ln_f.weight') return null;
      const wrong = name === 'transformer.adapter.weight' ? [...shape].reverse() : shape;
      return { name, dtype: 'F32', shape: wrong, bytes };
    });
    const folder = await adderFolder({ 'model.safetensors': weights });
    await inspectAndRun(
      folder,
      /transformer\.adapter\.weight is \[128,64\]; it must be \[64,128\]/,
      /transformer\.ln_f\.weight is missing/,
    );
    const inspected = await unroll(['inspect', '--model', folder]);
    expect(inspected.code).toBe(1);
    expect(inspected.out).toContain('missing from the file');
    expect(inspected.err).toContain('2 tensors do not fit');
  });

  it('NaN weights, by name of the tensor', async () => {
    const weights = await adderWeights(({ name, shape, bytes }) => {
      if (name === 'transformer.coda.0.mlp.fc.weight') new Float32Array(bytes.buffer, bytes.byteOffset, 1)[0] = Number.NaN;
      return { name, dtype: 'F32', shape, bytes };
    });
    await inspectAndRun(await adderFolder({ 'model.safetensors': weights }), /transformer\.coda\.0\.mlp\.fc\.weight holds NaN/);
  });

  it('a tokenizer that is not one', async () =>
    inspectAndRun(await adderFolder({ 'tokenizer.json': '{"model": 3}' }), /unroll-cli-.*tokenizer\.json/));
  it('a negative limit', async () =>
    inspectAndRun(
      await adderFolder({ 'generation_config.json': '{"max_new_tokens": -4}' }),
      /unroll-cli-.*generation_config\.json: .*got -4/,
    ));

  it('escapes control characters of files in messages', async () => {
    const { err } = await unroll(['inspect', '--model', 'a\u001b[31mb']);
    expect(err).toContain('\\u001b');
    expect(err).not.toContain('\u001b');
  });
});

describe('bad problem files', () => {
  const file = async (text: string): Promise<string> => {
    const path = join(temporaryFolder(), 'problems.jsonl');
    await writeFile(path, text);
    return path;
  };
  it('missing', () => refused(['eval', '/no/such.jsonl'], 1, /there is no file "\/no\/such.jsonl"/));
  it('empty', async () => refused(['eval', await file('\n\n')], 1, /holds no problems/));
  it('not JSON', async () => refused(['eval', await file('{"prompt": "1+1=", "answer": "2"}\noops\n')], 1, /line 2 is not JSON/));
  it('without an answer', async () =>
    refused(['eval', await file('{"prompt": "1+1="}\n')], 1, /line 1, answer: the line must have "prompt" and "answer"/));
  it('with a character outside the vocabulary', async () =>
    refused(['eval', await file('{"prompt": "1+1=", "answer": "2"}\n{"prompt": "x", "answer": "2"}\n')], 1, /line 2, prompt: .*"x"/));
  it('with an answer outside the vocabulary, counting blank lines', async () =>
    refused(['eval', await file('\n\n{"prompt": "1+1=", "answer": "é"}\n')], 1, /line 3, answer: .*"é"/));
  it('too long', async () =>
    refused(['eval', await file(JSON.stringify({ prompt: '1'.repeat(140), answer: '2' }))], 1, /line 1, prompt: it has 140 tokens/));
});

describe('bad fixture folders', () => {
  it('without expected files', async () => refused(['parity', await adderFolder()], 1, /neither expected\.safetensors nor expected\.json/));
  it('without a checkpoint', async () => refused(['parity', OWN_FIXTURE], 1, /config\.json/));
  it('with an expected.json that is not JSON', async () =>
    refused(['parity', await adderFolder({ 'expected.json': '{]' })], 1, /expected\.json is not JSON/));
  it('with truncated tensors', async () =>
    refused(['parity', await adderFolder({ 'expected.safetensors': new Uint8Array(12) })], 1, /expected\.safetensors/));
});
