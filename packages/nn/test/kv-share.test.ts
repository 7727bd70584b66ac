import { createCpuDevice } from '@unroll/tensor/cpu';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { KVCache, type LayerCall, parseKVPolicy, policyRefusal } from '../src/index.js';

const device = createCpuDevice();
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

const layers = { prelude: 0, core: 1, coda: 0 };
const create = (batch: number) =>
  new KVCache({ device, layers, kvHeads: 1, headDim: 2, contextLength: 64, batch, policy: parseKVPolicy('latest') });

/** Writes one token with a mark for each named sequence, at loops of their own, and gives what each then reads of its positions. */
async function append(
  cache: KVCache,
  sequences: readonly number[],
  marks: readonly number[],
  loops: readonly number[],
): Promise<number[][]> {
  const pass = cache.begin(
    Int32Array.from(sequences, (b) => cache.length(b)),
    sequences,
  );
  const call: LayerCall = { part: 'core', loop: loops, layer: 0 };
  const values = device.tensor(
    marks.flatMap((mark) => [mark, mark]),
    [sequences.length, 1, 1, 2],
  );
  const view = pass.keys(call, values, values);
  const [rows, pool] = [await view.keyRows.data(), await view.k.data()];
  const S = view.keyRows.shape[1]!;
  for (const tensor of [values, view.keyRows]) tensor.dispose();
  pass.dispose();
  return sequences.map((b, i) => Array.from(rows.slice(i * S, i * S + cache.length(b)), (row) => (row < 0 ? -1 : pool[2 * row]!)));
}

describe('sequences of one cache', () => {
  it('some of them, in any order, each at a loop of its own', async () => {
    const cache = create(3);
    expect(await append(cache, [2, 0], [20, 0], [1, 0])).toEqual([[20], [0]]);
    expect([0, 1, 2].map((b) => cache.length(b))).toEqual([1, 0, 1]);
    // At loop 0 the key that sequence 2 wrote at loop 1 is too deep.
    expect(await append(cache, [2, 1], [21, 10], [0, 3])).toEqual([[-1, 21], [10]]);
    expect(() => cache.begin(Int32Array.of(0, 0), [1, 1])).toThrow(/takes each sequence once/);
    expect(() => cache.begin(Int32Array.of(0), [3])).toThrow(/sequence 3 does not exist/);
    expect(() => cache.begin(Int32Array.of(), [])).toThrow(/must be \(0, T\)/);
    cache.dispose();
  });

  it('copies share memory until one overwrites, and none sees the other', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            what: fc.constantFrom('append', 'append', 'copy', 'truncate', 'rewrite'),
            a: fc.integer({ min: 0, max: 2 }),
            b: fc.integer({ min: 0, max: 2 }),
            n: fc.integer({ min: 0, max: 5 }),
          }),
          { maxLength: 20 },
        ),
        async (steps) => {
          let cache = create(3);
          const expected: number[][] = [[], [], []];
          let mark = 0;
          for (const { what, a, b, n } of steps) {
            if (what === 'copy') {
              cache.copySequence(a, b, n);
              if (a !== b) expected[b] = expected[a]!.slice(0, n);
            } else if (what === 'truncate') {
              cache.truncate(n, a);
              expected[a] = expected[a]!.slice(0, n);
            } else if (what === 'rewrite' && expected[a]!.length > 0) {
              const position = Math.min(n, expected[a]!.length - 1);
              const pass = cache.begin(Int32Array.of(position), [a]);
              const value = device.tensor([++mark, mark], [1, 1, 1, 2]);
              pass.keys({ part: 'core', loop: 0, layer: 0 }, value, value).keyRows.dispose();
              value.dispose();
              pass.dispose();
              expected[a]![position] = mark;
            } else {
              expected[a]!.push(++mark);
              expect(await append(cache, [a], [mark], [0])).toEqual([expected[a]]);
            }
            // The same content in a fork, and through the host.
            const fork = n % 2 === 0 ? cache.fork() : create(3);
            if (n % 2 !== 0) fork.load(await cache.save());
            cache.dispose();
            cache = fork;
          }
          for (const [sequence, marks] of expected.entries()) {
            expect(cache.length(sequence)).toBe(marks.length);
            expect(await append(cache, [sequence], [-9], [0])).toEqual([[...marks, -9]]);
          }
          cache.dispose();
        },
      ),
      { numRuns: 100 },
    );
  });

  it('a shared row counts once', async () => {
    const cache = create(2);
    await append(cache, [0], [1], [0]);
    await append(cache, [0], [2], [0]);
    const { logicalBytes } = cache.usage();
    cache.copySequence(0, 1);
    expect(cache.usage().logicalBytes).toBe(logicalBytes);
    cache.truncate(0, 0);
    expect(cache.usage().logicalBytes).toBe(logicalBytes);
    cache.truncate(0, 1);
    expect(cache.usage().logicalBytes).toBe(0);
    cache.dispose();
  });
});

