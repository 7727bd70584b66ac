import { parseKVPolicy } from '@unroll/nn';
import { concat, copy, keep, slice, sub, type Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  agreement,
  collect,
  type GenerateOptions,
  generate,
  generateBatch,
  latentDiff,
  Session,
  score,
  type TextCodec,
} from '../src/index.js';
import { measureStates } from '../src/wavefront-freeze.js';
import { all, run, tinyModel, tokensOf } from './support.js';

// Many runs on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

const device = createCpuDevice();
const model = tinyModel(device, 11);
let idle = 0;
beforeAll(() => {
  idle = device.memory().buffers;
});
afterAll(() => device.dispose());

/** One letter per token. */
const letters: TextCodec = {
  stopTokens: [23],
  encode: (text) => [...text].map((letter) => letter.charCodeAt(0) - 97),
  stream: () => ({ push: (token) => String.fromCharCode(97 + token), flush: () => '' }),
};

const base = { model, tokenizer: letters, prompt: 'hello', recurrences: 3, stopTokens: [] as number[] };

describe('collect', () => {
  it('gives what the items of a run say together, and throws what the run throws', async () => {
    const items = await run({ ...base, maxNewTokens: 5 });
    const { text, tokens, recurrences, logprob, report, finish, items: same } = await collect(generate({ ...base, maxNewTokens: 5 }));
    expect({ text, tokens, recurrences, finish }).toEqual({
      text: items.map((item) => item.text).join(''),
      tokens: tokensOf(items),
      recurrences: [3, 3, 3, 3, 3],
      finish: 'length',
    });
    expect(logprob).toBeCloseTo(items.reduce((sum, item) => sum + item.logprob, 0));
    expect(report).toEqual(items[4]!.report);
    expect(tokensOf(same)).toEqual(tokens);
    expect(await collect(generate({ ...base, maxNewTokens: 0 }))).toEqual({ text: '', tokens: [], recurrences: [], logprob: 0, items: [] });
    await expect(collect(generate({ ...base, recurrences: 0 }))).rejects.toThrow(/recurrences/);
  });
});

