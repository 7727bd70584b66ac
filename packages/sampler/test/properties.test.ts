import { parseKVPolicy } from '@unroll/nn';
import { createCpuDevice } from '@unroll/tensor/cpu';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type CommonOptions, type GeneratedToken, generate, kl, latentDiff, Session } from '../src/index.js';
import { all, run, tinyModel } from './support.js';

// Many runs on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

const device = createCpuDevice();
const model = tinyModel(device, 61);
let idle = 0;
beforeAll(() => {
  idle = device.memory().buffers;
});
afterAll(() => device.dispose());

type How = Partial<CommonOptions>;

/** Ways of decoding, with policies that serve them all. */
const strategies: readonly How[] = [
  {},
  { temperature: 1 },
  { warmStart: 'norm-state' },
  { recurrences: (index) => 1 + (index % 5) },
  { exit: latentDiff({ threshold: 0.25 }) },
  { exit: latentDiff({ threshold: 0.25, readEvery: 2, inPrefill: false }), warmStart: 'state' },
  { exit: kl({ threshold: 0.02, inPrefill: 'positions' }) },
  { speculative: { draftRecurrences: 2, lookahead: 3 } },
  { speculative: { draftRecurrences: 1, lookahead: 4, threshold: 0.5 }, temperature: 1 },
  { wavefront: { freeze: 'fixed', maxWavefront: 8 } },
];
const how = fc.constantFrom(...strategies);
const prompts = fc.array(fc.integer({ min: 0, max: 23 }), { minLength: 1, maxLength: 8 });
const seeds = fc.integer({ min: 0, max: 1e6 });
const base = { recurrences: 6, maxNewTokens: 7, stopTokens: [] };
const essence = ({ token, logprob, recurrences, exit }: GeneratedToken) => ({ token, logprob, recurrences, exit });
const policyFor = (options: How) => parseKVPolicy(options.wavefront === undefined ? 'latest' : 'latest-compress-s2');
const fresh = async (options: How, prompt: readonly number[], seed: number) =>
  (await run({ ...base, ...options, model, prompt, seed, policy: policyFor(options) })).map(essence);
const sessionFor = (options: How) =>
  new Session({ model, policy: policyFor(options), use: options.wavefront === undefined ? 'mixed-depth' : 'wavefront' });

describe('sessions, whatever the strategy', () => {
  it('an abort at any recurrence leaves one usable and the bytes balanced', async () => {
    let aborted = 0;
    await fc.assert(
      fc.asyncProperty(how, prompts, seeds, fc.integer({ min: 1, max: 60 }), async (options, prompt, seed, at) => {
        const session = sessionFor(options);
        await all(session.generate({ ...base, ...options, prompt: prompt.slice(0, 3), seed }));
        const abort = new AbortController();
        let n = 0;
        const hook = () => {
          if (++n === at) abort.abort();
        };
        const outcome = await all(session.generate({ ...base, ...options, prompt, seed, hook, signal: abort.signal })).catch(
          (error: Error) => error,
        );
        if (outcome instanceof Error) {
          expect(outcome.name).toBe('AbortError');
          aborted++;
        }
        expect(session.usage().tokens).toBe(session.tokens.length);
        const next = await all(session.generate({ ...base, ...options, prompt: [...prompt, 1], seed }));
        expect(next.map(essence)).toEqual(await fresh(options, [...prompt, 1], seed));
        session.truncate(0);
        expect(session.usage()).toMatchObject({ tokens: 0, slots: 0, logicalBytes: 0 });
        session.dispose();
        expect(device.memory().buffers).toBe(idle);
      }),
      { numRuns: 40 },
    );
    expect(aborted).toBeGreaterThan(15);
  });

  it('one that is cut anywhere goes on as a fresh run', async () => {
    await fc.assert(
      fc.asyncProperty(how, prompts, seeds, fc.integer({ min: 0, max: 14 }), async (options, prompt, seed, cut) => {
        const session = sessionFor(options);
        await all(session.generate({ ...base, ...options, prompt, seed }));
        session.truncate(Math.min(cut, session.tokens.length));
        const next = [...session.tokens, 3, 4];
        expect((await all(session.generate({ ...base, ...options, prompt: next, seed }))).map(essence)).toEqual(
          await fresh(options, next, seed),
        );
        session.dispose();
        expect(device.memory().buffers).toBe(idle);
      }),
      { numRuns: 40 },
    );
  });

  it('one that is saved and loaded goes on as if nothing had been, over every policy', async () => {
    const policies = ['full', 'latest', 'skip', 'always-last', 'last-only', 'compress-s2', 'latest-compress-s4', 'compress-anchor'];
    await fc.assert(
      fc.asyncProperty(
        how,
        fc.constantFrom(...policies),
        prompts,
        seeds,
        fc.integer({ min: 0, max: 8 }),
        async (options, policy, prompt, seed, leave) => {
          // Approximate reuse takes over every key, so that a lost one would be seen.
          const settings = { model, policy: parseKVPolicy(policy), use: 'equal-depth' as const, reuse: 'approximate' as const };
          const session = new Session(settings);
          let n = 0;
          try {
            for await (const _ of session.generate({ ...base, ...options, prompt, seed })) if (n++ === leave) break;
          } catch (error) {
            // Not every strategy goes with every policy.
            expect((error as Error).message).toMatch(/cannot serve/);
            session.dispose();
            return;
          }
          const other = await Session.load(settings, await session.save());
          expect(other.records).toEqual(session.records);
          expect(other.usage()).toMatchObject({
            tokens: session.usage().tokens,
            slots: session.usage().slots,
            logicalBytes: session.usage().logicalBytes,
          });
          const next = { ...base, ...options, prompt: [...session.tokens, 5], seed };
          const [here, there] = [await all(session.generate(next)), await all(other.generate(next))];
          expect(there.map(essence)).toEqual(here.map(essence));
          expect(there[6]!.report!.cachedTokens).toBe(here[6]!.report!.cachedTokens);
          session.dispose();
          other.dispose();
          expect(device.memory().buffers).toBe(idle);
        },
      ),
      { numRuns: 40 },
    );
  });
});

