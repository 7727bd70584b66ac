import { createCpuDevice } from '@unroll/tensor/cpu';
import fc from 'fast-check';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { candidates, keepCandidates } from '../src/filters.js';
import { applyPenalties, type LogitsProcessor } from '../src/penalties.js';
import { chooseTokens, type Request, type SamplingOptions } from '../src/sampling.js';

// Many runs on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

const device = createCpuDevice();
afterAll(() => device.dispose());

const plain: SamplingOptions = {
  temperature: 0,
  topK: undefined,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: undefined,
  processors: [],
  alternatives: 0,
  logprobs: true,
  where: 'auto',
};

const requests = (seed: number, n: number): Request[] =>
  Array.from({ length: n }, (_, position) => ({ seed, position, tokens: [], promptLength: 0 }));

/** The same logits at n positions. */
async function draw(logits: readonly number[], n: number, seed: number, options: Partial<SamplingOptions>): Promise<number[]> {
  const rows = device.tensor(
    Float32Array.from({ length: n * logits.length }, (_, i) => logits[i % logits.length]!),
    [n, logits.length],
  );
  const choices = await chooseTokens(rows, requests(seed, n), { ...plain, ...options }).finally(() => rows.dispose());
  return choices.map(({ token }) => token);
}

/** The exact distribution, written from the definitions and not from the code. */
function exact(
  logits: readonly number[],
  {
    temperature = 1,
    topK = logits.length,
    topP = 1,
    minP = 0,
  }: { temperature?: number; topK?: number | undefined; topP?: number; minP?: number },
): number[] {
  const weights = logits.map((logit) => Math.exp(logit / temperature));
  let ids = [...weights.keys()].sort((a, b) => weights[b]! - weights[a]! || a - b).slice(0, topK);
  const mass = (list: number[]) => list.reduce((sum, id) => sum + weights[id]!, 0);
  const total = mass(ids);
  ids = ids.filter((_, i) => mass(ids.slice(0, i)) < topP * total);
  ids = ids.filter((id) => weights[id]! >= minP * weights[ids[0]!]!);
  return weights.map((weight, id) => (ids.includes(id) ? weight / mass(ids) : 0));
}

const logits = [0.3, 2.1, -0.5, 1.7, 0.9, -2, 1.1, 0, -1, 1.9, 0.4, -0.2];

describe('sampling statistics', () => {
  it.each([
    { temperature: 1 },
    { temperature: 0.7 },
    { temperature: 1.9 },
    { temperature: 1, topK: 4 },
    { temperature: 1, topP: 0.8 },
    { temperature: 1, minP: 0.3 },
    { temperature: 1.3, topK: 7, topP: 0.9 },
    { temperature: 0.9, topK: 9, topP: 0.95, minP: 0.2 },
    { temperature: 1, topP: 0.85, where: 'host' as const },
  ])('follows the exact distribution: %j', async (options) => {
    const n = 20_000;
    const counts = new Array<number>(logits.length).fill(0);
    for (const token of await draw(logits, n, 11, options)) counts[token]!++;
    const p = exact(logits, options);
    let chi2 = 0;
    for (const [id, expected] of p.entries()) {
      if (expected === 0) expect(counts[id]).toBe(0);
      else chi2 += (counts[id]! - n * expected) ** 2 / (n * expected);
    }
    const freedom = p.filter((x) => x > 0).length - 1;
    // The 1 - 1e-4 quantile of chi-square by Wilson and Hilferty (1931).
    expect(chi2).toBeLessThan(freedom * (1 - 2 / (9 * freedom) + 3.72 * Math.sqrt(2 / (9 * freedom))) ** 3);
  });

  it('draws differently at every position and for every seed', async () => {
    const [a, b] = [await draw(logits, 200, 1, { temperature: 1 }), await draw(logits, 200, 2, { temperature: 1 })];
    expect(a).not.toEqual(b);
    expect(new Set(a).size).toBeGreaterThan(6);
    expect(await draw(logits, 200, 1, { temperature: 1 })).toEqual(a);
  });
});

describe('filters', () => {
  const ids = (scaled: number[], filters: Parameters<typeof keepCandidates>[1]) =>
    keepCandidates(candidates(Float32Array.from(scaled)), filters).map(({ id }) => id);

  it('top-p keeps the token that crosses p', () => {
    const scaled = [0.5, 0.3, 0.2].map(Math.log);
    expect(ids(scaled, { topP: 0.6, minP: 0 })).toEqual([0, 1]);
    expect(ids(scaled, { topP: 0.4, minP: 0 })).toEqual([0]);
    expect(ids(scaled, { topP: 0.81, minP: 0 })).toEqual([0, 1, 2]);
  });

  it('ties go to the smaller id, and at least one token stays', () => {
    expect(ids([1, 1, 1], { topK: 2, topP: 1, minP: 0 })).toEqual([0, 1]);
    expect(ids([1, 3, 2], { topP: 1e-12, minP: 1 })).toEqual([1]);
  });

  it('top-k comes before top-p: its mass is counted among the k', () => {
    expect(ids([0.4, 0.3, 0.2, 0.1].map(Math.log), { topK: 2, topP: 0.6, minP: 0 })).toEqual([0, 1]);
    expect(ids([0.4, 0.3, 0.2, 0.1].map(Math.log), { topK: 2, topP: 0.57, minP: 0 })).toEqual([0]);
  });
});

