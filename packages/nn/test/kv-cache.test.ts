import { attention, OptionError, type Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { findLeaks } from '@unroll/tensor/testing';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { type KeyView, KVCache, type LayerCall, leftPaddedPositions, type Pass, parseKVPolicy, uncachedPass } from '../src/index.js';

const device = createCpuDevice();
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

const layers = { prelude: 1, core: 2, coda: 1 };
const create = (policy = 'full', batch = 1) =>
  new KVCache({ device, layers, kvHeads: 1, headDim: 4, contextLength: 64, batch, policy: parseKVPolicy(policy) });
const coreCall = (loop: number, layer = 0): LayerCall => ({ part: 'core', loop, layer });

/** Stores the value `mark` for every token of the pass and gives, for sequence b, the marks that the call's queries read. */
async function write(pass: Pass, call: LayerCall, mark: number, b = 0): Promise<number[]> {
  const values = device.tensor(new Float32Array(pass.batch * pass.length * 4).fill(mark), [pass.batch, pass.length, 1, 4]);
  let view: KeyView;
  try {
    view = pass.keys(call, values, values);
  } finally {
    values.dispose();
  }
  const S = view.keyRows.shape[1]!;
  const rows = Array.from((await view.keyRows.data()).slice(b * S, (b + 1) * S));
  const pool = await view.k.data();
  view.keyRows.dispose();
  return rows.map((row) => (row < 0 ? -1 : pool[row * 4]!));
}

/** Tokens 0, 1, 2 of depths 3, 1, 2, each its own pass; marks are 10 * position + loop. Then position 3 asks at loop 1. */
async function afterDepths(policy: string): Promise<number[]> {
  const cache = create(policy);
  for (const [position, depth] of [3, 1, 2].entries()) {
    const pass = cache.begin(Int32Array.of(position));
    for (let loop = 0; loop < depth; loop++) await write(pass, coreCall(loop), 10 * position + loop).catch(() => []);
    pass.dispose();
  }
  const pass = cache.begin(Int32Array.of(3));
  const seen = await write(pass, coreCall(1), 31).finally(() => {
    pass.dispose();
    cache.dispose();
  });
  return seen;
}

describe('read rules for a query at loop 1 after tokens of depth 3, 1 and 2', () => {
  it.each([
    ['latest', [1, 10, 21, 31]],
    ['available', [1, 10, 21, 31]],
    ['always-last', [2, 10, 21, 31]],
    ['skip', [1, -1, 21, 31]],
    ['latest-compress-s2', [2, 10, 21, 31]],
  ])('%s', async (policy, expected) => {
    expect(await afterDepths(policy)).toEqual(expected);
  });

  it('full refuses, saying why', async () => {
    await expect(afterDepths('full')).rejects.toThrow(/token at position 1 has no keys in slot 3.*one depth for all tokens/);
  });
});

describe('KVCache', () => {
  it('grows its pool with little memory beside the old and the new one', async () => {
    const [H, D, T] = [32, 128, 600];
    const cache = new KVCache({ device, layers: { prelude: 0, core: 1, coda: 0 }, kvHeads: H, headDim: D, contextLength: 2 * T });
    const pass = async (first: number) => {
      const one = cache.begin(Int32Array.from({ length: T }, (_, i) => first + i));
      for (let loop = 0; loop < 6; loop++) {
        const values = device.tensor(new Float32Array(T * H * D).fill(first + loop), [1, T, H, D]);
        one.keys({ part: 'core', loop, layer: 0 }, values, values).keyRows.dispose();
        values.dispose();
      }
      one.dispose();
    };
    await pass(0);
    const before = device.memory().bytes.kv;
    device.resetPeak();
    await pass(T);
    const { bytes, peak } = device.memory();
    expect(bytes.kv).toBeGreaterThan(1.5 * before);
    // One of keys and values stands twice for a moment, the old a fifth smaller; a piece of rows, and the values of the pass, are beside it.
    expect(peak).toBeLessThan(1.45 * bytes.kv + 3e7);
    const { keys, entries } = await cache.save();
    expect(entries.length).toBe(4 * 6 * 2 * T);
    for (let i = 0; i < entries.length; i += 4) {
      const [, slot, position, row] = entries.subarray(i, i + 4);
      const mark = (position! < T ? 0 : T) + slot!;
      if (keys[row! * H * D + 5] !== mark) expect(keys[row! * H * D + 5], `position ${position}, slot ${slot}`).toBe(mark);
    }
    cache.dispose();
  });

  it('that is told what will come grows where it is, and says what has room', async () => {
    const small = createCpuDevice({ maxBytes: 2 ** 24 });
    const [H, D, T] = [4, 32, 90];
    const cache = new KVCache({ device: small, layers, kvHeads: H, headDim: D, contextLength: 4096, policy: parseKVPolicy('last-only') });
    const row = 2 * H * D * 4;
    const fresh = cache.room(10, 5);
    expect(fresh).toMatchObject({ prompt: 10 * (2 + 5 * 2) * row, token: (2 + 2) * row });
    // What is left is short of 16 MiB by no more than a part for scratch, and what rounding to blocks takes.
    expect(fresh.left).toBeLessThan(2 ** 24);
    expect(fresh.left).toBeGreaterThan(0.85 * 2 ** 24);
    cache.expect(30, T - 30, 5);
    cache.markDecoded(30);
    const places = new Set<unknown>();
    const values = small.zeros([1, 1, H, D]);
    const reserved: number[] = [];
    for (let position = 0; position < T; position++) {
      const pass = cache.begin(Int32Array.of(position));
      const keys = (call: LayerCall) => {
        const { k, v, keyRows } = pass.keys(call, values, values);
        places.add(k.storage.handle).add(v.storage.handle);
        keyRows.dispose();
      };
      keys({ part: 'prelude', loop: 0, layer: 0 });
      for (let loop = 0; loop < 5; loop++) for (let layer = 0; layer < 2; layer++) keys(coreCall(loop, layer));
      keys({ part: 'coda', loop: 0, layer: 0 });
      pass.dispose();
      reserved.push(small.memory().reserved);
    }
    const rows = 30 * 12 + (T - 30) * 4;
    expect(cache.usage()).toMatchObject({ logicalBytes: rows * row, allocatedBytes: rows * row });
    expect([places.size, new Set(reserved.slice(5)).size]).toEqual([2, 1]);
    // The pool itself is no longer free.
    expect(fresh.left - cache.room(0, 5).left).toBeGreaterThan(0.8 * rows * row);
    values.dispose();
    cache.dispose();
    expect(small.memory().buffers).toBe(0);
    small.dispose();
  });

  it('counts slots, tokens and bytes; allocates within 1.25 of what is used and a page of 16 tokens for each slot', async () => {
    const cache = create();
    for (let position = 0; position < 40; position++) {
      const pass = cache.begin(Int32Array.of(position));
      for (let loop = 0; loop < 5; loop++) await write(pass, coreCall(loop), 1);
      pass.dispose();
      const usage = cache.usage();
      expect(usage).toMatchObject({ slots: 5, tokens: position + 1, logicalBytes: (position + 1) * 5 * 2 * 4 * 4 });
      expect(usage.allocatedBytes).toBeLessThanOrEqual(1.25 * usage.logicalBytes + 5 * 16 * 2 * 4 * 4);
    }
    expect(device.memory().bytes.kv).toBe(cache.usage().allocatedBytes);
    cache.dispose();
  });

  it('truncates and reuses the rows', async () => {
    const cache = create();
    const fill = async (start: number, end: number, mark: number) => {
      const pass = cache.begin(Int32Array.from({ length: end - start }, (_, i) => start + i));
      const seen = await write(pass, coreCall(0), mark);
      pass.dispose();
      return seen;
    };
    await fill(0, 8, 1);
    const allocated = cache.usage().allocatedBytes;
    cache.truncate(6);
    expect(cache.usage()).toMatchObject({ tokens: 6, logicalBytes: 6 * 32 });
    expect(await fill(6, 8, 2)).toEqual([1, 1, 1, 1, 1, 1, 2, 2]);
    expect(cache.usage().allocatedBytes).toBe(allocated);
    expect(cache.length()).toBe(8);
    cache.dispose();
  });

  it('gives memory back when much is forgotten, and keeps what is left where it was', async () => {
    const cache = create('full', 2);
    const fill = async (b: number, start: number, end: number, mark: number) => {
      const pass = cache.begin(
        Int32Array.from({ length: end - start }, (_, i) => start + i),
        [b],
      );
      const seen = await write(pass, coreCall(0), mark);
      pass.dispose();
      return seen;
    };
    const within = () => {
      const { logicalBytes, allocatedBytes, slots } = cache.usage();
      expect(allocatedBytes).toBeLessThanOrEqual(1.25 * logicalBytes + 16 * slots * 32);
      return allocatedBytes;
    };
    await fill(0, 0, 40, 1);
    await fill(1, 0, 4, 5);
    const full = within();
    cache.truncate(0, 0);
    expect(within()).toBeLessThan(full / 2);
    cache.copySequence(1, 0);
    expect(await fill(0, 3, 5, 6)).toEqual([5, 5, 5, 6, 6]);
    expect(await fill(1, 4, 6, 7)).toEqual([5, 5, 5, 5, 7, 7]);
    cache.truncate(2, 0);
    within();
    expect(await fill(0, 2, 3, 8)).toEqual([5, 5, 8]);
    cache.truncate(0);
    expect(within()).toBe(0);
    expect(await fill(1, 0, 2, 9)).toEqual([9, 9]);
    cache.dispose();
  });

  it('keeps sequences of a batch apart, padding unseen', async () => {
    const cache = create('full', 2);
    const pass = cache.begin(leftPaddedPositions([3, 1]));
    expect(await write(pass, coreCall(0), 5, 1)).toEqual([5, -1, -1]);
    expect([cache.length(0), cache.length(1)]).toEqual([3, 1]);
    pass.dispose();
    cache.truncate(1, 0);
    expect([cache.length(0), cache.length(1)]).toEqual([1, 1]);
    cache.dispose();
  });

  it('overwrites positions that it has (wavefront)', async () => {
    const cache = create();
    for (const mark of [1, 2]) {
      const pass = cache.begin(Int32Array.of(0, 1, 2));
      expect(await write(pass, coreCall(0), mark)).toEqual([mark, mark, mark]);
      pass.dispose();
    }
    expect(cache.usage().logicalBytes).toBe(3 * 32);
    cache.dispose();
  });

  it.each([
    [[1], /positions must follow each other without gaps; got 1 after -1/],
    [[0, 2], /got 2 after 0/],
    [[0, 1, 1], /got 1 after 1/],
    [Array.from({ length: 65 }, (_, i) => i), /position 64 is beyond the context of 64/],
  ])('refuses positions %j and stays as it was', (positions, message) => {
    const cache = create();
    expect(() => cache.begin(Int32Array.from(positions))).toThrow(message);
    expect(cache.length()).toBe(0);
    cache.dispose();
  });

  it('refuses other misuse', () => {
    const cache = create('full', 2);
    expect(() => cache.begin(Int32Array.of(0))).toThrow(/must be \(2, T\)/);
    expect(() => cache.length(2)).toThrow(/sequence 2 does not exist/);
    expect(() => cache.truncate(-1)).toThrow(/whole number from 0/);
    expect(() => create('full', 0)).toThrow(/batch must be a whole number from 1/);
    cache.dispose();
    cache.dispose();
    expect(() => cache.begin(Int32Array.of(0, 0))).toThrow(/after its dispose/);
  });

  it('never gives one row to two tokens, whatever is written and truncated', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 3 }), fc.integer({ min: 0, max: 6 })), {
          maxLength: 8,
        }),
        async (runs) => {
          const cache = create('latest');
          const marks: number[] = [];
          let mark = 0;
          for (const [tokens, depth, cut] of runs) {
            const start = cache.length();
            const pass = cache.begin(Int32Array.from({ length: tokens }, (_, i) => start + i));
            mark++;
            marks.length = start;
            for (let i = 0; i < tokens; i++) marks.push(mark);
            for (let loop = 0; loop < depth; loop++) expect(await write(pass, coreCall(loop), mark)).toEqual(marks);
            pass.dispose();
            cache.truncate(Math.max(0, cache.length() - cut));
            marks.length = cache.length();
          }
          const live = cache.usage().logicalBytes;
          cache.truncate(0);
          expect(live === 0 || cache.usage().logicalBytes === 0).toBe(true);
          cache.dispose();
        },
      ),
      { numRuns: 60 },
    );
  });
});

