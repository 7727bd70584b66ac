import { parseKVPolicy } from '@unroll/nn';
import { createCpuDevice } from '@unroll/tensor/cpu';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { customExit, type GeneratedToken, kl, latentDiff, qExit, type RequestOptions, Scheduler } from '../src/index.js';
import { all, run, tinyModel, tokensOf } from './support.js';

// Many runs on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

const device = createCpuDevice();
const model = tinyModel(device, 31);
let idle = 0;
beforeAll(() => {
  idle = device.memory().buffers;
});
afterAll(() => device.dispose());

const alone = (request: RequestOptions) => run({ ...request, model, policy: parseKVPolicy('latest') });
const fail = (message: string): never => {
  throw new Error(message);
};
const essence = ({ token, logprob, recurrences, exit, finish }: GeneratedToken) => ({ token, logprob, recurrences, exit, finish });

const requests = fc.record({
  prompt: fc.array(fc.integer({ min: 0, max: 23 }), { minLength: 1, maxLength: 12 }),
  maxNewTokens: fc.integer({ min: 1, max: 7 }),
  seed: fc.integer({ min: 0, max: 1e6 }),
  temperature: fc.constantFrom(0, 1),
  prefillChunk: fc.constantFrom(3, 512),
  depth: fc.integer({ min: 1, max: 9 }),
  how: fc.constantFrom<Partial<RequestOptions>>(
    {},
    { warmStart: 'norm-state' },
    { warmStart: 'state', exit: latentDiff({ threshold: 0.3 }) },
    { exit: kl({ threshold: 0.05, every: 2 }) },
    { exit: latentDiff({ threshold: 0.25, inPrefill: false }) },
    { recurrences: (index) => 1 + (index % 3) },
    { stopTokens: [1, 2, 3, 4] },
  ),
});

