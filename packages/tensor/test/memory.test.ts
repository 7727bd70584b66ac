import { add, logSumExp, OutOfMemoryError, reshape, ShapeError, softmax, tidy, topK } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { findLeaks, Generate, opList } from '@unroll/tensor/testing';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { blockSize, firstAddress, LinearMemory } from '../src/cpu/memory.js';
import { apply } from '../src/op.js';

const MiB = 1 << 20;

describe('blockSize', () => {
  it('is aligned, large enough, at most 12.5 % above 1 KiB too large, and a fixed point of itself', () => {
    fc.assert(
      fc.property(fc.oneof(fc.nat(5000), fc.nat(2 ** 31 - 1), fc.integer({ min: 2 ** 31, max: 2 ** 32 })), (bytes) => {
        const size = blockSize(bytes);
        expect(size % 64).toBe(0);
        expect(size).toBeGreaterThanOrEqual(Math.max(bytes, 64));
        if (bytes > 1024) expect(size).toBeLessThanOrEqual(bytes * 1.125);
        expect(blockSize(size)).toBe(size);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('LinearMemory', () => {
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ take: fc.oneof(fc.nat(300), fc.nat(2000), fc.nat(20_000), fc.nat(400_000)) }) },
    { weight: 3, arbitrary: fc.record({ give: fc.nat() }) },
  );

  it('live blocks are aligned, inside the memory and never overlap, whatever the order of requests', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200, size: 'max' }), fc.boolean(), (steps, nearlyFull) => {
        const memory = new LinearMemory(2 * MiB);
        const live: { at: number; bytes: number }[] = [];
        // Little room makes merging and splitting of small blocks frequent.
        const filler = nearlyFull ? [27, 3].map((pages) => ({ at: memory.allocate(pages * 65536), bytes: pages * 65536 })) : [];
        for (const action of steps) {
          if ('give' in action) {
            const [block] = live.splice(action.give % Math.max(1, live.length), 1);
            if (block !== undefined) memory.free(block.at, block.bytes);
            continue;
          }
          const bytes = action.take;
          let at: number;
          try {
            at = memory.allocate(bytes);
          } catch (error) {
            expect(error).toBeInstanceOf(OutOfMemoryError);
            // Refused only when the blocks in use and the gaps between them leave no such room.
            const ends = [firstAddress, ...[...filler, ...live].map((block) => block.at + blockSize(block.bytes))];
            const starts = [2 * MiB, ...[...filler, ...live].map((block) => block.at)];
            const gaps = ends.map((end) => Math.min(...starts.filter((start) => start >= end)) - end);
            expect(Math.max(...gaps)).toBeLessThan(blockSize(bytes));
            continue;
          }
          expect(at).toBeGreaterThanOrEqual(firstAddress);
          expect(at % 64).toBe(0);
          expect(at + bytes).toBeLessThanOrEqual(memory.reserved);
          for (const other of [...filler, ...live])
            expect(at + blockSize(bytes) <= other.at || other.at + blockSize(other.bytes) <= at).toBe(true);
          live.push({ at, bytes });
        }
        for (const { at, bytes } of [...filler, ...live]) memory.free(at, bytes);
        // All is free again, and what touches merges: seven eighths fit in one block.
        expect(memory.allocate((2 * MiB * 7) / 8)).toBeGreaterThanOrEqual(firstAddress);
      }),
      { numRuns: 300 },
    );
  });

  it('gives a freed block to the next request of its size', () => {
    const memory = new LinearMemory(2 * MiB);
    const [a, b] = [memory.allocate(1000), memory.allocate(1000)];
    memory.free(a, 1000);
    expect(memory.allocate(970)).toBe(a);
    expect(memory.allocate(1000)).not.toBe(b);
  });

  it('merges free neighbours before it grows', () => {
    const memory = new LinearMemory(64 * MiB);
    const start = memory.reserved;
    const blocks = Array.from({ length: 12 }, () => memory.allocate(64 * 1024));
    for (const at of blocks) memory.free(at, 64 * 1024);
    expect(memory.allocate(700 * 1024)).toBe(firstAddress);
    expect(memory.reserved).toBe(start);
  });

  it('serves a request of every size in turn from a memory that stays small', () => {
    const memory = new LinearMemory(256 * MiB);
    for (let bytes = 1000; bytes < 4_000_000; bytes = Math.ceil(bytes * 1.01)) memory.free(memory.allocate(bytes), bytes);
    expect(memory.reserved).toBeLessThan(10 * MiB);
  });

  it('works above 2 GiB, where addresses are negative as 32-bit integers', () => {
    const memory = new LinearMemory();
    const low = memory.allocate(2 ** 31 + 2 ** 20);
    const high = memory.allocate(4096);
    expect(high).toBeGreaterThan(2 ** 31);
    new Float32Array(memory.memory.buffer, high, 4).set([1, 2, 3, 4]);
    const next = memory.allocate(100 * MiB);
    expect(memory.reserved).toBeGreaterThanOrEqual(next + 100 * MiB);
    expect([...new Float32Array(memory.memory.buffer, high, 4)]).toEqual([1, 2, 3, 4]);
    memory.free(low, 2 ** 31 + 2 ** 20);
  });
});

