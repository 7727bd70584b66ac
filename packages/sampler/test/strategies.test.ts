import { parseKVPolicy } from '@unroll/nn';
import { createCpuDevice } from '@unroll/tensor/cpu';
import fc from 'fast-check';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { acceleration, argmaxStability, cosine, customExit, entropyDiff, generateBatch, kl, latentDiff, minpKl } from '../src/index.js';
import { all, run, tinyModel, tokensOf } from './support.js';

// Many runs on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

const device = createCpuDevice();
afterAll(() => device.dispose());

const prompts = fc.array(fc.integer({ min: 0, max: 23 }), { minLength: 1, maxLength: 9 });
const sampling = fc.constantFrom(
  {},
  { temperature: 1 },
  { temperature: 1.5, topK: 6, topP: 0.9 },
  { temperature: 0.8, repetitionPenalty: 1.3, frequencyPenalty: 0.2 },
);

describe('speculative decoding', () => {
  it('gives the plain text, greedy and sampled', async () => {
    let [drafted, accepted] = [0, 0];
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1e6 }),
        prompts,
        fc.record({
          depth: fc.integer({ min: 2, max: 8 }),
          draft: fc.integer({ min: 1, max: 8 }),
          lookahead: fc.integer({ min: 1, max: 6 }),
          reuseDrafts: fc.boolean(),
          maxNewTokens: fc.integer({ min: 1, max: 14 }),
        }),
        sampling,
        fc.constantFrom(undefined, 'full', 'latest', 'skip'),
        async (seed, prompt, { depth, draft, lookahead, reuseDrafts, maxNewTokens }, how, policy) => {
          const model = tinyModel(device, seed % 5);
          const before = device.memory().buffers;
          const options = { model, prompt, seed, recurrences: depth, maxNewTokens, ...how };
          const plain = await run(options);
          const speculative = { draftRecurrences: Math.min(draft, depth), lookahead, reuseDrafts };
          const fast = await run({ ...options, speculative, ...(policy === undefined ? {} : { policy: parseKVPolicy(policy) }) });
          expect(tokensOf(fast)).toEqual(tokensOf(plain));
          expect(fast.map(({ logprob }) => logprob)).toEqual(plain.map(({ logprob }) => logprob));
          const { report } = fast[fast.length - 1]!;
          expect(fast.filter((item) => item.drafted).length).toBeLessThanOrEqual(report!.speculation!.accepted);
          drafted += report!.speculation!.drafted;
          accepted += report!.speculation!.accepted;
          expect(report!.cache.tokens).toBe(prompt.length + maxNewTokens - 1);
          expect(device.memory().buffers).toBe(before);
          model.dispose();
        },
      ),
      { numRuns: 60 },
    );
    // Both outcomes must have been met.
    expect(accepted).toBeGreaterThan(50);
    expect(accepted).toBeLessThan(drafted);
  });

  it('a fully accepted round gives a token more: drafts at full depth are always right', async () => {
    const model = tinyModel(device);
    const items = await run({
      model,
      prompt: [1, 2],
      recurrences: 4,
      maxNewTokens: 11,
      temperature: 1,
      speculative: { draftRecurrences: 4, lookahead: 4 },
    });
    expect(items.map(({ drafted }) => drafted)).toEqual([false, true, true, true, true, false, true, true, true, true, false]);
    expect(items[10]!.report!.speculation).toEqual({ rounds: 2, drafted: 8, accepted: 8 });
    expect(items[10]!.report!.corePasses).toBe(4 + 8 * 4 + 2 * 4);
    model.dispose();
  });

  it('reused drafts save their recurrences in the verification', async () => {
    const model = tinyModel(device);
    const options = { model, prompt: [1, 2], recurrences: 6, maxNewTokens: 9, temperature: 1 };
    const items = await run({ ...options, speculative: { draftRecurrences: 6, lookahead: 4, reuseDrafts: true } });
    expect(items[8]!.report).toMatchObject({ speculation: { rounds: 2, drafted: 8, accepted: 8 }, corePasses: 6 + 8 * 6 });
    const loose = { draftRecurrences: 2, lookahead: 3, threshold: 0.5 };
    const [anew, reused] = [
      await run({ ...options, speculative: loose }),
      await run({ ...options, speculative: { ...loose, reuseDrafts: true } }),
    ];
    expect(tokensOf(reused)).toEqual(tokensOf(anew));
    const rounds = anew[8]!.report!.speculation!.rounds;
    expect(anew[8]!.report!.corePasses - reused[8]!.report!.corePasses).toBe(2 * rounds);
    model.dispose();
  });

  it('threshold 0 accepts every draft: the text of the draft depth', async () => {
    const model = tinyModel(device, 3);
    const options = { model, prompt: [4, 5, 6], maxNewTokens: 9 };
    const loose = await run({ ...options, recurrences: 6, speculative: { draftRecurrences: 1, lookahead: 4, threshold: 0 } });
    expect(loose.slice(1).every(({ drafted }) => drafted)).toBe(true);
    const strict = await run({ ...options, recurrences: 6, speculative: { draftRecurrences: 1, lookahead: 4, threshold: 1 } });
    expect(tokensOf(strict)).toEqual(tokensOf(await run({ ...options, recurrences: 6 })));
    model.dispose();
  });
});