describe('device and host', () => {
  it('choose the same tokens', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.float({ min: -20, max: 20, noNaN: true }), { minLength: 1, maxLength: 90 }),
        fc.constantFrom(0, 0.1, 0.7, 1, 3),
        fc.option(fc.integer({ min: 1, max: 90 }), { nil: undefined }),
        fc.constantFrom(0.2, 0.9, 1),
        fc.constantFrom(0, 0.1),
        fc.integer({ min: 0, max: 2 ** 40 }),
        async (values, temperature, topK, topP, minP, seed) => {
          const options = { temperature, topK: topK === undefined ? undefined : Math.min(topK, values.length), topP, minP };
          expect(await draw(values, 3, seed, { ...options, where: 'auto' })).toEqual(
            await draw(values, 3, seed, { ...options, where: 'host' }),
          );
        },
      ),
      { numRuns: 200 },
    );
    expect(device.memory().buffers).toBe(0);
  });
});

describe('penalties, biases, processors', () => {
  const context = { tokens: [1, 2, 2, 3], promptLength: 2 };
  const none = { repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0, logitBias: undefined };
  const applied = (options: Partial<typeof none>) => {
    const row = Float32Array.of(1, 2, -3, 4);
    applyPenalties(row, context, { ...none, ...options });
    return [...row];
  };

  it('repetition divides positive and multiplies negative logits of prompt and text, once per token', () => {
    expect(applied({ repetitionPenalty: 2 })).toEqual([1, 1, -6, 2]);
  });

  it('presence and frequency count the generated text alone', () => {
    expect(applied({ presencePenalty: 0.5 })).toEqual([1, 2, -3.5, 3.5]);
    expect(applied({ frequencyPenalty: 1 })).toEqual([1, 2, -4, 3]);
  });

  it('a bias of -Infinity bans a token; a processor sees what biases left and decides', async () => {
    expect(await draw([1, 5, 2], 3, 0, { logitBias: new Map([[1, Number.NEGATIVE_INFINITY]]) })).toEqual([2, 2, 2]);
    const seen: number[][] = [];
    const processors: LogitsProcessor[] = [
      (row) => {
        seen.push([...row]);
        row[0] = 100;
      },
      (row) => row.map((x) => -x),
    ];
    expect(await draw([1, 5, 2], 1, 0, { logitBias: new Map([[1, -1]]), processors })).toEqual([2]);
    expect(seen).toEqual([[1, 4, 2]]);
  });

  it('refuses a processor that returns something else, and one that leaves nothing', async () => {
    await expect(draw([1, 2], 1, 0, { processors: [() => new Float32Array(3)] })).rejects.toThrow(/of as many/);
    await expect(draw([1, 2], 1, 0, { processors: [(row) => void row.fill(Number.NEGATIVE_INFINITY)] })).rejects.toThrow(/leave no token/);
  });
});

describe('what is reported', () => {
  it('log-probability before temperature and filters, and the best alternatives', async () => {
    const rows = device.tensor(logits, [1, logits.length]);
    const [choice] = await chooseTokens(rows, requests(3, 1), { ...plain, temperature: 2, topK: 2, alternatives: 3 });
    rows.dispose();
    const p = exact(logits, {});
    expect(choice!.logprob).toBeCloseTo(Math.log(p[choice!.token]!), 5);
    expect(choice!.alternatives!.map(({ token }) => token)).toEqual([1, 9, 3]);
    expect(choice!.alternatives![2]!.logprob).toBeCloseTo(Math.log(p[3]!), 5);
  });

  it('logits that are not numbers are an error that names the position', async () => {
    await expect(draw([1, Number.NaN, 2], 2, 0, {})).rejects.toThrow(/position 0 are not numbers/);
    await expect(draw([1, Number.NaN, 2], 1, 0, { temperature: 1, where: 'host' })).rejects.toThrow(/not numbers/);
    for (const how of [
      {},
      { topK: 2 },
      { topP: 0.5 },
      { repetitionPenalty: 1.1 },
      { where: 'host' },
      { temperature: 0, where: 'host' },
    ] as const) {
      const rows = { temperature: 1, logprobs: false, ...how };
      await expect(draw([1, Number.NaN, 2], 2, 0, rows), JSON.stringify(how)).rejects.toThrow(/position 0 are not numbers/);
      await expect(draw([Number.NaN, 1, 2, 3], 1, 0, rows), JSON.stringify(how)).rejects.toThrow(/not numbers/);
    }
    expect(device.memory().buffers).toBe(0);
  });
});