describe('blocks with room', () => {
  it('grow where they are, up to their room, and are freed as a whole', () => {
    const memory = new LinearMemory(64 * MiB);
    const a = memory.allocate(MiB, 16 * MiB);
    const b = memory.allocate(MiB);
    expect(b).toBeGreaterThanOrEqual(a + 16 * MiB);
    expect([memory.resize(a, MiB, 9 * MiB), memory.resize(a, 9 * MiB, 16 * MiB), memory.resize(a, 16 * MiB, 16 * MiB + 1)]).toEqual([
      true,
      true,
      false,
    ]);
    expect(memory.resize(b, MiB, MiB + 1)).toBe(false);
    // What a block no longer has is held for it.
    expect([memory.resize(b, MiB, 1000), memory.resize(b, 1000, MiB), memory.resize(b, MiB, MiB + 1)]).toEqual([true, true, false]);
    memory.free(a, 16 * MiB);
    expect(memory.allocate(16 * MiB)).toBe(a);
  });

  it('come without it where there is none, and lose it where others have no room else', () => {
    const memory = new LinearMemory(32 * MiB);
    const a = memory.allocate(MiB, 64 * MiB);
    expect(memory.resize(a, MiB, 2 * MiB)).toBe(false);
    const b = memory.allocate(MiB, 28 * MiB);
    expect(memory.resize(b, MiB, 4 * MiB)).toBe(true);
    const c = memory.allocate(20 * MiB);
    expect(c).toBeGreaterThanOrEqual(b + 4 * MiB);
    // Their end alone.
    expect([memory.resize(b, 4 * MiB, 7 * MiB), memory.resize(b, 7 * MiB, 9 * MiB)]).toEqual([true, false]);
    expect(memory.resize(b, 7 * MiB, 4 * MiB)).toBe(true);
    expect(() => memory.allocate(20 * MiB)).toThrow(OutOfMemoryError);
    expect(memory.resize(b, 4 * MiB, 5 * MiB)).toBe(false);
    for (const [at, bytes] of [
      [a, MiB],
      [b, 4 * MiB],
      [c, 20 * MiB],
    ] as const)
      memory.free(at, bytes);
    expect(memory.allocate(28 * MiB)).toBe(firstAddress);
  });

  it('never overlap others, whatever the order of requests', { timeout: 60_000 }, () => {
    const size = fc.oneof(fc.nat(3000), fc.nat(400_000));
    const step = fc.oneof(
      fc.record({ shrink: fc.nat(), to: fc.double({ min: 0, max: 1, noNaN: true }) }),
      fc.record({ take: size, room: size }),
      fc.record({ give: fc.nat() }),
      fc.record({ extend: fc.nat(), by: fc.oneof(fc.nat(3000), fc.nat(100_000)) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150, size: 'max' }), (steps) => {
        const memory = new LinearMemory(2 * MiB);
        const live: { at: number; bytes: number }[] = [];
        for (const action of steps) {
          if ('give' in action) {
            const [block] = live.splice(action.give % Math.max(1, live.length), 1);
            if (block !== undefined) memory.free(block.at, block.bytes);
          } else if ('shrink' in action) {
            const block = live[action.shrink % Math.max(1, live.length)];
            if (block === undefined) continue;
            const bytes = Math.floor(block.bytes * action.to);
            expect(memory.resize(block.at, block.bytes, bytes)).toBe(true);
            block.bytes = bytes;
          } else if ('extend' in action) {
            const block = live[action.extend % Math.max(1, live.length)];
            if (block !== undefined && memory.resize(block.at, block.bytes, block.bytes + action.by)) block.bytes += action.by;
          } else {
            try {
              live.push({ at: memory.allocate(action.take, action.room), bytes: action.take });
            } catch (error) {
              expect(error).toBeInstanceOf(OutOfMemoryError);
            }
          }
          const sorted = [...live].sort((a, b) => a.at - b.at);
          const ends = sorted.map(({ at, bytes }) => at + blockSize(bytes));
          expect(sorted.every(({ at }, i) => i === 0 || at >= ends[i - 1]!)).toBe(true);
          expect(ends.every((end) => end <= memory.reserved)).toBe(true);
        }
        for (const { at, bytes } of live) memory.free(at, bytes);
        // All is free again: seven eighths fit in one block.
        expect(memory.allocate((2 * MiB * 7) / 8)).toBeGreaterThanOrEqual(firstAddress);
      }),
      { numRuns: 300 },
    );
  });
});

