import { parseKVPolicy } from '@unroll/nn';
import { slice, type Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  acceleration,
  argmaxStability,
  cosine,
  customExit,
  type ExitControls,
  type ExitRule,
  entropyDiff,
  type GeneratedToken,
  generateBatch,
  kl,
  latentDiff,
  type ModelCache,
  minpKl,
  qExit,
  Scheduler,
} from '../src/index.js';
import { all, run, tinyModel, tokensOf } from './support.js';

// Many runs on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

const device = createCpuDevice();
const model = tinyModel(device, 7);
let idle = 0;
beforeAll(() => {
  idle = device.memory().buffers;
});
afterAll(() => device.dispose());

const essence = ({ token, logprob, recurrences, exit }: GeneratedToken) => ({ token, logprob, recurrences, exit });

/** Rules that stop a small random model somewhere in the middle. */
const rules: readonly ((controls: ExitControls) => ExitRule)[] = [
  (controls) => latentDiff({ threshold: 0.25, ...controls }),
  (controls) => cosine({ threshold: 0.03, ...controls }),
  (controls) => acceleration({ threshold: 0.35, ...controls }),
  (controls) => entropyDiff({ threshold: 0.02, ...controls }),
  (controls) => kl({ threshold: 0.02, ...controls }),
  (controls) => minpKl({ threshold: 0.02, ...controls }),
  (controls) => argmaxStability({ threshold: 2, ...controls }),
];
const policies = ['latest', 'skip', 'always-last', 'last-only', 'compress-s2', 'latest-compress-s4'];

describe('numbers that are read later', () => {
  const cases = fc.record({
    seed: fc.integer({ min: 1, max: 1e6 }),
    prompt: fc.array(fc.integer({ min: 0, max: 23 }), { minLength: 1, maxLength: 20 }),
    rule: fc.constantFrom(...rules),
    policy: fc.constantFrom(...policies),
    readEvery: fc.integer({ min: 1, max: 5 }),
    every: fc.integer({ min: 1, max: 2 }),
    inPrefill: fc.constantFrom<(boolean | 'positions')[]>(true, false, 'positions'),
    warmStart: fc.constantFrom('state' as const, undefined),
  });

  it('stop where those that are read at once do, with the same keys behind them, under every policy', async () => {
    const depths = new Set<number>();
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(cases, async ({ seed, prompt, rule, policy, readEvery, every, inPrefill, warmStart }) => {
        const options = {
          model,
          seed,
          prompt,
          maxNewTokens: 6,
          recurrences: 9,
          ...(warmStart === undefined ? {} : { warmStart }),
        };
        const texts: GeneratedToken[][] = [];
        const kept: unknown[] = [];
        for (const controls of [{}, { readEvery }]) {
          using cache: ModelCache & Disposable = model.createCache({ policy: parseKVPolicy(policy), use: 'mixed-depth' });
          texts.push(await run({ ...options, cache, exit: rule({ every, inPrefill, ...controls }) }));
          const { entries, keys, values } = await cache.save();
          // By place, since rows of the pool have other numbers.
          const places = Array.from({ length: entries.length / 4 }, (_, i) => [...entries.subarray(4 * i, 4 * i + 4)]);
          const row = (of: Float32Array, at: number) => [...of.subarray(32 * at, 32 * at + 32)];
          kept.push(places.map(([b, slot, position, at]) => [b, slot, position, row(keys, at!), row(values, at!)]).sort());
          const { logicalBytes, allocatedBytes, slots } = cache.usage();
          expect(allocatedBytes).toBeLessThanOrEqual(1.25 * logicalBytes + slots * 16 * 256);
        }
        expect(texts[1]!.map(essence)).toEqual(texts[0]!.map(essence));
        expect(kept[1]).toEqual(kept[0]);
        for (const { recurrences } of texts[0]!) depths.add(recurrences);
        taken += texts[1]![5]!.report!.corePasses - texts[0]![5]!.report!.corePasses;
        expect(device.memory().buffers).toBe(idle);
      }),
      { numRuns: 80 },
    );
    expect(depths.size).toBeGreaterThan(4);
    // Some recurrences must have been taken back.
    expect(taken).toBeGreaterThan(100);
  });

  it('do so in batches and in a scheduler', async () => {
    await fc.assert(
      fc.asyncProperty(cases, fc.integer({ min: 1, max: 4 }), async ({ seed, rule, readEvery, every, prompt }, other) => {
        const prompts = [prompt, [other, 3], [5]];
        const options = { seed, maxNewTokens: 5, recurrences: 8, stopTokens: [] };
        const alone = await Promise.all(prompts.map((tokens) => run({ ...options, model, prompt: tokens, exit: rule({ every }) })));
        const exit = rule({ every, readEvery });
        const batch = await all(generateBatch({ ...options, model, prompts, exit }));
        const scheduler = new Scheduler({ model, sequences: 2 });
        const scheduled = await Promise.all(prompts.map((tokens) => all(scheduler.add({ ...options, prompt: tokens, exit }))));
        scheduler.dispose();
        alone.forEach((text, i) => {
          expect(batch.filter((item) => item.prompt === i).map(essence)).toEqual(text.map(essence));
          expect(scheduled[i]!.map(essence)).toEqual(text.map(essence));
        });
        expect(device.memory().buffers).toBe(idle);
      }),
      { numRuns: 25 },
    );
  });

  it('leave nothing behind when a run is left, aborted or broken meanwhile', async () => {
    const options = { model, prompt: [1, 2], maxNewTokens: 5, recurrences: 9 };
    for (const fault of [2, 3, 5, 9, 14]) {
      let n = 0;
      const abort = new AbortController();
      const begin = () => ({
        measure: ({ state }: { state: Tensor }) => {
          if (++n === fault) abort.abort();
          return slice(slice(state, 0, 0, 1), 1, 0, 1);
        },
        judge: (value: number) => {
          if (n > fault && fault % 2 === 0) throw new Error('broken rule');
          return { value, exit: false };
        },
      });
      const outcome = run({ ...options, signal: abort.signal, exit: customExit({ name: 'own', begin, readEvery: 2 }) });
      await expect(outcome).rejects.toThrow(/aborted|broken rule/);
      expect(device.memory().buffers).toBe(idle);
      for await (const _ of (await import('../src/index.js')).generate({ ...options, exit: latentDiff({ readEvery: 3 }) })) break;
      expect(device.memory().buffers).toBe(idle);
    }
  });
});