describe('generate', () => {
  it('same seed, same text, whatever the chunking; other seeds give others', async () => {
    const texts = new Set<string>();
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 2 ** 50 }),
        fc.integer({ min: 1, max: 9 }),
        fc.constantFrom('full', 'latest', 'skip'),
        fc.constantFrom({}, { warmStart: 'state' as const }),
        async (seed, prefillChunk, policy, warm) => {
          const options = { ...base, ...warm, prompt: 'unrolling', seed, temperature: 1, maxNewTokens: 8 };
          const plain = await run(options);
          const chunked = await run({ ...options, prefillChunk, policy: parseKVPolicy(policy) });
          expect(chunked.map(({ token, logprob }) => [token, logprob])).toEqual(plain.map(({ token, logprob }) => [token, logprob]));
          texts.add(tokensOf(plain).join());
        },
      ),
      { numRuns: 40 },
    );
    expect(texts.size).toBeGreaterThan(10);
  });

  it('adaptive prompts decide once, in one pass, unless chunks are asked for', async () => {
    const options = { ...base, prompt: 'abcdefgh', recurrences: 12, maxNewTokens: 1, exit: latentDiff({ threshold: 0.3 }) };
    const [whole] = await run(options);
    const [chunked] = await run({ ...options, prefillChunk: 3 });
    expect(whole!.exit!.values.length).toBe(whole!.recurrences);
    expect(chunked!.exit!.values).not.toEqual(whole!.exit!.values);
  });

  it('ends at a stop token, which has no text, at a stop string, at the limit', async () => {
    const free = await run({ ...base, temperature: 1, seed: 3, maxNewTokens: 12 });
    expect(free.map(({ text }) => text).join('')).toBe(
      tokensOf(free)
        .map((token) => String.fromCharCode(97 + token))
        .join(''),
    );
    expect(free[11]!.finish).toBe('length');
    const stop = free[4]!.token;
    const stopped = await run({ ...base, temperature: 1, seed: 3, maxNewTokens: 12, stopTokens: [stop] });
    expect(stopped[stopped.length - 1]).toMatchObject({ finish: 'stop-token', text: '', token: stop });
    const text = free.map((item) => item.text).join('');
    const stopString = text.slice(5, 8);
    const cut = await run({ ...base, temperature: 1, seed: 3, maxNewTokens: 12, stopStrings: ['zzzz', stopString] });
    expect(cut.map((item) => item.text).join('')).toBe(text.slice(0, text.indexOf(stopString)));
    expect(cut[cut.length - 1]).toMatchObject({ finish: 'stop-string', stopString });
  });

  it('gives a report: passes, positions, cache', async () => {
    const items = await run({ ...base, maxNewTokens: 4, alternatives: 2 });
    expect(items.map(({ report }) => report !== undefined)).toEqual([false, false, false, true]);
    const { report } = items[3]!;
    expect(report).toMatchObject({
      promptTokens: 5,
      newTokens: 4,
      corePasses: 3 * 4,
      corePositions: 3 * (5 + 3),
      meanRecurrences: 3,
      cachedTokens: 0,
    });
    expect(report!.cache).toMatchObject({ tokens: 8, slots: 1 + 3 * 2 + 1 });
    expect(items[0]!.alternatives![0]!.token).toBe(items[0]!.token);
    expect(await run({ ...base, maxNewTokens: 0 })).toEqual([]);
  });

  it('gives a report with every token where that is asked for, of what was done so far', async () => {
    const plain = await run({ ...base, maxNewTokens: 4 });
    const items = await run({ ...base, maxNewTokens: 4, reports: 'every' });
    expect(items.map(({ report }) => [report!.newTokens, report!.corePasses, report!.cache.tokens])).toEqual([
      [1, 3, 5],
      [2, 6, 6],
      [3, 9, 7],
      [4, 12, 8],
    ]);
    expect(items[3]).toEqual(plain[3]);
    await expect(run({ ...base, reports: 'all' as never })).rejects.toThrow(/reports must be "last" or "every"; got "all"/);
  });

  it("leaves the caller's cache to the caller", async () => {
    const cache = model.createCache();
    await run({ ...base, maxNewTokens: 3, cache });
    expect(cache.length()).toBe(7);
    await expect(run({ ...base, cache })).rejects.toThrow(/cache must be empty.*7 tokens/);
    cache.truncate(0);
    expect(tokensOf(await run({ ...base, maxNewTokens: 3, cache }))).toEqual(tokensOf(await run({ ...base, maxNewTokens: 3 })));
    cache.dispose();
    expect(device.memory().buffers).toBe(idle);
  });

  it('depth may change while it streams', async () => {
    let depth = 5;
    const depths: number[] = [];
    for await (const { recurrences } of generate({ ...base, recurrences: () => depth, maxNewTokens: 4 })) {
      depths.push(recurrences);
      depth--;
    }
    expect(depths).toEqual([5, 4, 3, 2]);
    const items = await run({ ...base, recurrences: (index) => 2 + index, maxNewTokens: 4 });
    expect(items.map(({ recurrences }) => recurrences)).toEqual([2, 3, 4, 5]);
  });

  it('a hook sees every recurrence and may replace the state', async () => {
    const seen: number[] = [];
    const watched = await run({
      ...base,
      maxNewTokens: 2,
      hook: ({ recurrence, positions }) => void seen.push(recurrence, positions.length) as undefined,
    });
    expect(seen).toEqual([1, 5, 2, 5, 3, 5, 1, 1, 2, 1, 3, 1]);
    expect(tokensOf(watched)).toEqual(tokensOf(await run({ ...base, maxNewTokens: 2 })));
    const erased = await run({ ...base, maxNewTokens: 2, hook: ({ state }) => sub(state, state) });
    expect(erased[0]!.logprob).not.toBe(watched[0]!.logprob);
    await expect(run({ ...base, hook: ({ state }) => slice(concat([state, state], 1), 1, 0, 1) })).rejects.toThrow(
      /hook must return \[1,5,32\]/,
    );
    expect(device.memory().buffers).toBe(idle);
  });
});