describe('device.growing and device.resize', () => {
  it('give rows in place: values stay, new rows are zero, bytes are counted as they come', async () => {
    const device = createCpuDevice();
    const junk = device.tensor(new Float32Array(4000).fill(7), [4000], { memory: 'kv' });
    junk.dispose();
    const first = device.growing([2, 3], 1000, { memory: 'kv' });
    device.write(first, Float32Array.of(1, 2, 3, 4, 5, 6));
    expect(device.memory().bytes.kv).toBe(24);
    const { handle } = first.storage;
    const more = device.resize(first, 1000)!;
    expect([more.shape, more.storage.handle, first.disposed]).toEqual([[1000, 3], handle, true]);
    expect(device.memory()).toMatchObject({ bytes: { kv: 12_000 }, buffers: 1 });
    const values = await more.data();
    expect([...values.subarray(0, 6)]).toEqual([1, 2, 3, 4, 5, 6]);
    expect(values.subarray(6).every((value) => value === 0)).toBe(true);
    expect(device.mostRows(more)).toBeLessThan(2000);
    expect(device.resize(more, 2000)).toBeUndefined();
    expect(more.disposed).toBe(false);
    const fewer = device.resize(more, 1)!;
    expect(device.memory()).toMatchObject({ bytes: { kv: 12 }, buffers: 1 });
    expect(device.mostRows(fewer)).toBeGreaterThanOrEqual(1000);
    const again = device.resize(fewer, 2)!;
    // New rows are zero, whatever they were.
    expect([...(await again.data())]).toEqual([1, 2, 3, 0, 0, 0]);
    expect(() => device.resize(again, -1)).toThrow(ShapeError);
    expect(() => device.growing([], 5)).toThrow(ShapeError);
    expect(() => device.growing([1], -1)).toThrow(ShapeError);
    again.dispose();
    expect(device.memory()).toMatchObject({ bytes: { kv: 0 }, buffers: 0 });
    device.dispose();
  });

  it('touches no memory ahead', () => {
    const device = createCpuDevice();
    const before = process.memoryUsage.rss();
    const tensor = device.growing([1, 1024], 2 ** 18, { memory: 'kv' });
    expect(device.memory().reserved).toBeGreaterThan(2 ** 30);
    expect(process.memoryUsage.rss() - before).toBeLessThan(2 ** 28);
    tensor.dispose();
    device.dispose();
  });
});

