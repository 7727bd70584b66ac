import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { bytesSource, encodeSafetensors, fromFloat32, openSafetensors, type TensorToWrite, toFloat32 } from '@unroll/checkpoint';
import { parameterShapes, parseRecurrentConfig } from '@unroll/recurrent';
import { describe, expect, it } from 'vitest';
import { compare } from '../src/parity/check.js';
import { planFor } from '../src/parity/strategies.js';
import { adderWithExpected, jsonLines, SHARED_FIXTURES, temporaryFolder, unroll } from './support.js';

type Line = { name: string; kind: string; status: string; maxError: number | null; ms: number };
interface Expected {
  meta: Record<string, unknown>;
  generations: Record<string, Record<string, unknown>>;
}

const readExpected = async (folder: string): Promise<Expected> =>
  JSON.parse(await readFile(join(folder, 'expected.json'), 'utf8')) as Expected;

async function tensorsOf(path: string): Promise<TensorToWrite[]> {
  const file = await openSafetensors(bytesSource(new Uint8Array(await readFile(path)), basename(path)));
  return Promise.all([...file.entries].map(async ([name, { dtype, shape }]) => ({ name, dtype, shape, bytes: await file.read(name) })));
}

/** The names that there must be a check for, from the files alone. */
async function expectedNames(folder: string): Promise<string[]> {
  const tensors = (await tensorsOf(join(folder, 'expected.safetensors'))).map(({ name }) => name);
  const { generations } = await readExpected(folder);
  const fields = Object.entries(generations).flatMap(([name, record]) => {
    const windowed = /^(speculative|diffusion)/.test(name);
    return Object.keys(record).flatMap((field) =>
      field === 'args' || (windowed && field.startsWith('cache_')) ? [] : [`${name}.${field}`],
    );
  });
  return [...tensors, ...fields];
}

async function parity(
  folder: string,
  ...more: string[]
): Promise<{ code: number; checks: Line[]; totals: Record<string, unknown>; err: string }> {
  const { code, out, err } = await unroll(['parity', folder, '--json', ...more]);
  const lines = jsonLines(out);
  return { code, err, checks: lines.slice(0, -1) as unknown as Line[], totals: lines[lines.length - 1]! };
}

describe('parity with the reference', () => {
  it.each([...SHARED_FIXTURES, 'own'])(
    '%s',
    async (path) => {
      const folder = path === 'own' ? await adderWithExpected() : path;
      const { code, checks, totals } = await parity(folder);
      expect(checks.filter(({ status }) => status === 'fail')).toEqual([]);
      expect(checks.filter(({ status }) => status === 'unsupported')).toEqual([]);
      expect(checks.filter(({ kind }) => kind === 'gradient').length).toBeGreaterThanOrEqual(4);
      expect(checks.map(({ name }) => name).sort()).toEqual((await expectedNames(folder)).sort());
      for (const check of checks) expect(Object.keys(check)).toEqual(['name', 'kind', 'status', 'maxError', 'ms']);
      const losses = totals.losses as { status: string }[];
      expect(losses.length).toBeGreaterThanOrEqual(4);
      expect(losses.every(({ status }) => status === 'pass')).toBe(true);
      expect(totals).toMatchObject({ total: checks.length, fail: 0, device: 'cpu' });
      expect(code).toBe(0);
    },
    120_000,
  );

  it.each(SHARED_FIXTURES)(
    '%s: weights in bf16 give, bit for bit, what the same values in F32 give',
    async (folder) => {
      const wide = temporaryFolder();
      const tensors = await tensorsOf(join(folder, 'model-bf16.safetensors'));
      expect(tensors.some(({ dtype }) => dtype === 'BF16')).toBe(true);
      await writeFile(
        join(wide, 'model.safetensors'),
        await encodeSafetensors(
          tensors.map((tensor) => ({
            ...tensor,
            dtype: 'F32' as const,
            bytes: fromFloat32(toFloat32(tensor.bytes as Uint8Array, tensor.dtype), 'F32'),
          })),
        ),
      );
      const narrow = temporaryFolder();
      await copyFile(join(folder, 'model-bf16.safetensors'), join(narrow, 'model.safetensors'));
      const outputs: Buffer[] = [];
      for (const each of [wide, narrow]) {
        for (const file of ['config.json', 'expected.safetensors']) await copyFile(join(folder, file), join(each, file));
        await parity(each, '--out', join(each, 'out'));
        outputs.push(await readFile(join(each, 'out', 'actual.safetensors')));
      }
      expect(outputs[0]!.length).toBeGreaterThan(10_000);
      expect(outputs[0]!.equals(outputs[1]!)).toBe(true);
    },
    60_000,
  );
});