describe('a prompt whose positions stop by themselves', () => {
  it('equals one that was run token by token, whatever the chunks', async () => {
    const spread: number[] = [];
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 1e6 }),
        fc.array(fc.integer({ min: 0, max: 23 }), { minLength: 2, maxLength: 14 }),
        fc.constantFrom(...rules.slice(0, 3)),
        fc.constantFrom('latest', 'skip'),
        fc.integer({ min: 1, max: 2 }),
        async (seed, prompt, rule, policy, every) => {
          const options = { model, seed, prompt, maxNewTokens: 4, recurrences: 10, policy: parseKVPolicy(policy) };
          const single = await run({ ...options, prefillChunk: 1, exit: rule({ every }) });
          for (const prefillChunk of [3, 512]) {
            const together = await run({ ...options, prefillChunk, exit: rule({ every, inPrefill: 'positions' }) });
            expect(together.map(essence)).toEqual(single.map(essence));
            const [a, b] = [together[3]!.report!, single[3]!.report!];
            expect(a.promptRecurrences).toEqual(b.promptRecurrences);
            expect(a.corePositions).toBe(b.corePositions);
            expect(a.cache).toMatchObject({ slots: b.cache.slots, logicalBytes: b.cache.logicalBytes });
            if (prefillChunk === 512) {
              // One pass for all positions that are not done.
              expect(a.corePasses).toBeLessThanOrEqual(10 + 3 * 10);
              spread.push(new Set(a.promptRecurrences).size);
            }
          }
        },
      ),
      { numRuns: 40 },
    );
    expect(Math.max(...spread)).toBeGreaterThan(2);
  });

  it('works in a batch, in rules on logits, and not in a scheduler', async () => {
    const exit = kl({ threshold: 0.02, inPrefill: 'positions' });
    const options = { model, recurrences: 9, maxNewTokens: 4 };
    const prompts = [[1, 2, 3, 4, 5], [6], [7, 8]];
    const batch = await all(generateBatch({ ...options, prompts, samples: 2, exit }));
    for (const [i, prompt] of prompts.entries()) {
      const alone = await run({ ...options, prompt, exit });
      expect(batch.filter((item) => item.prompt === i && item.sample === 0).map(essence)).toEqual(alone.map(essence));
    }
    const scheduler = new Scheduler({ model, sequences: 1 });
    expect(() => scheduler.add({ prompt: [1], exit })).toThrow(/"positions" cannot be scheduled/);
    scheduler.dispose();
    expect(() => kl({ inPrefill: 'each' as never })).toThrow(/inPrefill must be true, false or "positions"/);
    expect(tokensOf(batch).length).toBe(24);
    expect(device.memory().buffers).toBe(idle);
  });
});

describe('the exit gate of a model', () => {
  /** The model with another gate, or with none. */
  const withGate = (exitLogits: (() => Tensor) | undefined) =>
    new Proxy(model, {
      get(target, key) {
        if (key === 'exitLogits') return exitLogits;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  // Each recurrence stops half of what is left: 0.5, 0.75, 0.875, 0.9375.
  const gated = withGate(() => device.tensor([0], [1, 1]));
  const depthsOf = async (exit: ExitRule) =>
    (await run({ model: gated, prompt: [1, 2, 3], maxNewTokens: 3, recurrences: 9, stopTokens: [], exit })).map(
      ({ recurrences }) => recurrences,
    );

  it('stops when the probability of having stopped reaches the threshold, where it is asked', async () => {
    expect(await depthsOf(qExit())).toEqual([1, 1, 1]);
    expect(await depthsOf(qExit({ threshold: 0.8 }))).toEqual([3, 3, 3]);
    expect(await depthsOf(qExit({ threshold: 0.8, readEvery: 2 }))).toEqual([3, 3, 3]);
    // What is not asked counts in the product all the same.
    expect(await depthsOf(qExit({ threshold: 0.8, minRecurrences: 5 }))).toEqual([5, 5, 5]);
    expect(await depthsOf(qExit({ threshold: 0.8, minRecurrences: 2, every: 2 }))).toEqual([4, 4, 4]);
    expect(await depthsOf(qExit({ threshold: 1 }))).toEqual([9, 9, 9]);
  });

  it('must be there, and takes probabilities', async () => {
    const gateless = withGate(undefined);
    await expect(run({ model: gateless, prompt: [1], exit: qExit() })).rejects.toThrow(/q-exit: the model has no exit gate/);
    await expect(run({ model, prompt: [1], exit: qExit() })).rejects.toThrow(/the model has no exit gate/);
    expect(() => qExit({ threshold: 0 })).toThrow(/q-exit: threshold must be above 0 and at most 1; got 0/);
    expect(() => qExit({ every: 0 })).toThrow(/q-exit: every must be a whole number from 1/);
  });
});