describe('interventions', () => {
  it("swapping e from the first recurrence gives the text of e's owner", async () => {
    const options = { ...base, prompt: [1, 2, 3], maxNewTokens: 1, recurrences: 5 };
    const other = { ...options, prompt: [1, 2, 9] };
    const kept: Tensor[] = [];
    const theirs = await run({ ...other, hook: { before: ({ recurrence, e }) => void (recurrence === 1 && kept.push(keep(copy(e)))) } });
    const ours = await run(options);
    // Positions draw the same s_0; with the other's e too, nothing of the own last token is left.
    let calls = 0;
    const swapped = await run({
      ...options,
      hook: {
        before: ({ recurrence }) => {
          calls++;
          return recurrence === 1 ? { e: copy(kept[0]!) } : {};
        },
      },
    });
    expect(calls).toBe(5);
    expect(swapped[0]!.logprob).toBe(theirs[0]!.logprob);
    expect(swapped[0]!.logprob).not.toBe(ours[0]!.logprob);
    kept[0]!.dispose();
    expect(device.memory().buffers).toBe(idle);
  });

  it('replaced states and e of either side are given back, however long they lived', async () => {
    const outside = { before: ({ state, e }: { state: Tensor; e: Tensor }) => ({ state: keep(copy(state)), e: keep(copy(e)) }) };
    const both = { ...outside, after: outside.before };
    for (const strategy of [{}, { exit: latentDiff({ threshold: 0.2 }) }, { wavefront: { freeze: 'fixed' as const } }]) {
      const options = { ...base, ...strategy, maxNewTokens: 3 };
      expect(tokensOf(await run({ ...options, hook: both }))).toEqual(tokensOf(await run(options)));
      expect(device.memory().buffers).toBe(idle);
    }
    await expect(run({ ...base, hook: () => ({ sate: 1 }) as never })).rejects.toThrow(/unknown option "sate"/);
  });

  it('an abort takes effect between the inner recurrences of a wavefront round', async () => {
    const abort = new AbortController();
    let calls = 0;
    const hook = () => void (++calls === 3 + 4 && abort.abort());
    const options = { ...base, recurrences: 3, maxNewTokens: 8, wavefront: { innerRecurrences: 50 } };
    await expect(run({ ...options, hook, signal: abort.signal })).rejects.toThrow(/aborted/);
    expect(calls).toBe(7);
    expect(device.memory().buffers).toBe(idle);
  });
});

describe('depth', () => {
  it('is asked once for each token, by a session too', async () => {
    const asked: number[] = [];
    const recurrences = (index: number) => {
      asked.push(index);
      return 2 + (index % 2);
    };
    const session = new Session({ model: base.model });
    const turn = { prompt: [1, 2], maxNewTokens: 5, stopTokens: [], recurrences };
    for await (const _ of session.generate(turn));
    session.dispose();
    expect(asked).toEqual([0, 1, 2, 3, 4]);
  });

  it('a target is an option: every run has a controller of its own', async () => {
    const clock = { ms: 0 };
    const target = { tokensPerSecond: 20, most: 12, start: 3, now: () => clock.ms };
    const hook = () => {
      clock.ms += 10;
    };
    for (let again = 0; again < 2; again++) {
      const items = await run({ ...base, recurrences: target, maxNewTokens: 12, hook });
      expect(items[0]!.recurrences).toBe(3);
      // 50 ms a token at 10 ms a recurrence.
      expect(items[11]!.recurrences).toBe(5);
    }
    const budget = await run({ ...base, recurrences: { budgetMs: 120, most: 9, start: 1, now: () => clock.ms }, maxNewTokens: 5, hook });
    expect(budget.map(({ recurrences }) => recurrences).reduce((a, b) => a + b)).toBeLessThanOrEqual(14);
    await expect(run({ ...base, recurrences: { tokensPerSecnd: 3 } as never })).rejects.toThrow(/unknown option "tokensPerSecnd"/);
    await expect(run({ ...base, recurrences: target, speculative: { draftRecurrences: 1, lookahead: 2 } })).rejects.toThrow(
      /a depth by token and speculative cannot be combined/,
    );
  });
});

