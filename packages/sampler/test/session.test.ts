import { parseKVPolicy } from '@unroll/nn';
import { createCpuDevice } from '@unroll/tensor/cpu';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { latentDiff, type SavedSession, Session, type TurnOptions } from '../src/index.js';
import { all, run, tinyModel, tokensOf } from './support.js';

// Many runs on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

const device = createCpuDevice();
const model = tinyModel(device, 21);
let idle = 0;
beforeAll(() => {
  idle = device.memory().buffers;
});
afterAll(() => device.dispose());

const base = { recurrences: 4, maxNewTokens: 5, stopTokens: [] };
const turn = (session: Session, options: TurnOptions) => all(session.generate(options));
const cachedIn = (items: Awaited<ReturnType<typeof turn>>) => items[items.length - 1]!.report!.cachedTokens;

describe('sessions', () => {
  it('prefix reuse gives what a fresh run gives, for whatever turns', async () => {
    let reused = 0;
    const settings = fc.constantFrom<Partial<TurnOptions>>(
      {},
      {},
      {},
      {},
      { temperature: 1 },
      { recurrences: 6 },
      { seed: 3 },
      { warmStart: 'state' },
      { exit: latentDiff({ threshold: 0.2 }) },
      { exit: latentDiff({ threshold: 0.2, inPrefill: false }) },
      { speculative: { draftRecurrences: 2, lookahead: 3 } },
      { recurrences: (index) => 3 + (index % 2) },
      { initScale: 0, seed: 8 },
    );
    const letters = fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 0, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            settings,
            more: letters,
            keep: fc.integer({ min: 0, max: 12 }),
            leave: fc.integer({ min: 0, max: 9 }),
            cut: fc.option(fc.integer({ min: 0, max: 9 })),
          }),
          { minLength: 1, maxLength: 6 },
        ),
        async (turns) => {
          const session = new Session({ model });
          for (const { settings, more, keep, leave, cut } of turns) {
            const prompt = [...session.tokens.slice(0, keep), 1, ...more];
            const options = { ...base, ...settings, prompt };
            const got = await turn(session, options);
            const fresh = await run({ ...options, model, policy: parseKVPolicy('latest') });
            expect(got.map(({ token, logprob, recurrences }) => [token, logprob, recurrences])).toEqual(
              fresh.map(({ token, logprob, recurrences }) => [token, logprob, recurrences]),
            );
            reused += cachedIn(got);
            // Leave a turn in the middle, and cut the session, before the next.
            let n = 0;
            for await (const item of session.generate({ ...options, prompt: [...session.tokens, 2] }))
              if (n++ === leave || item.finish) break;
            if (cut !== null) session.truncate(Math.min(cut, session.tokens.length));
            expect(session.usage().tokens).toBe(session.tokens.length);
          }
          session.dispose();
          expect(device.memory().buffers).toBe(idle);
        },
      ),
      { numRuns: 40 },
    );
    expect(reused).toBeGreaterThan(40);
  });

  it('reuses prompt and text of the last turn', async () => {
    const session = new Session({ model });
    const first = await turn(session, { ...base, prompt: [1, 2, 3] });
    const second = await turn(session, { ...base, prompt: [1, 2, 3, ...tokensOf(first), 7] });
    expect(cachedIn(first)).toBe(0);
    expect(cachedIn(second)).toBe(3 + 4);
    expect(second[4]!.report!.corePositions).toBe(4 * (2 + 4));
    session.dispose();
  });

  it('reuses nothing that a fresh run would compute otherwise, unless asked to', async () => {
    for (const [settings, expected, approximate] of [
      [{ recurrences: 5 }, 0, 7],
      [{ seed: 1 }, 0, 7],
      [{ warmStart: 'state' as const }, 7, 7],
      [{ exit: latentDiff({ threshold: 0 }) }, 0, 7],
    ] as const) {
      for (const reuse of ['exact', 'approximate'] as const) {
        const session = new Session({ model, reuse });
        const first = await turn(session, { ...base, prompt: [1, 2, 3] });
        const second = await turn(session, { ...base, ...settings, prompt: [1, 2, 3, ...tokensOf(first), 7] });
        expect(cachedIn(second)).toBe(reuse === 'exact' ? expected : approximate);
        session.dispose();
      }
    }
    const shared = new Session({ model, policy: parseKVPolicy('latest-compress-s2') });
    await turn(shared, { ...base, prompt: [1, 2, 3] });
    expect(cachedIn(await turn(shared, { ...base, prompt: [1, 2, 3, 4] }))).toBe(0);
    shared.dispose();
  });

  it('a fork goes its own way; an abort leaves the session usable', async () => {
    const session = new Session({ model });
    await turn(session, { ...base, prompt: [5, 6, 7] });
    const before = session.tokens;
    const fork = session.fork();
    const theirs = await turn(fork, { ...base, prompt: [...before, 1] });
    expect(session.tokens).toEqual(before);
    expect(tokensOf(await turn(session, { ...base, prompt: [...before, 1] }))).toEqual(tokensOf(theirs));
    fork.dispose();
    const abort = new AbortController();
    let n = 0;
    const hook = () => void (++n === 6 && abort.abort()) as undefined;
    await expect(turn(session, { ...base, prompt: [9, 9, 9], hook, signal: abort.signal })).rejects.toThrow(/aborted/);
    expect(tokensOf(await turn(session, { ...base, prompt: [9, 9, 9] }))).toEqual(
      tokensOf(await run({ ...base, model, prompt: [9, 9, 9] })),
    );
    session.dispose();
    expect(device.memory().buffers).toBe(idle);
  });

  it('records how every token came about', async () => {
    const session = new Session({ model });
    const exit = latentDiff({ threshold: 0.25, inPrefill: 'positions' });
    const items = await turn(session, { ...base, prompt: [1, 2, 3], recurrences: 9, exit, warmStart: 'state', seed: 4, initScale: 2 });
    const { promptRecurrences } = items[4]!.report!;
    expect(new Set(promptRecurrences).size).toBeGreaterThan(1);
    const how = { stateSeed: 4, initScale: 2, exit: 'latent-diff', reproducible: false };
    expect(session.records).toEqual([
      ...[1, 2, 3].map((token, i) => ({ token, recurrences: promptRecurrences![i], ...how })),
      ...items.slice(0, 4).map(({ token }, i) => ({ token, recurrences: items[i + 1]!.recurrences, ...how, warmStart: 'state' })),
    ]);
    await turn(session, { ...base, prompt: [1, 2, 7] });
    expect(session.records.slice(0, 4).map(({ recurrences, reproducible }) => [recurrences, reproducible])).toEqual(
      new Array(4).fill([4, true]),
    );
    session.dispose();
  });

  it('one turn at a time', async () => {
    const session = new Session({ model });
    const running = session.generate({ ...base, prompt: [1] });
    await running.next();
    await expect(turn(session, { ...base, prompt: [1] })).rejects.toThrow(/still running/);
    expect(() => session.truncate(0)).toThrow(/still running/);
    await running.return();
    session.truncate(0);
    session.dispose();
  });

  it('a sliding window drops the oldest tokens and says so; otherwise a full context is an error', async () => {
    const long = Array.from({ length: 70 }, (_, i) => i % 24);
    const session = new Session({ model, contextFull: 'slide' });
    const items = await turn(session, { ...base, prompt: long });
    expect(items[4]!.report).toMatchObject({ droppedTokens: 11, promptTokens: 59 });
    expect(tokensOf(items)).toEqual(tokensOf(await run({ ...base, model, prompt: long.slice(11) })));
    session.dispose();
    const strict = new Session({ model });
    await expect(turn(strict, { ...base, prompt: long })).rejects.toThrow(/leaves no room in the context/);
    strict.dispose();
  });

  it('wavefront turns need a session made for them', async () => {
    const session = new Session({ model, use: 'wavefront' });
    const options = { ...base, prompt: [1, 2], wavefront: { freeze: 'fixed' as const } };
    expect(tokensOf(await turn(session, options))).toEqual(tokensOf(await run({ ...options, model })));
    expect(cachedIn(await turn(session, { ...options, prompt: [1, 2, 3] }))).toBe(0);
    await expect(turn(session, { ...base, prompt: [1], speculative: { draftRecurrences: 1, lookahead: 1 } })).rejects.toThrow(
      /cannot serve parallel/,
    );
    session.dispose();
  });
});