describe('adaptive exit', () => {
  const model = tinyModel(device, 7);
  const options = { model, prompt: [3, 9, 4, 4], maxNewTokens: 6, seed: 5, recurrences: 12 };
  const rules = [latentDiff, cosine, acceleration, entropyDiff, kl, minpKl, argmaxStability];

  it.each(rules.map((rule) => [rule().name, rule] as const))('%s: a rule that never exits gives the plain text', async (_, rule) => {
    const plain = await run({ ...options, policy: parseKVPolicy('latest') });
    const adaptive = await run({ ...options, exit: rule({ threshold: rule === argmaxStability ? 1e9 : -1 }) });
    expect(tokensOf(adaptive)).toEqual(tokensOf(plain));
    expect(adaptive.map(({ logprob }) => logprob)).toEqual(plain.map(({ logprob }) => logprob));
    expect(adaptive.every(({ recurrences, exit }) => recurrences === 12 && exit!.value === undefined && exit!.values.length === 12)).toBe(
      true,
    );
  });

  it.each(rules.map((rule) => [rule().name, rule] as const))(
    '%s: a rule that always exits stops at the first check allowed',
    async (name, rule) => {
      const controls = { threshold: rule === argmaxStability ? 0 : 1e9, minRecurrences: 3, every: 2 };
      const items = await run({ ...options, exit: rule(controls) });
      expect(items.map(({ recurrences }) => recurrences)).toEqual(new Array(6).fill(name === 'acceleration' ? 5 : 3));
      const decodeOnly = await run({ ...options, exit: rule({ ...controls, inPrefill: false }) });
      expect(decodeOnly.map(({ recurrences }) => recurrences)).toEqual([12, ...new Array(5).fill(name === 'acceleration' ? 5 : 3)]);
    },
  );

  it('NaN never exits', async () => {
    const items = await run({ ...options, maxNewTokens: 1, initScale: 0, exit: cosine({ threshold: 1e9 }) });
    expect(items[0]!.exit!.values[0]).toBeNaN();
    expect(items[0]!.recurrences).toBe(2);
  });

  it('values follow the formulas', async () => {
    const states: Float32Array[] = [];
    const seen = customExit({
      name: 'seen',
      begin: () => ({
        check: async ({ state }) => {
          states.push((await state.data()) as Float32Array);
          return { value: 0, exit: false };
        },
      }),
    });
    const one = { ...options, prompt: [3], maxNewTokens: 1, recurrences: 4, initScale: 0 };
    await run({ ...one, exit: seen });
    const norm = (x: Float32Array) => Math.hypot(...x);
    const zero = new Float32Array(32);
    const s = [zero, ...states];
    const d = [zero, ...states.map((x, i) => x.map((v, c) => v - s[i]![c]!))];
    const expected = states.map((x, i) => norm(d[i + 1]!.map((v, c) => v - d[i]![c]!)) / norm(x));
    const values = (await run({ ...one, exit: acceleration({ threshold: -1 }) }))[0]!.exit!.values;
    expected.forEach((value, i) => expect(values[i]).toBeCloseTo(value, 4));
    const diffs = (await run({ ...one, exit: latentDiff({ threshold: -1 }) }))[0]!.exit!.values;
    states.forEach((x, i) => expect(diffs[i]).toBeCloseTo(norm(d[i + 1]!) / norm(x), 4));
  });

  it("acceleration needs two hits in a row; a rule of one's own decides alone", async () => {
    const own = customExit({
      name: 'third',
      begin: () => ({ check: ({ recurrence }) => ({ value: recurrence, exit: recurrence === 3 }) }),
    });
    const items = await run({ ...options, exit: own });
    expect(items.every(({ recurrences, exit }) => recurrences === 3 && exit!.rule === 'third' && exit!.value === 3)).toBe(true);
  });
});