describe('device.memory()', () => {
  it('is balanced after thousands of operations, and what is reserved stays flat', () => {
    const device = createCpuDevice();
    const round = (seed: number) => {
      for (const op of opList) {
        tidy(device, () => {
          for (const sample of op.samples(new Generate(seed))) {
            const inputs = sample.inputs.map((input) => device.tensor(input.data, input.shape, { dtype: input.dtype }));
            apply(op, inputs, sample.attrs, device);
          }
          return undefined;
        });
      }
    };
    // Every sample once: the largest sets what is reserved.
    for (let seed = 1; seed <= 20; seed++) round(seed);
    const settled = device.memory();
    expect(settled).toMatchObject({ bytes: { weights: 0, kv: 0, scratch: 0 }, buffers: 0 });
    for (let seed = 1; seed <= 20; seed++) round(seed);
    expect(device.memory()).toMatchObject({ bytes: settled.bytes, buffers: 0, reserved: settled.reserved });
    device.dispose();
  });

  it('counts by kind, views once, and remembers the peak', () => {
    const device = createCpuDevice();
    const weight = device.zeros([100], { memory: 'weights' });
    const cache = device.tensor(new Float32Array(10), [10], { memory: 'kv' });
    const bytes = device.fromBytes(new Uint8Array(12), 'f16', [6], { memory: 'weights' });
    const scratch = device.tensor([1, 2]);
    reshape(scratch, [2, 1]);
    expect(device.memory()).toMatchObject({ bytes: { weights: 424, kv: 40, scratch: 8 }, buffers: 4, peak: 472 });
    for (const tensor of [weight, cache, bytes]) tensor.dispose();
    expect(device.memory()).toMatchObject({ bytes: { weights: 0, kv: 0, scratch: 8 }, buffers: 1, peak: 472 });
    device.resetPeak();
    expect(device.memory().peak).toBe(8);
    device.dispose();
    expect(device.memory()).toMatchObject({ bytes: { weights: 0, kv: 0, scratch: 0 }, buffers: 0, reserved: 0 });
    scratch.dispose();
    expect(device.memory().buffers).toBe(0);
  });
});

describe('out of memory', () => {
  it('names the sizes, and the device can be used afterwards', async () => {
    const device = createCpuDevice({ maxBytes: 2 * MiB });
    const x = device.zeros([1000]);
    expect(() => device.zeros([MiB])).toThrow(
      'cpu device: no room for 4194304 bytes; 4096 of at most 2097152 bytes are in use. Dispose tensors, lower the context or the batch, or use a smaller model',
    );
    expect(device.memory()).toMatchObject({ bytes: { scratch: 4000 }, buffers: 1 });
    expect([...(await add(x, x).data())]).toEqual(new Array(1000).fill(0));
    device.dispose();
  });

  it('leaves nothing behind where the second output, or the scratch memory of an operation, finds no room', () => {
    const device = createCpuDevice({ maxBytes: 1 * MiB });
    const x = device.zeros([130_000]);
    const before = device.memory();
    expect(() => topK(x, 65_000)).toThrow(OutOfMemoryError);
    expect(device.memory()).toMatchObject({ bytes: before.bytes, buffers: 1 });
    // The result is small, the transposed copy that it is taken from is not.
    const b = reshape(x, [1000, 130]);
    expect(() => logSumExp(b, { axis: 0 })).toThrow(OutOfMemoryError);
    expect(device.memory().buffers).toBe(1);
    const y = device.zeros([100_000]);
    y.dispose();
    b.dispose();
    x.dispose();
    softmax(device.zeros([120_000])).dispose();
    device.dispose();
  });

  it('frees the scratch memory of an operation that throws: thousands of failures fill nothing', () => {
    const device = createCpuDevice({ maxBytes: 1 * MiB });
    const failing = {
      ...opList[0]!,
      cpu: (c: { scratch(bytes: number): number }) => {
        c.scratch(300_000);
        throw new Error('kernel failed');
      },
    };
    const x = device.tensor([1, 2]);
    for (let i = 0; i < 1000; i++) expect(() => apply(failing, [x], { scale: 1, shift: 0 })).toThrow('kernel failed');
    expect(device.memory().buffers).toBe(1);
    device.zeros([200_000]).dispose();
    device.dispose();
  });
});

describe('findLeaks', () => {
  it('names the allocations whose refusal leaves buffers behind, and takes itself away', async () => {
    const device = createCpuDevice({ threads: 1 });
    const pair = () => {
      const first = device.zeros([4]);
      const second = device.zeros([2]);
      for (const tensor of [first, second]) tensor.dispose();
    };
    expect(await findLeaks(device, pair)).toMatchObject([
      { allocation: 2, buffers: 1, calls: { 0: expect.stringContaining('CpuDevice') } },
    ]);
    expect(await findLeaks(device, () => tidy(device, pair))).toEqual([]);
    const swallowing = () => {
      try {
        pair();
      } catch {
        throw new Error('something else');
      }
    };
    await expect(findLeaks(device, swallowing)).rejects.toThrow('something else');
    pair();
    device.dispose();
  });
});