it('a pass without a cache may be over as many tokens as a batch for training has', () => {
  const [B, T] = [256, 1024];
  const pass = uncachedPass(
    device,
    B,
    Int32Array.from({ length: B * T }, (_, i) => i % T),
  );
  const k = device.zeros([B, T, 1, 1]);
  const view = pass.keys(coreCall(0), k, k);
  expect(view.keyRows.shape).toEqual([B, T]);
  for (const tensor of [k, view.k, view.v, view.keyRows]) tensor.dispose();
  pass.dispose();
});

it('a pass without a cache sees its own call alone', async () => {
  const pass = uncachedPass(device, 2, leftPaddedPositions([2, 1]));
  const q = device.tensor([1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 1, 2]);
  const view = pass.keys(coreCall(0), q, q);
  const out: Tensor = attention(q, view.k, view.v, view.keyRows, view.visible);
  const values = Array.from(await out.data());
  expect(values.slice(0, 2)).toEqual([1, 2]);
  expect(values.slice(4, 8)).toEqual([0, 0, 7, 8]);
  for (const tensor of [q, view.k, view.v, view.keyRows, out]) tensor.dispose();
  pass.dispose();
});

describe('where the device refuses memory', () => {
  /** Writes marks in a pass over these positions, one for each loop, and gives what the first sequence of them then reads. */
  const fill = async (cache: KVCache, sequences: readonly number[], positions: readonly number[], marks: readonly number[]) => {
    const pass = cache.begin(Int32Array.from(positions), sequences);
    try {
      let seen: number[] = [];
      for (const [loop, mark] of marks.entries()) seen = await write(pass, coreCall(loop), mark);
      return seen;
    } finally {
      pass.dispose();
    }
  };

  it('a truncated cache keeps the keys of its tokens, shrunk or not, and whatever follows', async () => {
    let whole = 0;
    const upTo = (n: number) => Array.from({ length: n }, (_, i) => i);
    const leaks = await findLeaks(device, async () => {
      const cache = create('latest', 2);
      try {
        await fill(cache, [0], upTo(40), [1, 2]);
        const marks = upTo(8).map((position) => 100 + position);
        // Their rows lie behind those of the sequence that goes.
        for (const [position, mark] of marks.entries()) await fill(cache, [1], [position], [3, mark]);
        let failure: unknown;
        try {
          cache.truncate(0, 0);
        } catch (error) {
          failure = error;
        }
        expect(await fill(cache, [1], [8], [4, 200])).toEqual([...marks, 200]);
        await fill(cache, [0], upTo(20), [5, 6]);
        expect(await fill(cache, [1], [9], [7, 201])).toEqual([...marks, 200, 201]);
        cache.truncate(0, 0);
        expect(await fill(cache, [1], [10], [8, 202])).toEqual([...marks, 200, 201, 202]);
        if (failure !== undefined) throw failure;
        whole++;
      } finally {
        cache.dispose();
      }
    });
    expect(leaks).toEqual([]);
    // Twice without a refusal, and where a refusal only put off the shrinking.
    expect(whole).toBeGreaterThan(2);
  });

  it('fork, save and load leave nothing behind, and no tokens without keys', async () => {
    const cache = create('latest', 2);
    await fill(cache, [0, 1], [0, 1, 0, 1], [0, 1]);
    const leaks = await findLeaks(device, async () => {
      cache.fork().dispose();
      const saved = await cache.save();
      const other = create('latest', 2);
      try {
        other.load(saved);
      } catch (error) {
        expect(other.length()).toBe(0);
        throw error;
      } finally {
        other.dispose();
      }
    });
    expect(leaks).toEqual([]);
    const { policy: _, ...without } = await cache.save();
    expect(() => cache.load(without as never)).toThrow(OptionError);
    cache.dispose();
  });
});