describe('batch', () => {
  const strategies = fc.constantFrom(
    {},
    { warmStart: 'norm-state' as const },
    { warmStart: 'state' as const, exit: latentDiff({ threshold: 0.3 }) },
    { exit: latentDiff({ threshold: 0.25 }) },
    { exit: kl({ threshold: 0.02, every: 2 }) },
    { exit: entropyDiff({ threshold: 0.02, inPrefill: false }) },
    { recurrences: (index: number) => 1 + (index % 4) },
    { policy: parseKVPolicy('compress-s2') },
    { exit: argmaxStability({ threshold: 2 }), policy: parseKVPolicy('always-last') },
    { policy: parseKVPolicy('last-only') },
  );

  it('gives each prompt the text it has alone, bit for bit', async () => {
    const depths = new Set<number>();
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1e6 }),
        fc.array(prompts, { minLength: 1, maxLength: 4 }),
        strategies,
        sampling,
        fc.integer({ min: 1, max: 2 }),
        async (seed, list, strategy, how, samples) => {
          const model = tinyModel(device, seed % 4);
          const before = device.memory().buffers;
          const options = { model, seed, maxNewTokens: 6, recurrences: 7, stopTokens: [2, 3], ...strategy, ...how };
          const batch = await all(generateBatch({ ...options, prompts: list, samples }));
          expect(device.memory().buffers).toBe(before);
          for (const [prompt, tokens] of list.entries()) {
            for (let sample = 0; sample < samples; sample++) {
              const alone = await run({ ...options, prompt: tokens, seed: seed + sample, stateSeed: seed });
              const own = batch.filter((item) => item.prompt === prompt && item.sample === sample);
              const essence = ({ token, logprob, recurrences, exit, finish }: (typeof alone)[number]) => ({
                token,
                logprob,
                recurrences,
                exit,
                finish,
              });
              expect(own.map(essence)).toEqual(alone.map(essence));
              for (const { recurrences } of own) depths.add(recurrences);
            }
          }
          model.dispose();
        },
      ),
      { numRuns: 60 },
    );
    expect(depths.size).toBeGreaterThan(4);
  });

  it('finished rows leave the batch, and samples share a prefill', async () => {
    const model = tinyModel(device, 2);
    let positions = 0;
    const hook = (event: { positions: Int32Array }) => {
      positions += event.positions.length;
      return undefined;
    };
    const items = await all(
      generateBatch({ model, prompts: [[1, 2, 3]], samples: 4, maxNewTokens: 3, recurrences: 2, temperature: 1, hook }),
    );
    expect(positions).toBe(2 * (3 + 4 * 2));
    expect(items[items.length - 1]!.report!.corePositions).toBe(positions);
    positions = 0;
    const stop = items.filter(({ sample }) => sample === 0)[0]!.token;
    const others = items.filter(({ sample, token }, i) => i < 4 && sample > 0 && token !== stop).length;
    await all(
      generateBatch({ model, prompts: [[1, 2, 3]], samples: 4, maxNewTokens: 2, recurrences: 2, temperature: 1, stopTokens: [stop], hook }),
    );
    expect(positions).toBe(2 * (3 + others));
    model.dispose();
  });
});