describe('memory', () => {
  const strategies: Record<string, Partial<GenerateOptions>> = {
    plain: {},
    'warm start': { warmStart: 'norm-state' },
    adaptive: { exit: latentDiff({ threshold: 0.2 }), recurrences: 9 },
    speculative: { speculative: { draftRecurrences: 1, lookahead: 3 } },
    wavefront: { wavefront: { freeze: 'fixed' } },
    sampled: { temperature: 1, topK: 5, repetitionPenalty: 1.1, alternatives: 3 },
  };

  it.each(Object.entries(strategies))(
    '%s: leaving at any token, an abort at any recurrence and an error leave nothing behind',
    async (_, strategy) => {
      const options = { ...base, ...strategy, maxNewTokens: 8 };
      for (let leaveAt = 0; leaveAt < 8; leaveAt++) {
        let n = 0;
        for await (const item of generate(options)) if (n++ === leaveAt || item.finish !== undefined) break;
        expect(device.memory().buffers).toBe(idle);
      }
      for (const abortAt of [1, 4, 9, 17]) {
        const abort = new AbortController();
        let n = 0;
        const hook = () => void (++n === abortAt && abort.abort()) as undefined;
        await expect(run({ ...options, hook, signal: abort.signal })).rejects.toThrow(/aborted/);
        expect(device.memory().buffers).toBe(idle);
        let m = 0;
        const broken = () => {
          if (++m === abortAt) throw new Error('broken hook');
          return undefined;
        };
        await expect(run({ ...options, hook: broken })).rejects.toThrow('broken hook');
        expect(device.memory().buffers).toBe(idle);
      }
    },
  );

  it('50 generations stay flat', async () => {
    const before = device.memory();
    let reserved = 0;
    for (let i = 0; i < 50; i++) {
      await run({ ...base, ...Object.values(strategies)[i % 6]!, maxNewTokens: 5, seed: i });
      if (i === 11) reserved = device.memory().reserved;
    }
    expect(device.memory().buffers).toBe(before.buffers);
    expect(device.memory().bytes).toEqual(before.bytes);
    expect(device.memory().reserved).toBe(reserved);
  });
});