describe('depth-aware batching', () => {
  it('gives each request the text it has alone, bit for bit, whoever joins and leaves', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(requests, { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 3 }),
        async (list, sequences, readAhead) => {
          const before = device.memory().buffers;
          const scheduler = new Scheduler({ model, sequences, readAhead });
          const full = list.map(
            ({ depth, how, ...request }): RequestOptions => ({ recurrences: depth, stopTokens: [], ...request, ...how }),
          );
          const texts = await Promise.all(
            full.map(async (request, i) => {
              // Some leave early, some start late.
              for (let wait = 0; wait < i * 7; wait++) await Promise.resolve();
              if (i % 3 !== 2) return all(scheduler.add(request));
              for await (const item of scheduler.add(request)) return [item];
              return [];
            }),
          );
          expect(scheduler.stats()).toMatchObject({ running: 0, waiting: 0 });
          scheduler.dispose();
          expect(device.memory().buffers).toBe(before);
          for (const [i, request] of full.entries()) {
            const expected = await alone(request);
            expect(texts[i]!.map(essence)).toEqual(expected.slice(0, i % 3 === 2 ? 1 : undefined).map(essence));
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('requests at different recurrences share core passes', async () => {
    const scheduler = new Scheduler({ model, sequences: 4 });
    const depths = [3, 5, 8, 4];
    await Promise.all(depths.map((recurrences, i) => all(scheduler.add({ prompt: [i], recurrences, maxNewTokens: 8, stopTokens: [] }))));
    const { corePasses, corePositions } = scheduler.stats();
    expect(corePositions).toBe(8 * (3 + 5 + 8 + 4));
    // As many passes as the deepest request needs alone.
    expect(corePasses).toBe(8 * 8);
    scheduler.dispose();
  });

  it('a long prompt holds nobody up', async () => {
    const scheduler = new Scheduler({ model, sequences: 2 });
    const order: string[] = [];
    const read = async (name: string, request: RequestOptions) => {
      for await (const _ of scheduler.add({ stopTokens: [], ...request })) order.push(name);
    };
    await Promise.all([
      read('long', { prompt: new Array(50).fill(3), recurrences: 30, maxNewTokens: 1 }),
      read('short', { prompt: [1], recurrences: 2, maxNewTokens: 6 }),
    ]);
    expect(order).toEqual([...new Array(6).fill('short'), 'long']);
    scheduler.dispose();
  });

  it('one request that fails or is aborted leaves the others alone', async () => {
    const scheduler = new Scheduler({ model, sequences: 3 });
    const abort = new AbortController();
    const base = { prompt: [1, 2], recurrences: 4, maxNewTokens: 6, stopTokens: [] };
    let n = 0;
    const failing = all(scheduler.add({ ...base, processors: [() => (++n > 2 ? new Float32Array(1) : undefined)] }));
    const aborted = (async () => {
      for await (const _ of scheduler.add({ ...base, recurrences: 6, signal: abort.signal })) abort.abort();
    })();
    const [a, b, c] = await Promise.allSettled([failing, aborted, all(scheduler.add(base))]);
    expect(a).toMatchObject({ status: 'rejected', reason: { message: expect.stringMatching(/of as many/) } });
    expect(b).toMatchObject({ status: 'rejected', reason: { name: 'AbortError' } });
    expect(tokensOf((c as PromiseFulfilledResult<GeneratedToken[]>).value)).toEqual(tokensOf(await alone(base)));
    scheduler.dispose();
    expect(device.memory().buffers).toBe(idle);
  });

  it.each<[string, Partial<RequestOptions>, RegExp]>([
    ['a rule that throws as it begins', { exit: customExit({ name: 'none', begin: () => fail('no rule') }) }, /no rule/],
    ['a rule that the model has nothing for', { exit: qExit() }, /no exit gate/],
    ['a depth that throws', { recurrences: (index) => (index < 2 ? 3 : fail('no depth')) }, /no depth/],
    ['a depth that is none', { recurrences: (index) => (index < 2 ? 3 : 0) }, /depth\) of token 2 must be a whole number from 1/],
  ])('%s ends its own request and no other', async (_, how, message) => {
    const scheduler = new Scheduler({ model, sequences: 3 });
    const base = { prompt: [1, 2], recurrences: 4, maxNewTokens: 6, stopTokens: [] };
    const [before, bad, behind] = await Promise.allSettled([
      all(scheduler.add(base)),
      all(scheduler.add({ ...base, ...how })),
      all(scheduler.add({ ...base, seed: 7 })),
    ]);
    expect(bad).toMatchObject({ status: 'rejected', reason: { message: expect.stringMatching(message) } });
    expect(before).toMatchObject({ status: 'fulfilled', value: (await alone(base)).map(({ token }) => ({ token })) });
    expect(behind).toMatchObject({ status: 'fulfilled', value: (await alone({ ...base, seed: 7 })).map(({ token }) => ({ token })) });
    scheduler.dispose();
    expect(device.memory().buffers).toBe(idle);
  });

  it('ends its readers when it is disposed in the middle', async () => {
    const scheduler = new Scheduler({ model, sequences: 1 });
    const reading = (async () => {
      for await (const _ of scheduler.add({ prompt: [1, 2], recurrences: 4, maxNewTokens: 6, stopTokens: [] })) scheduler.dispose();
    })();
    await expect(reading).rejects.toThrow('disposed while a request was running');
    expect(device.memory().buffers).toBe(idle);
  });

  it('refuses what it cannot do', () => {
    const scheduler = new Scheduler({ model, sequences: 1, policy: parseKVPolicy('full'), use: 'equal-depth' });
    expect(() => scheduler.add({ prompt: [1], exit: kl() })).toThrow(/cannot serve mixed-depth/);
    expect(() => scheduler.add({ prompt: [1], wavefront: {} } as never)).toThrow(/wavefront cannot be scheduled/);
    expect(() => scheduler.add({ prompt: [] })).toThrow(/no tokens/);
    scheduler.dispose();
    expect(() => new Scheduler({ model, sequences: 0 })).toThrow(/sequences must be a whole number from 1/);
  });
});