describe('what parity notices', () => {
  async function changed(change: (expected: Expected, tensors: Map<string, Float32Array>) => void): Promise<string> {
    const folder = await adderWithExpected();
    const tensors = await tensorsOf(join(folder, 'expected.safetensors'));
    const floats = new Map(
      tensors.flatMap(({ name, dtype, bytes }) => (dtype === 'F32' ? [[name, toFloat32(bytes as Uint8Array, 'F32')] as const] : [])),
    );
    const expected = await readExpected(folder);
    change(expected, floats);
    const written = [
      ...tensors.filter(({ dtype }) => dtype !== 'F32'),
      ...[...floats].map(([name, values]): TensorToWrite => {
        const shape = tensors.find((tensor) => tensor.name === name)?.shape ?? [values.length];
        return { name, dtype: 'F32', shape, bytes: fromFloat32(values, 'F32') };
      }),
    ];
    await writeFile(join(folder, 'expected.safetensors'), await encodeSafetensors(written));
    await writeFile(join(folder, 'expected.json'), JSON.stringify(expected));
    return folder;
  }
  const failing = ({ checks }: { checks: Line[] }) => checks.filter(({ status }) => status === 'fail').map(({ name }) => name);

  it('one wrong value of one tensor, and by how much', async () => {
    const result = await parity(await changed((_, tensors) => (tensors.get('logits_r4')![5]! += 0.01)));
    expect(failing(result)).toEqual(['logits_r4']);
    expect(result.checks.find(({ name }) => name === 'logits_r4')!.maxError).toBeCloseTo(0.01, 4);
    expect(result.code).toBe(1);
    expect(result.err).toContain('logits_r4: value 5 is');
  });

  it('a value that is just outside the tolerance, and not one just inside', async () => {
    const off = (by: number) => changed((_, tensors) => (tensors.get('trajectory')![100]! += by));
    expect(failing(await parity(await off(0.0004)))).toEqual(['trajectory']);
    expect(failing(await parity(await off(0.00015)))).toEqual([]);
  });

  it('a wrong token, depth, exit value and count', async () => {
    const result = await parity(
      await changed(({ generations }) => {
        (generations.minimal_r4!.tokens as number[])[15] = 1;
        generations.minimal_r4!.cache_bytes = 1;
        (generations['adaptive_entropy-diff_latest-m4']!.steps as number[])[3]! += 1;
        (generations['adaptive_entropy-diff_latest-m4']!.exit_values_first_token as number[])[1]! += 0.001;
      }),
    );
    expect(failing(result).sort()).toEqual(
      [
        'adaptive_entropy-diff_latest-m4.exit_values_first_token',
        'adaptive_entropy-diff_latest-m4.steps',
        'minimal_r4.cache_bytes',
        'minimal_r4.tokens',
      ].sort(),
    );
  });

  it('a loss that does not follow from the logits', async () => {
    const { code, totals } = await parity(await changed(({ meta }) => ((meta.loss as Record<string, number>)['4']! += 0.01)));
    expect(code).toBe(1);
    expect(totals).toMatchObject({ fail: 0, failedLosses: 1 });
    expect((totals.losses as { name: string; status: string }[]).filter(({ status }) => status === 'fail').map(({ name }) => name)).toEqual(
      ['meta.loss.4'],
    );
  });

  it('a generation without a prompt, with the totals all the same', async () => {
    const { code, err, totals, checks } = await parity(await changed(({ meta }) => delete meta.prompt));
    expect([code, err]).toEqual([1, expect.stringContaining('meta.prompt must be a list of token ids')]);
    expect(totals.fail).toBe(failing({ checks }).length);
    expect(failing({ checks })).toContain('minimal_r4.tokens');
  });

  it('a wrong count, without taking it for a rounding error', async () => {
    const { totals } = await parity(await changed(({ generations }) => (generations.minimal_r4!.cache_bytes = 1)));
    expect(totals.fail).toBe(1);
    expect(totals.maxError as number).toBeLessThan(0.01);
  });

  it('follows min_steps and every as the reference counts them', () => {
    const args = { criterion: 'kl', max_steps: 8, min_steps: 3, every: 2 };
    expect(planFor({ args }).exit).toMatchObject({ minRecurrences: 4, every: 2, inPrefill: true });
  });

  it('says of what it does not know that it is unsupported', async () => {
    const result = await parity(
      await changed(({ generations }, tensors) => {
        tensors.set('surprise', new Float32Array(3));
        generations.novel = { args: { num_steps: 4, sorcery: true }, tokens: [1, 2] };
        generations.minimal_r4!.mood = 3;
      }),
    );
    const unsupported = result.checks.filter(({ status }) => status === 'unsupported').map(({ name }) => name);
    expect(unsupported.sort()).toEqual(['minimal_r4.mood', 'novel.tokens', 'surprise']);
    expect(result.err).toContain('args.sorcery');
    expect(result.code).toBe(0);
  });

  it('nothing about the tokenizer, which it does not need', async () => {
    const folder = await adderWithExpected();
    await writeFile(join(folder, 'tokenizer.json'), '{"model": "strange"}');
    expect((await parity(folder)).code).toBe(0);
  });

  it('prints a line for people', async () => {
    const { out } = await unroll(['parity', await adderWithExpected()]);
    expect(out).toMatch(/^pass +\S+ +(\d+ ms)? +logits_r4$/m);
    expect(out).toMatch(/\d+ checks on cpu: \d+ passed, 0 failed, \d+ unsupported; largest error/);
  });
});