describe('refused before any work', () => {
  const refused: [string, object, RegExp][] = [
    ['an unknown option', { topk: 3 }, /unknown option "topk"/],
    ['an unknown wavefront option', { wavefront: { eta: 1 } }, /wavefront: unknown option "eta"/],
    ['an unknown speculative option', { speculative: { draftRecurrences: 1, lookahead: 2, draft: 1 } }, /unknown option "draft"/],
    ['depth 0', { recurrences: 0 }, /recurrences \(depth\).*1 to 65536; got 0/],
    ['a huge depth', { recurrences: 1e9 }, /got 1000000000/],
    ['a temperature below 0', { temperature: -1 }, /temperature must be from 0/],
    ['a temperature that f32 cannot divide by', { temperature: 1e-40 }, /temperature must be 0, for the most likely token, or from 1e-20/],
    ['NaN for top-p', { topP: Number.NaN }, /topP/],
    ['min-p above 1', { minP: 1.1 }, /minP must be from 0 to 1/],
    ['a token outside the vocabulary', { prompt: [24] }, /token 24 is outside the vocabulary of 24/],
    ['a bias for such a token', { logitBias: { 99: 1 } }, /token id of logitBias/],
    ['an empty prompt', { prompt: [] }, /prompt has no tokens/],
    ['a prompt that fills the context', { prompt: new Array(64).fill(1) }, /leaves no room/],
    ['too many new tokens', { maxNewTokens: 60 }, /at most 59 new tokens/],
    ['stop strings without a tokenizer', { tokenizer: undefined, prompt: [1], stopStrings: ['x'] }, /stopStrings need a tokenizer/],
    ['an empty stop string', { stopStrings: [''] }, /must not be empty/],
    [
      'early exit over own slots',
      { exit: latentDiff(), policy: parseKVPolicy('full') },
      /cannot serve mixed-depth: each query reads its own slot/,
    ],
    ['depth by token over own slots', { recurrences: () => 2, policy: parseKVPolicy('compress-r2') }, /cannot serve mixed-depth/],
    [
      'exact speculation over shared slots',
      { speculative: { draftRecurrences: 1, lookahead: 2 }, policy: parseKVPolicy('latest-compress-s2') },
      /cannot serve parallel/,
    ],
    [
      'speculation with an exit rule',
      { exit: latentDiff(), speculative: { draftRecurrences: 1, lookahead: 2 } },
      /exit and speculative cannot be combined/,
    ],
    [
      'speculation with warm start',
      { warmStart: 'state', speculative: { draftRecurrences: 1, lookahead: 2 } },
      /warmStart and speculative cannot/,
    ],
    [
      'speculation with depth by token',
      { recurrences: () => 2, speculative: { draftRecurrences: 1, lookahead: 2 } },
      /depth by token and speculative/,
    ],
    ['speculation with wavefront', { wavefront: {}, speculative: { draftRecurrences: 1, lookahead: 2 } }, /speculative and wavefront/],
    ['wavefront with warm start', { warmStart: 'state', wavefront: {} }, /wavefront.continuous/],
    ['wavefront with an exit rule', { exit: latentDiff(), wavefront: {} }, /exit and wavefront/],
    ['drafts deeper than the verification', { speculative: { draftRecurrences: 4, lookahead: 2 } }, /from 1 to the depth, 3; got 4/],
    ['an unknown warm start', { warmStart: 'warm' }, /"norm-state" or "state"/],
    ['an unknown freeze rule', { wavefront: { freeze: 'now' } }, /wavefront.freeze must be one of/],
  ];

  it.each(refused)('%s', async (_, options, message) => {
    const spy = { ...base, ...options } as GenerateOptions;
    await expect(run(spy)).rejects.toThrow(message);
    expect(device.memory().buffers).toBe(idle);
  });

  it('in a batch: strategies of one sequence, and its own unknown options', async () => {
    await expect(all(generateBatch({ model, prompts: [[1]], wavefront: {} }))).rejects.toThrow(/decode one sequence/);
    await expect(all(generateBatch({ model, prompts: [[1]], prompt: [1] } as never))).rejects.toThrow(/unknown option "prompt"/);
    await expect(all(generateBatch({ model, prompts: [[1], []] }))).rejects.toThrow(/no tokens/);
    expect(await all(generateBatch({ model, prompts: [] }))).toEqual([]);
  });

  it('exit rules refuse bad options', () => {
    expect(() => latentDiff({ every: 0 })).toThrow(/every must be a whole number from 1/);
    expect(() => latentDiff({ treshold: 1 } as never)).toThrow(/unknown option "treshold"/);
    expect(() => latentDiff({ threshold: Number.NaN })).toThrow(/must be a number/);
  });
});