describe('bytes of the cache', () => {
  const pageTokens = 16;
  const rowBytes = 2 * 32 * 4;
  /** Most of whose window is forgotten after every round. */
  const wide: How = { wavefront: { freeze: 'fixed', headway: 6, maxWavefront: 48 } };
  const cells = [
    'full',
    'latest',
    'skip',
    'always-last',
    'last-only',
    'compress-s2',
    'latest-compress-s4',
    'compress-r2',
    'compress-anchor',
  ].flatMap((policy) => [...strategies, wide].map((options, i) => [policy, i, options] as const));

  it.each(cells)(
    '%s, strategy %i: allocated at most 1.25 times logical and a page of 16 tokens for each slot',
    async (policy, _, options) => {
      const use = options.wavefront === undefined ? 'equal-depth' : 'wavefront';
      let cache: ReturnType<typeof model.createCache>;
      try {
        cache = model.createCache({ policy: parseKVPolicy(policy), use });
      } catch (error) {
        expect((error as Error).message).toMatch(/cannot serve wavefront/);
        return;
      }
      try {
        for await (const _ of generate({
          ...base,
          ...options,
          model,
          prompt: [3, 1, 4, 1, 5],
          recurrences: options.recurrences ?? 12,
          maxNewTokens: 30,
          cache,
        })) {
          const { logicalBytes, allocatedBytes, slots, tokens } = cache.usage();
          expect(allocatedBytes).toBeLessThanOrEqual(1.25 * logicalBytes + slots * pageTokens * rowBytes);
          expect(logicalBytes).toBeLessThanOrEqual(slots * tokens * rowBytes);
          expect(device.memory().bytes.kv).toBeGreaterThanOrEqual(allocatedBytes + cache.tableBytes);
        }
        for (const length of [20, 7, 1, 0]) {
          cache.truncate(length);
          const { logicalBytes, allocatedBytes, slots } = cache.usage();
          expect(allocatedBytes).toBeLessThanOrEqual(1.25 * logicalBytes + slots * pageTokens * rowBytes);
        }
        expect([cache.usage().allocatedBytes, cache.tableBytes]).toEqual([0, 0]);
      } catch (error) {
        expect((error as Error).message).toMatch(/cannot serve/);
      } finally {
        cache.dispose();
      }
      expect(device.memory().buffers).toBe(idle);
    },
  );
});