describe('--out', () => {
  it('writes what was computed, under the names of the expected files', async () => {
    const folder = await adderWithExpected();
    const out = join(temporaryFolder(), 'deep', 'er');
    await parity(folder, '--out', out);
    const actual = await tensorsOf(join(out, 'actual.safetensors'));
    const wanted = await tensorsOf(join(folder, 'expected.safetensors'));
    expect(actual.map(({ name, dtype, shape }) => ({ name, dtype, shape })).sort((a, b) => (a.name < b.name ? -1 : 1))).toEqual(
      wanted.map(({ name, dtype, shape }) => ({ name, dtype, shape })).sort((a, b) => (a.name < b.name ? -1 : 1)),
    );
    const json = JSON.parse(await readFile(join(out, 'actual.json'), 'utf8')) as Expected;
    const expected = await readExpected(folder);
    expect(Object.keys(json.generations)).toEqual(Object.keys(expected.generations));
    for (const [name, record] of Object.entries(expected.generations)) {
      expect(Object.keys(json.generations[name]!)).toEqual(Object.keys(record));
      expect(json.generations[name]!.tokens).toEqual((record.tokens as number[]).slice(0, 16));
    }
    // A cosine against the zero state is 0 / 0, which JSON writes as null.
    expect((json.generations['adaptive_cosine_always-last-m4']!.exit_values_first_token as unknown[])[0]).toBeNull();
    expect(json.meta.prompt).toEqual(expected.meta.prompt);
  });

  it('says what is wrong with the folder', async () => {
    const folder = await adderWithExpected();
    const { code, err } = await unroll(['parity', folder, '--out', join(folder, 'config.json', 'x')]);
    expect([code, err]).toEqual([1, expect.stringMatching(/^error --out ".*" cannot be written: /)]);
  });
});