it('load refuses what was saved from another kind of cache, and damaged content', async () => {
  const cache = create(1);
  await append(cache, [0], [1], [0]);
  const saved = await cache.save();
  expect(() => cache.load({ ...saved, policy: parseKVPolicy('skip') })).toThrow(/another kind of cache/);
  expect(() => cache.load({ ...saved, lengths: [1, 1] })).toThrow(/another kind of cache/);
  expect(() => cache.load({ ...saved, keys: new Float32Array(3) })).toThrow(/contradict each other/);
  expect(() => cache.load({ ...saved, lengths: [99] })).toThrow(/contradict each other/);
  expect(() => cache.load({ ...saved, entries: Int32Array.of(0, 0, 5, 0) })).toThrow(/contradict each other/);
  expect(() => cache.load({ ...saved, entries: Int32Array.of(0, 0, 0, 7) })).toThrow(/contradict each other/);
  cache.dispose();
});

it('last-only: prompts keep each loop, decoded tokens the deepest alone', async () => {
  const cache = new KVCache({ device, layers, kvHeads: 1, headDim: 2, contextLength: 64, policy: parseKVPolicy('last-only') });
  cache.markDecoded(1);
  const token = async (position: number, depth: number, ask: number) => {
    const pass = cache.begin(Int32Array.of(position));
    let seen: number[] = [];
    for (let loop = 0; loop < depth; loop++) {
      const value = device.tensor([10 * position + loop, 0], [1, 1, 1, 2]);
      const view = pass.keys({ part: 'core', loop, layer: 0 }, value, value);
      const [rows, pool] = [await view.keyRows.data(), await view.k.data()];
      if (loop === ask) seen = Array.from(rows, (row) => pool[2 * row]!);
      for (const tensor of [value, view.keyRows]) tensor.dispose();
    }
    pass.dispose();
    return seen;
  };
  expect(await token(0, 3, 2)).toEqual([2]);
  // The prompt token gives each loop its own keys; the decoded one at its loop so far, then its deepest.
  expect(await token(1, 4, 1)).toEqual([1, 11]);
  expect(await token(2, 3, 0)).toEqual([0, 13, 20]);
  expect(await token(3, 5, 4)).toEqual([2, 13, 22, 34]);
  expect(cache.usage()).toMatchObject({ slots: 3, logicalBytes: (3 + 1 + 1 + 1) * 2 * 2 * 4 });
  cache.dispose();
  expect(
    () =>
      new KVCache({
        device,
        layers,
        kvHeads: 1,
        headDim: 2,
        contextLength: 8,
        policy: { lookup: 'last-only', compression: { kind: 'anchor' } },
      }),
  ).toThrow(/cannot be combined with compression/);
});