describe('score', () => {
  it('agrees with what generation reports', async () => {
    const items = await run({ ...base, maxNewTokens: 6, seed: 9, temperature: 1 });
    const text = items.map((item) => item.text).join('');
    for (const chunk of [1, 3, 256]) {
      const scored = await score({ model, tokenizer: letters, prompt: 'hello', continuation: text, recurrences: 3, seed: 9, chunk });
      expect(scored.tokens.map(({ logprob }) => logprob)).toEqual(items.map(({ logprob }) => logprob));
      expect(scored.logLikelihood).toBeCloseTo(
        items.reduce((sum, { logprob }) => sum + logprob, 0),
        6,
      );
      expect(scored.perplexity).toBeCloseTo(Math.exp(-scored.logLikelihood / 6), 6);
    }
    const greedy = await run({ ...base, maxNewTokens: 4 });
    expect((await score({ model, prompt: letters.encode('hello'), continuation: tokensOf(greedy), recurrences: 3 })).greedy).toBe(true);
    expect((await score({ model, prompt: letters.encode('hello'), continuation: tokensOf(items), recurrences: 3, seed: 9 })).greedy).toBe(
      false,
    );
    expect(device.memory().buffers).toBe(idle);
  });

  it('without a prompt the first token is the condition; refuses what cannot be scored', async () => {
    expect((await score({ model, continuation: [1, 2, 3] })).tokens.map(({ token }) => token)).toEqual([2, 3]);
    await expect(score({ model, continuation: [1] })).rejects.toThrow(/no token to score/);
    await expect(score({ model, continuation: 'ab' })).rejects.toThrow(/needs a tokenizer/);
    await expect(score({ model, continuation: [1, 99] })).rejects.toThrow(/token 99 is outside/);
  });
});

describe('agreement', () => {
  it('is the share of initial states that agree, and 1 from the zero state', async () => {
    const options = { model, prompt: [1, 2], continuation: [3, 4, 5], recurrences: 2 };
    const certain = await agreement({ ...options, initScale: 0, seeds: 3 });
    expect(certain.every(({ agreement: share, deviation }) => (share === 0 || share === 1) && deviation < 1e-7)).toBe(true);
    const seeds = [5, 6, 7, 8];
    const scores = await Promise.all(seeds.map((seed) => score({ ...options, seed })));
    const spread = await agreement({ ...options, seeds });
    spread.forEach(({ token, agreement: share, meanLogprob }, i) => {
      expect(token).toBe(options.continuation[i]);
      expect(share).toBe(scores.filter(({ tokens }) => tokens[i]!.best).length / 4);
      expect(meanLogprob).toBeCloseTo(
        scores.reduce((sum, { tokens }) => sum + tokens[i]!.logprob / 4, 0),
        6,
      );
    });
    expect(spread.some(({ deviation }) => deviation > 1e-3)).toBe(true);
    await expect(agreement({ ...options, seeds: 0 })).rejects.toThrow(/count from 1/);
  });
});

describe('wavefront accelerations', () => {
  it('follow the formulas, aligned by position', async () => {
    const state = (values: number[][]) => device.tensor(values.flat(), [1, values.length, 2]);
    const older = {
      start: 4,
      tensor: state([
        [9, 9],
        [1, 2],
        [3, 1],
      ]),
    };
    const before = {
      start: 5,
      tensor: state([
        [2, 2],
        [4, 1],
        [0, 3],
      ]),
    };
    const after = {
      start: 5,
      tensor: state([
        [4, 1],
        [4, 4],
        [1, 1],
      ]),
    };
    const norm = (x: number, y: number) => Math.hypot(x, y);
    const second = [norm(4 - 4 + 1, 1 - 4 + 2) / norm(4, 1), norm(4 - 8 + 3, 4 - 2 + 1) / norm(4, 4)];
    const one = await measureStates('latent-acceleration-1', before, after, older);
    [...second, norm(1, -2) / norm(1, 1)].forEach((value, i) => expect(one[i]).toBeCloseTo(value, 5));
    const two = await measureStates('latent-acceleration-2', before, after, older);
    second.forEach((value, i) => expect(two[i]).toBeCloseTo(value, 4));
    expect(two[2]).toBeNaN();
    const first = await measureStates('latent-acceleration-2', before, after, undefined);
    expect(first[0]).toBeCloseTo(norm(4 - 4, 1 - 4) / norm(4, 1), 4);
    const firstOne = await measureStates('latent-acceleration-1', before, after, undefined);
    expect(firstOne[0]).toBeCloseTo(norm(2, -1) / norm(4, 1), 5);
    for (const { tensor } of [older, before, after]) tensor.dispose();
    expect(device.memory().buffers).toBe(idle);
  });
});
