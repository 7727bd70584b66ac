import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeSafetensors, type TensorToWrite } from '@unroll/checkpoint';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type PlainRelative, plainRelative } from '../../../tooling/reference-models/plain-relatives.js';
import { cases, randomWeights } from '../../../tooling/reference-models/relative-cases.js';
import { byteLevelTokenizer } from '../src/make/tokenizer.js';
import { useSoftwareVulkan } from './software-vulkan.js';
import { jsonLines, temporaryFolder, unroll } from './support.js';

// Retrofits and Ouro by the commands, as checkpoints of their own layout. What is right comes from a plain float64 model.

// Software drivers compile some shaders for seconds.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });
useSoftwareVulkan();

// Room for the bytes and the special tokens of a tokenizer; a multiple of nothing.
const V = 403;
const R = 3;
const PROMPT = [7, 33, 0, 200, 71];

/** Tokens of a plain greedy run from the zero state, the gate's logits behind the prompt included. */
function greedy(weights: ReadonlyMap<string, Float32Array>, plain: PlainRelative, prompt: readonly number[], depth: number, count: number) {
  const tokens = [...prompt];
  for (let i = 0; i < count; i++) {
    const zero = tokens.map(() => new Array<number>(plain.C).fill(0));
    const { logits } = plainRelative(tokens, zero, depth, weights, plain);
    const last = logits.at(-1)!.at(-1)!;
    tokens.push(last.indexOf(Math.max(...last)));
  }
  return tokens.slice(prompt.length);
}