describe('save and load', () => {
  it('goes on as if it had never stopped', async () => {
    const session = new Session({ model });
    await turn(session, { ...base, prompt: [1, 2, 3], temperature: 1 });
    const prompt = [...session.tokens, 4, 5];
    const saved = await session.save();
    const other = await Session.load({ model }, saved);
    const [here, there] = [await turn(session, { ...base, prompt }), await turn(other, { ...base, prompt })];
    expect(there.map(({ token, logprob }) => [token, logprob])).toEqual(here.map(({ token, logprob }) => [token, logprob]));
    expect(cachedIn(there)).toBe(7);
    session.dispose();
    other.dispose();
    expect(device.memory().buffers).toBe(idle);
  });

  it('is refused for another model, another policy, and damaged files', async () => {
    const session = new Session({ model });
    await turn(session, { ...base, prompt: [1, 2, 3] });
    const saved = await session.save();
    session.dispose();
    const other = tinyModel(device, 22);
    await expect(Session.load({ model: other }, saved)).rejects.toThrow(/another model/);
    other.dispose();
    await expect(Session.load({ model, policy: parseKVPolicy('skip') }, saved)).rejects.toThrow(/another kind of cache/);
    const damaged = (change: Partial<SavedSession>) => Session.load({ model }, { ...saved, ...change });
    await expect(damaged({ metadata: { ...saved.metadata, format: 'x' } })).rejects.toThrow(/format is "x"/);
    await expect(damaged({ metadata: { ...saved.metadata, log: '[' } })).rejects.toThrow(/not JSON/);
    await expect(damaged({ metadata: { ...saved.metadata, cache: 'null' } })).rejects.toThrow(/settings of its cache are none/);
    await expect(damaged({ metadata: { ...saved.metadata, log: '[]' } })).rejects.toThrow(/do not belong together/);
    const log = JSON.stringify(JSON.parse(saved.metadata.log!).map(() => [4, null]));
    await expect(damaged({ metadata: { ...saved.metadata, log } })).rejects.toThrow(/log of its tokens is not one/);
    const without = new Map(saved.tensors);
    without.delete('keys');
    await expect(damaged({ tensors: without })).rejects.toThrow(/"keys" is missing/);
    const shorter = new Map(saved.tensors).set('keys', { shape: [3], data: new Float32Array(3) });
    await expect(damaged({ tensors: shorter })).rejects.toThrow(/contradict/);
    expect(device.memory().buffers).toBe(idle);
  });
});