describe('what a policy can serve', () => {
  const counts = { prelude: 2, core: 4, coda: 2 };
  it.each([
    ['full', false, true],
    ['latest', true, true],
    ['skip', true, true],
    ['always-last', true, false],
    ['last-only', true, false],
    ['compress-s4', true, false],
    ['compress-s8', false, false],
    ['compress-r4', false, false],
    ['compress-anchor', false, false],
    ['latest-compress-s8', true, false],
  ])('%s: mixed depths %s, parallel %s', (name, mixed, parallel) => {
    const policy = parseKVPolicy(name);
    expect(policyRefusal(policy, counts, 'equal-depth')).toBeUndefined();
    expect(policyRefusal(policy, counts, 'mixed-depth') === undefined).toBe(mixed);
    expect(policyRefusal(policy, counts, 'wavefront') === undefined).toBe(mixed);
    expect(policyRefusal(policy, counts, 'parallel') === undefined).toBe(parallel);
  });

  it('a cache refuses a policy that cannot serve its use', () => {
    const options = { device, layers: counts, kvHeads: 1, headDim: 2, contextLength: 8 };
    expect(() => new KVCache({ ...options, policy: parseKVPolicy('full'), use: 'mixed-depth' })).toThrow(
      /cannot serve mixed-depth: each query reads its own slot/,
    );
    const cache = new KVCache({ ...options, use: 'wavefront' });
    expect(cache.policy).toEqual(parseKVPolicy('latest-compress-s4'));
    cache.dispose();
  });
});

describe('a journal', () => {
  const content = async (cache: KVCache) => {
    const { entries, keys } = await cache.save();
    return Array.from({ length: entries.length / 4 }, (_, i) => [
      ...entries.subarray(4 * i, 4 * i + 3),
      keys[2 * entries[4 * i + 3]!]!,
    ]).sort();
  };
  const loopsOf = (cache: KVCache, position: number, from: number, to: number, mark: number) => {
    const pass = cache.begin(Int32Array.of(position));
    for (let loop = from; loop < to; loop++) {
      const value = device.tensor([mark + loop, 0], [1, 1, 1, 2]);
      pass.keys({ part: 'core', loop, layer: 0 }, value, value).keyRows.dispose();
      value.dispose();
    }
    pass.dispose();
  };

  it.each(['latest', 'last-only', 'compress-s1'])('takes back what loops wrote, and what they overwrote: %s', async (policy) => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 6 }), fc.boolean(), async (tooFar, commits) => {
        const [cache, straight] = [0, 1].map(
          () => new KVCache({ device, layers, kvHeads: 1, headDim: 2, contextLength: 16, policy: parseKVPolicy(policy) }),
        ) as [KVCache, KVCache];
        cache.markDecoded(0);
        straight.markDecoded(0);
        for (const [position, surplus] of tooFar.entries()) {
          const journal = cache.openJournal();
          loopsOf(cache, position, 0, 2, 10 * position);
          const mark = journal.mark();
          if (commits) journal.commit(mark);
          loopsOf(cache, position, 2, 2 + surplus, 90);
          journal.rollback(mark);
          journal.close();
          loopsOf(straight, position, 0, 2, 10 * position);
          expect(await content(cache)).toEqual(await content(straight));
          expect(cache.usage().logicalBytes).toBe(straight.usage().logicalBytes);
        }
        cache.dispose();
        straight.dispose();
      }),
      { numRuns: 30 },
    );
  });

  it('is one at a time for each sequence, and ends with what it is about', async () => {
    const cache = new KVCache({ device, layers, kvHeads: 1, headDim: 2, contextLength: 16, batch: 2, policy: parseKVPolicy('latest') });
    const journal = cache.openJournal();
    expect(() => cache.openJournal()).toThrow(/sequence 0 has an open journal/);
    cache.openJournal(1).close();
    oneToken(cache);
    cache.truncate(0);
    journal.rollback(0);
    journal.close();
    expect(cache.usage().logicalBytes).toBe(0);
    cache.openJournal().close();
    cache.dispose();
  });
});

function oneToken(cache: KVCache): void {
  const pass = cache.begin(Int32Array.of(0), [0]);
  const value = device.tensor([1, 0], [1, 1, 1, 2]);
  pass.keys({ part: 'core', loop: 0, layer: 0 }, value, value).keyRows.dispose();
  value.dispose();
  pass.dispose();
}