describe.each(cases)('%s', (_, small, smallJson) => {
  // Whole blocks of quantised rows, which Ouro stores apart and loading joins.
  const plain: PlainRelative = { ...small, V, I: 24 };
  const json = {
    ...smallJson,
    vocab_size: V,
    intermediate_size: 24,
    ...('padded_vocab_size' in smallJson ? { padded_vocab_size: V } : {}),
  };
  const weights = randomWeights(plain);
  const values = new Map([...weights].map(([name, { data }]) => [name, data]));
  const folder = temporaryFolder();
  const generateFrom = async (model: string, ...more: string[]) => {
    const { code, out, err } = await unroll([
      'generate',
      '--model',
      model,
      '--tokens',
      PROMPT.join(),
      '--init-scale',
      '0',
      '--json',
      ...more,
    ]);
    expect([code, err]).toEqual([0, '']);
    return jsonLines(out);
  };
  const generate = (...more: string[]) => generateFrom(folder, ...more);
  const tokensOf = (lines: Record<string, unknown>[]) => lines.map(({ token }) => token);

  beforeAll(async () => {
    const tensors = [...weights].map(
      ([name, { shape, data }]): TensorToWrite => ({ name, dtype: 'F32', shape, bytes: new Uint8Array(data.buffer) }),
    );
    await writeFile(join(folder, 'model.safetensors'), await encodeSafetensors(tensors));
    const files = { 'config.json': json, ...byteLevelTokenizer(V), 'generation_config.json': {} };
    for (const [file, content] of Object.entries(files)) await writeFile(join(folder, file), JSON.stringify(content));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it('generates what a plain model does, on both devices, under the policies that read their own keys', async () => {
    const expected = greedy(values, plain, PROMPT, R, 5);
    const common = ['--depth', String(R), '--max-new-tokens', '5'];
    expect(tokensOf(await generate(...common))).toEqual(expected);
    expect(tokensOf(await generate(...common, '--device', 'webgpu'))).toEqual(expected);
    for (const policy of ['full', 'latest', 'skip'])
      expect(tokensOf(await generate(...common, '--kv-policy', policy)), policy).toEqual(expected);
  });

  it('keeps fewer keys under compression, with the same tokens on both devices', async () => {
    for (const policy of ['last-only', `latest-compress-s${small.layers.core_block}`, 'compress-anchor']) {
      const common = ['--depth', String(R), '--max-new-tokens', '4', '--kv-policy', policy];
      const onCpu = await generate(...common);
      expect(tokensOf(onCpu)).toHaveLength(4);
      expect(tokensOf(await generate(...common, '--device', 'webgpu')), policy).toEqual(tokensOf(onCpu));
      const slots = (onCpu.at(-1)!.report as { cache: { slots: number } }).cache.slots;
      const { prelude, core_block, coda } = plain.kind === 'ouro' ? { prelude: 0, core_block: 3, coda: 0 } : small.layers;
      if (policy.includes('-s')) expect(slots).toBe(prelude + core_block + coda);
    }
  });

  it('chats', async () => {
    const { code, out, err } = await unroll(['chat', '--model', folder, '--depth', '2', '--max-new-tokens', '3', '--init-scale', '0'], {
      stdin: 'Hi there\n',
    });
    expect(code).toBe(0);
    expect(err).toMatch(/^This model has no chat template[^\n]*\n$/);
    expect(out.length).toBeGreaterThan(0);
  });

  it('is inspected and estimated as what it is', async () => {
    const inspected = await unroll(['inspect', '--model', folder, '--json']);
    expect([inspected.code, inspected.err]).toEqual([0, '']);
    const report = JSON.parse(inspected.out);
    const count = [...weights.values()].reduce((sum, { data }) => sum + data.length, 0);
    expect(report).toMatchObject({ family: plain.kind, parameters: { total: count } });
    expect(report.tensors).toHaveLength(weights.size);
    const estimated = await unroll(['estimate', '--model', folder, '--no-calibration', '--json']);
    expect(JSON.parse(estimated.out)).toMatchObject({ family: plain.kind, byDepth: [{ parameters: count }, {}, {}, {}, {}] });
  });

  it.each(['q8', 'q4', 'bf16'])(
    'is converted to %s, rows that loading joins too, and loads with the bits of rounding while loading',
    async (format) => {
      const to = join(folder, format);
      const { code, out, err } = await unroll(['convert', to, '--model', folder, '--to', format, '--verify', '--json']);
      expect([code, err]).toEqual([0, '']);
      const kinds = JSON.parse(out).verify.map((row: { format: string }) => row.format);
      expect(kinds.sort()).toEqual(['f32', format].sort());
      const { code: inspected } = await unroll(['inspect', '--model', to]);
      expect(inspected).toBe(0);
      const common = ['--depth', '2', '--max-new-tokens', '3'];
      const lines = async (model: string, ...more: string[]) =>
        (await generateFrom(model, ...common, ...more)).map(({ token, logprob }) => ({ token, logprob }));
      const converted = await lines(to);
      expect(converted).toHaveLength(3);
      expect(converted).toEqual(await lines(folder, '--dtype', format));
      expect(await lines(to, '--device', 'webgpu')).toMatchObject(converted.map(({ token }) => ({ token })));
    },
  );

  it(plain.kind === 'ouro' ? 'stops where the gate says' : 'has no gate to stop by', async () => {
    const run = (prompt: readonly number[], exit: string) =>
      unroll(
        ['generate', '--model', folder, '--tokens', prompt.join(), '--init-scale', '0', '--json', '--depth', '6', '-n', '1'].concat(
          '--exit',
          exit,
        ),
      );
    if (plain.kind !== 'ouro') {
      const { code, err } = await run(PROMPT, 'q-exit');
      expect(code).toBe(2);
      expect(err).toMatch(/the model has no exit gate; use an exit rule that reads states or logits/);
      return;
    }
    const depths = new Set<number>();
    for (const length of [1, 2, 3, 4, 5]) {
      const prompt = PROMPT.slice(0, length);
      const { gates } = plainRelative(prompt, [], 6, values, plain);
      let running = 1;
      const stopped = gates.map((gate) => {
        running *= 1 - 1 / (1 + Math.exp(-gate.at(-1)!));
        return 1 - running;
      });
      for (const threshold of [0.3, 0.6, 0.9, 1]) {
        const at = stopped.findIndex((value) => value >= threshold);
        const depth = at < 0 ? 6 : at + 1;
        const { out } = await run(prompt, `q-exit:${threshold}`);
        const [line] = jsonLines(out) as [{ token: number; recurrences: number; exit: { values: number[] } }];
        expect(line).toMatchObject({ token: greedy(values, plain, prompt, depth, 1)[0]!, recurrences: depth });
        line.exit.values.forEach((value, i) => {
          expect(value).toBeCloseTo(stopped[i]!, 5);
        });
        depths.add(depth);
      }
    }
    expect(depths.size).toBeGreaterThan(2);
  });
});

it('keeps rows that cannot be joined as bf16', async () => {
  const [, plain, json] = cases[3]!;
  const folder = temporaryFolder();
  const tensors = [...randomWeights(plain)].map(
    ([name, { shape, data }]): TensorToWrite => ({ name, dtype: 'F32', shape, bytes: new Uint8Array(data.buffer) }),
  );
  await writeFile(join(folder, 'model.safetensors'), await encodeSafetensors(tensors));
  await writeFile(join(folder, 'config.json'), JSON.stringify(json));
  const { out } = await unroll(['convert', join(folder, 'q8'), '--model', folder, '--to', 'q8', '--verify', '--json']);
  // The two halves of an MLP of 20 rows have no whole blocks of 8; everything else does.
  expect(JSON.parse(out).verify.map(({ format, tensors: count }: { format: string; tensors: number }) => [format, count])).toEqual(
    expect.arrayContaining([
      ['bf16', 6],
      ['q8', 17],
    ]),
  );
  expect((await unroll(['generate', '--model', join(folder, 'q8'), '--tokens', '1,2', '-n', '2'])).code).toBe(0);
  await rm(folder, { recursive: true, force: true });
});