describe('other sizes', () => {
  // Nothing of the format may be built in: batch, length, layers, widths, heads, vocabulary, depths and arguments all differ here.
  it('computes a folder of another model, and agrees with itself', async () => {
    const folder = temporaryFolder();
    const config = {
      n_embd: 24,
      num_attention_heads: 3,
      intermediate_size: 20,
      vocab_size: 37,
      block_size: 40,
      n_layers_in_prelude: 2,
      n_layers_in_recurrent_block: 3,
      n_layers_in_coda: 0,
      mean_recurrence: 5,
      norm_eps: 1e-6,
      tie_embeddings: false,
      qk_bias: true,
    };
    let seed = 1;
    const random = () => {
      seed = (seed * 16807) % 2147483647;
      return seed / 2147483647 - 0.5;
    };
    const make = (name: string, shape: readonly number[]): TensorToWrite => {
      const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random());
      return { name, shape, dtype: 'F32', bytes: fromFloat32(values, 'F32') };
    };
    await writeFile(join(folder, 'config.json'), JSON.stringify(config));
    const weights = [...parameterShapes(parseRecurrentConfig(config))].map(([name, shape]) => make(name, shape));
    await writeFile(join(folder, 'model.safetensors'), await encodeSafetensors(weights));
    const [B, T, C, V] = [3, 5, 24, 37];
    const ids = Int32Array.from({ length: B * T }, (_, i) => (i * 7) % V);
    const shapes: Record<string, number[]> = {
      initial_state: [B, T, C],
      prelude_output: [B, T, C],
      logits_r3: [B, T, V],
      latents_r3: [B, T, C],
      latents_r6: [B, T, C],
      logits_zero_r2: [B, T, V],
      trajectory: [4, T, C],
    };
    const skeleton = Object.entries(shapes).map(([name, shape]) => make(name, shape));
    const input: TensorToWrite = { name: 'input_ids', dtype: 'I32', shape: [B, T], bytes: new Uint8Array(ids.buffer) };
    await writeFile(join(folder, 'expected.safetensors'), await encodeSafetensors([...skeleton, input]));
    const expected = {
      meta: { loss: { 2: 0, 7: 0 }, prompt: [3, 1, 4] },
      generations: {
        a: { args: { num_steps: 3 }, tokens: [0, 0, 0, 0, 0, 0], cache_steps: 0 },
        b: {
          args: { num_steps: 4, cache_lookup_strategy: 'always-last-m3-compress-s6' },
          tokens: new Array(9).fill(0),
          cache_bytes: 0,
          cache_tokens: 0,
        },
        c: {
          args: { criterion: 'latent-diff', threshold: 0.4, max_steps: 7, lookup: 'latest-m3' },
          tokens: [0, 0, 0, 0],
          steps: [0, 0, 0, 0],
          exit_values_first_token: [0],
        },
        d: { args: { num_steps: 6, draft_steps: 2, lookahead_for_draft: 3 }, tokens: new Array(20).fill(0) },
        e: {
          args: {
            num_steps: 4,
            inner_recurrence: 2,
            freeze_strategy: 'fixed',
            ema_embeds: 0,
            state_noise_mixing: 0,
            headway: 2,
            max_wavefront: 4,
            max_diffusion_steps: 100,
            cache_lookup_strategy: 'latest-m3-compress-s3',
          },
          tokens: new Array(5).fill(0),
          num_core_forward_passes: 0,
          recurrence_per_position: [0],
        },
      },
    };
    await writeFile(join(folder, 'expected.json'), JSON.stringify(expected));
    const out = join(folder, 'out');
    const first = await parity(folder, '--out', out);
    expect(first.code).toBe(1);
    expect(first.checks.map(({ name }) => name).sort()).toEqual(
      [
        ...Object.keys(shapes),
        'input_ids',
        ...Object.entries(expected.generations).flatMap(([name, record]) =>
          Object.keys(record).flatMap((field) => (field === 'args' ? [] : [`${name}.${field}`])),
        ),
      ].sort(),
    );
    await copyFile(join(out, 'actual.safetensors'), join(folder, 'expected.safetensors'));
    await copyFile(join(out, 'actual.json'), join(folder, 'expected.json'));
    const second = await parity(folder);
    expect(second.checks.filter(({ status }) => status !== 'pass')).toEqual([]);
    expect(second.totals).toMatchObject({ fail: 0, unsupported: 0, maxError: 0 });
    const computed = await readExpected(folder);
    const tokens = (name: string) => computed.generations[name]!.tokens as number[];
    expect([tokens('a').length, tokens('b').length, tokens('c').length, tokens('d').length]).toEqual([6, 9, 4, 16]);
    expect(computed.generations.a!.cache_steps).toBe(2 + 3 * 3);
    expect(Object.keys(computed.meta.loss as object)).toEqual(['2', '7']);
  }, 60_000);
});

describe('comparing', () => {
  const tolerance = { absolute: 0.1, relative: 0.01 };
  it.each<[string, number[], number[], string, number | null]>([
    ['equal', [1, 2], [1, 2], 'pass', 0],
    ['within', [1.05, 101], [1, 100], 'pass', 1],
    ['outside', [1.2], [1], 'fail', 0.2],
    ['NaN equals NaN', [Number.NaN], [Number.NaN], 'pass', 0],
    ['NaN is no number', [Number.NaN], [1], 'fail', null],
    ['a number is no NaN', [1], [Number.NaN], 'fail', null],
    ['infinity equals itself', [Number.POSITIVE_INFINITY], [Number.POSITIVE_INFINITY], 'pass', 0],
    ['infinity is no number', [Number.POSITIVE_INFINITY], [1], 'fail', null],
    ['a number is no infinity', [1], [Number.POSITIVE_INFINITY], 'fail', null],
    ['lengths', [1], [1, 2], 'fail', null],
  ])('%s', (_, actual, expected, status, maxError) => {
    const result = compare(actual, expected, tolerance);
    expect(result.status).toBe(status);
    if (maxError === null) expect(result.maxError).toBeNull();
    else expect(result.maxError).toBeCloseTo(maxError, 9);
  });
});
