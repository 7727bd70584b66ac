import type { KVCache } from '@unroll/nn';
import { parseKVPolicy } from '@unroll/nn';
import { OutOfMemoryError } from '@unroll/tensor';
import { type CpuDevice, createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { generate, generateBatch, kl, Session } from '../src/index.js';
import { all, tinyModel, tokensOf } from './support.js';

// 32 MiB for everything: 2 KiB of keys and values a row, 2 + 2 r rows a token.
let device: CpuDevice;
let model: ReturnType<typeof tinyModel>;
beforeAll(() => {
  device = createCpuDevice({ maxBytes: 2 ** 25 });
  model = tinyModel(device, 1, { n_embd: 256, n_heads: 4, block_size: 1024 });
});
afterEach(() => expect(device.memory().bytes).toMatchObject({ kv: 0, scratch: 0 }));
afterAll(() => {
  model.dispose();
  device.dispose();
});

const prompt = [1, 2, 3];
const roomFor = (recurrences: number, options: Parameters<typeof model.createCache>[0] = {}) => {
  const cache = model.createCache(options);
  const { left, prompt: own, token } = cache.room(prompt.length, recurrences);
  cache.dispose();
  return Math.floor((left - own) / token);
};
const quiet = { stopTokens: [] as number[], seed: 1 };

describe('a text whose keys and values have no room', () => {
  it('is refused before any work, with the numbers and what would fit', async () => {
    const fit = roomFor(160);
    expect(fit).toBeGreaterThan(25);
    expect(fit).toBeLessThan(50);
    let steps = 0;
    const hook = () => void steps++;
    const run = all(generate({ model, prompt, recurrences: 160, maxNewTokens: fit + 1, hook, ...quiet }));
    await expect(run).rejects.toThrow(OutOfMemoryError);
    await expect(run).rejects.toThrow(
      new RegExp(
        `generate: no room for keys and values: 3 prompt and ${fit + 1} new tokens at depth 160 take ${(3 + fit + 1) * 322 * 2048} bytes, and \\d+ are left on the cpu device \\(.*maxBytes 33554432\\); ask for at most ${fit} new tokens, lower the depth`,
      ),
    );
    expect(steps).toBe(0);
    const items = await all(generate({ model, prompt, recurrences: 160, maxNewTokens: fit, ...quiet }));
    expect(items.length).toBe(fit);
  });

  it('has as many tokens as fit where no number was asked for', async () => {
    const fit = roomFor(160);
    const items = await all(generate({ model, prompt, recurrences: 160, ...quiet }));
    expect([items.length, items.at(-1)!.finish]).toEqual([fit, 'length']);
  });

  it('is refused where not even the prompt fits', async () => {
    const long = Array.from({ length: 200 }, (_, i) => i % 24);
    await expect(all(generate({ model, prompt: long, recurrences: 160, ...quiet }))).rejects.toThrow('shorten the prompt, lower the depth');
  });

  it('fits with a policy that keeps fewer loops, or with a depth that fits', async () => {
    const policy = parseKVPolicy('compress-s2');
    const fit = roomFor(160);
    expect(roomFor(160, { policy })).toBeGreaterThan(50 * fit);
    const options = { model, prompt, maxNewTokens: fit + 3, ...quiet };
    expect((await all(generate({ ...options, recurrences: 160, policy }))).length).toBe(fit + 3);
    expect((await all(generate({ ...options, recurrences: 100 }))).length).toBe(fit + 3);
  });

  it('is not refused for loops that an exit rule may spare it', async () => {
    const fit = roomFor(160);
    const exit = kl({ threshold: 1e9 });
    const items = await all(generate({ model, prompt, recurrences: 160, maxNewTokens: 4 * fit, exit, ...quiet }));
    expect(items.length).toBe(4 * fit);
  });

  it('is refused in a batch by the sum of its texts, whose samples share a prompt', async () => {
    const fit = roomFor(160);
    const each = Math.floor(fit / 3);
    const options = { model, prompts: [prompt], samples: 3, recurrences: 160, ...quiet };
    await expect(all(generateBatch({ ...options, maxNewTokens: each + 1 }))).rejects.toThrow(
      `in 3 texts at depth 160 take ${(3 + 3 * (each + 1)) * 322 * 2048} bytes`,
    );
    expect((await all(generateBatch({ ...options, maxNewTokens: each }))).length).toBe(3 * each);
  });

  it('is refused in a session, which goes on with what it had', async () => {
    const fit = roomFor(160) - 4;
    const session = new Session({ model, use: 'equal-depth' });
    const turn = (tokens: readonly number[], maxNewTokens: number) =>
      all(session.generate({ prompt: tokens, recurrences: 160, maxNewTokens, ...quiet }));
    const first = [...prompt, ...tokensOf(await turn(prompt, 4))];
    await expect(turn(first, fit + 5)).rejects.toThrow(OutOfMemoryError);
    const more = await turn(first, fit - 3);
    expect(more.at(-1)!.report).toMatchObject({ cachedTokens: 6, newTokens: fit - 3 });
    session.dispose();
    const fresh = await all(generate({ model, prompt: first, recurrences: 160, maxNewTokens: fit - 3, ...quiet }));
    expect(tokensOf(more)).toEqual(tokensOf(fresh));
  });
});

describe('on a device that does not tell how much memory it has', () => {
  it('the largest operand decides, and pools move to grow', async () => {
    const roomy = createCpuDevice({ threads: 1 });
    const own = tinyModel(roomy, 1);
    const { taken } = roomy.capacity;
    let operandBytes = Number.POSITIVE_INFINITY;
    Object.defineProperty(roomy, 'capacity', {
      get: () => ({ bytes: Number.POSITIVE_INFINITY, tensorBytes: 1e9, operandBytes, growsInPlace: false, why: 'a test', taken }),
    });
    const options = { model: own, prompt, recurrences: 4, maxNewTokens: 20, ...quiet };
    expect((await all(generate(options))).length).toBe(20);
    // Keys of 15 tokens: 10 slots of 128 bytes each.
    operandBytes = 15 * 10 * 128;
    await expect(all(generate(options))).rejects.toThrow('ask for at most 12 new tokens');
    expect((await all(generate({ ...options, maxNewTokens: 12 }))).length).toBe(12);
    for (const owner of [own, roomy]) owner.dispose();
  });
});

describe('a text of known length', () => {
  it('has one pool, which grows where it is: what is reserved stays as it is', async () => {
    const roomy = createCpuDevice();
    const own = tinyModel(roomy, 1, { block_size: 1024 });
    const cache: KVCache = own.createCache();
    const moved: unknown[] = [];
    const growing = roomy.growing.bind(roomy);
    roomy.growing = (...args) => {
      moved.push(args);
      return growing(...args);
    };
    const reserved: number[] = [];
    const allocated: number[] = [];
    for await (const _ of generate({ model: own, prompt, recurrences: 16, maxNewTokens: 300, cache, ...quiet })) {
      reserved.push(roomy.memory().reserved);
      allocated.push(cache.usage().allocatedBytes);
    }
    expect(moved.length).toBe(2);
    expect(allocated.at(-1)! / allocated[0]!).toBeGreaterThan(10);
    // The passes' own tables grow a little.
    expect(reserved.at(-1)! - reserved[0]!).toBeLessThan(2 ** 20);
    const { logicalBytes, allocatedBytes } = cache.usage();
    expect(allocatedBytes).toBeGreaterThanOrEqual(logicalBytes);
    expect(allocatedBytes).toBeLessThan(1.01 * logicalBytes);
    for (const owner of [cache, own, roomy]) owner.dispose();
  });
});