describe('wavefront', () => {
  it('is deterministic by seed, trims to the limit and balances memory under every option', async () => {
    let settled = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1e6 }),
        prompts,
        fc.record({
          innerRecurrences: fc.integer({ min: 1, max: 5 }),
          headway: fc.integer({ min: 1, max: 3 }),
          maxWavefront: fc.integer({ min: 2, max: 9 }),
          freeze: fc.constantFrom(
            'latent-diff' as const,
            'latent-acceleration-1' as const,
            'latent-acceleration-2' as const,
            'token-stability' as const,
            'fixed' as const,
          ),
          threshold: fc.constantFrom(0.3, 0.6, 2),
          emaEmbeds: fc.constantFrom(0, 0.1, 0.5),
          stateNoise: fc.constantFrom(0, 0.5),
          continuous: fc.boolean(),
        }),
        fc.constantFrom({}, { temperature: 1 }),
        async (seed, prompt, wavefront, how) => {
          const model = tinyModel(device, seed % 3, { block_size: 24 });
          const before = device.memory().buffers;
          const maxNewTokens = 24 - prompt.length;
          const options = { model, prompt, seed, recurrences: 6, maxNewTokens, wavefront: { ...wavefront, maxRounds: 400 }, ...how };
          const outcome = await run(options).catch((error: Error) => error.message);
          expect(device.memory().buffers).toBe(before);
          if (typeof outcome === 'string') expect(outcome).toMatch(/has not settled in 400 rounds.*lower wavefront.stateNoise/);
          else {
            expect(outcome.length).toBe(maxNewTokens);
            const { wavefront: report, corePasses } = outcome[outcome.length - 1]!.report!;
            expect(corePasses).toBe(6 + report!.rounds * wavefront.innerRecurrences);
            expect(report!.recurrencesPerPosition.length).toBeGreaterThanOrEqual(24);
            // One round for each new token, in their order.
            const frozen = report!.frozenInRound;
            expect(frozen.length).toBe(maxNewTokens);
            expect(frozen[0]).toBe(0);
            expect([...frozen].sort((a, b) => a - b)).toEqual(frozen);
            expect(frozen[frozen.length - 1]).toBe(report!.rounds);
            expect(tokensOf(await run(options))).toEqual(tokensOf(outcome));
            settled++;
          }
          model.dispose();
        },
      ),
      { numRuns: 60 },
    );
    expect(settled).toBeGreaterThan(30);
  });

  it.each([
    [1, [0, 5, 6, 7, 8, 9]],
    [2, [0, 5, 5, 6, 6, 7]],
  ])('frozen by count with headway %i, tells the round in which each token became final', async (headway, rounds) => {
    const model = tinyModel(device, 5);
    // 6 / 2 rounds are waited for, and the one behind them.
    const wavefront = { innerRecurrences: 2, headway, freeze: 'fixed' as const };
    const items = await run({ model, prompt: [1, 2, 3], recurrences: 6, maxNewTokens: 6, stopTokens: [], wavefront });
    expect(items[5]!.report!.wavefront!.frozenInRound).toEqual(rounds);
    model.dispose();
  });

  it('ends at a frozen stop token and drops what follows', async () => {
    const model = tinyModel(device, 5);
    const options = {
      model,
      prompt: [1, 2, 3],
      recurrences: 8,
      maxNewTokens: 20,
      temperature: 1,
      seed: 4,
      wavefront: { freeze: 'fixed' as const, stateNoise: 0 },
    };
    const free = await run(options);
    const stop = free[5]!.token;
    const stopped = await run({ ...options, stopTokens: [stop] });
    const first = free.findIndex(({ token }) => token === stop);
    expect(tokensOf(stopped)).toEqual(tokensOf(free).slice(0, first + 1));
    expect(stopped[first]!.finish).toBe('stop-token');
    model.dispose();
  });
});
