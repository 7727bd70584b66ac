import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import {
  add,
  attention,
  concat,
  crossEntropy,
  gatherRows,
  matmul,
  OptionError,
  OutOfMemoryError,
  RangeOpError,
  rmsNorm,
  scatterRows,
  Tensor,
  tidy,
  UnsupportedError,
  weightParts,
} from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { conformAll } from '@unroll/tensor/testing';
import { createWebGPUDevice, type GpuLike, type WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { selfTestSubgroups } from '../src/webgpu/self-test.js';
import { dawnOnNothing, dawnOnVulkan, vulkanDevice } from './support/dawn.js';

let device: WebGPUDevice;
beforeAll(async () => {
  device = await vulkanDevice();
});
afterAll(() => device.dispose());

const range = (n: number, from = 0) => Float32Array.from({ length: n }, (_, i) => from + i);
const wave = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i * 1.7));

describe('createWebGPUDevice', () => {
  it('says what it chose and why', () => {
    expect(device.kind).toBe('webgpu');
    expect(device.description).toMatch(
      /^webgpu: .+; (serial|workgroup) kernels.+; shader-f16 (used|not offered), subgroups (used|not offered)/,
    );
  });

  it('says what an option took away', async () => {
    const plain = await vulkanDevice({ disable: ['subgroups', 'timestamp-query'] });
    expect(plain.description).toContain('subgroups disabled by option, timestamp-query disabled by option');
    expect(plain.traits.subgroups).toBe(false);
    plain.dispose();
  });

  it('takes the true limits of the adapter, not the defaults', () => {
    expect(device.traits.maxBindingBytes).toBeGreaterThanOrEqual(128 * 2 ** 20);
    expect((device.gpuDevice as { limits: { maxBufferSize: number } }).limits.maxBufferSize).toBeGreaterThan(256 * 2 ** 20);
  });

  it('names the package to install where there is no WebGPU, and the driver where there is no adapter', async () => {
    await expect(createWebGPUDevice({ gpu: undefined })).rejects.toThrow(UnsupportedError);
    await expect(createWebGPUDevice({ gpu: null })).rejects.toThrow(/install the package "webgpu"/);
    const empty: GpuLike = { requestAdapter: async () => null };
    await expect(createWebGPUDevice({ gpu: empty })).rejects.toThrow(/no adapter.+Vulkan driver.+--enable-unsafe-webgpu/);
  });

  it.each([
    [{ bytes: 1 }, /unknown option "bytes"/],
    [{ maxBytes: -1 }, /maxBytes must be/],
    [{ maxBindingBytes: 16 }, /at least 1024/],
    [{ disable: ['f64'] }, /disable takes/],
    [{ tuning: 'fast' }, /tuning must be/],
  ])('refuses %j', async (options, message) => {
    const gpu = await dawnOnVulkan();
    const made = createWebGPUDevice({ gpu, ...(options as object) });
    await expect(made).rejects.toThrow(OptionError);
    await expect(made).rejects.toThrow(message);
  });

  it('holds Dawn, which crashes once it is collected', async () => {
    const gpu = await dawnOnNothing();
    const other = await createWebGPUDevice({ gpu });
    other.dispose();
    const pins = (globalThis as Record<symbol, unknown>)[Symbol.for('unroll.webgpu.pinned')] as Set<unknown>;
    expect(pins.has(gpu)).toBe(true);
  });

  it('leaves subgroup kernels when their self-test fails, and says so', async () => {
    // Without a driver nothing is computed: the test of the sums reads what lay there.
    const idle = await createWebGPUDevice({ gpu: await dawnOnNothing(), tuning: 'gpu' });
    expect(idle.traits.subgroups).toBe(false);
    expect(idle.description).toMatch(/subgroup kernels are not used: the self-test of \[1,1036\] x \[7,1036\] (gave .+ for |ended with)/);
    idle.dispose();
  });

  it('takes a record of faults that no kernel wrote for a failed self-test, and leaves nothing behind', async () => {
    const before = device.memory().buffers;
    const read = vi.spyOn(Tensor.prototype, 'data').mockRejectedValueOnce(new RangeOpError('the fault record holds an unknown site 7'));
    expect(await selfTestSubgroups(device)).toMatch(/^the self-test of \[1,1036\] x \[7,1036\] ended with: .*unknown site 7$/);
    read.mockRestore();
    expect(device.memory().buffers).toBe(before);
  });
});

describe('batches', () => {
  it('runs a chain of operations and its read in one submit', async () => {
    const x = device.tensor(range(12), [3, 4]);
    const w = device.tensor(range(4, 1));
    const before = device.stats();
    const y = tidy(device, () => add(rmsNorm(x, w), x));
    await y.data();
    const after = device.stats();
    expect(after.submits - before.submits).toBe(1);
    expect(after.dispatches - before.dispatches).toBe(2);
    expect(after.reads - before.reads).toBe(1);
    for (const tensor of [x, w, y]) tensor.dispose();
  });

  it('shares a submit among the reads of one turn', async () => {
    const x = device.tensor(range(4));
    const ys = [add(x, x), add(x, x), add(x, x)];
    const before = device.stats().submits;
    const values = await Promise.all(ys.map((y) => y.data()));
    expect(device.stats().submits - before).toBe(1);
    expect(values.map((value) => [...value])).toEqual(Array(3).fill([0, 2, 4, 6]));
    for (const tensor of [x, ...ys]) tensor.dispose();
  });

  it('keeps writes in their place among the operations, small ones without a submit', async () => {
    const x = device.tensor(range(4));
    const before = device.stats().submits;
    const y0 = add(x, x);
    device.write(x, Float32Array.of(10, 20, 30, 40));
    const y1 = add(x, x);
    device.write(x, Float32Array.of(-1), 3);
    const y2 = add(x, x);
    expect(device.stats().submits).toBe(before);
    expect([...(await y0.data())]).toEqual([0, 2, 4, 6]);
    expect([...(await y1.data())]).toEqual([20, 40, 60, 80]);
    expect([...(await y2.data())]).toEqual([20, 40, 60, -2]);
    const large = device.zeros([200_000]);
    const sum = add(large, large);
    device.write(large, new Float32Array(200_000).fill(3));
    const later = add(large, large);
    expect((await sum.data()).every((v) => v === 0)).toBe(true);
    expect((await later.data()).every((v) => v === 6)).toBe(true);
    for (const tensor of [x, y0, y1, y2, large, sum, later]) tensor.dispose();
  });

  it('goes on beyond the parameters that one batch holds', async () => {
    const x = device.tensor(range(4));
    const before = device.stats().submits;
    let y = add(x, x);
    for (let i = 0; i < 5000; i++) {
      const next = add(x, x);
      y.dispose();
      y = next;
    }
    expect([...(await y.data())]).toEqual([0, 2, 4, 6]);
    expect(device.stats().submits - before).toBe(2);
    for (const tensor of [x, y]) tensor.dispose();
  });

  it('gives zeros in memory that was used before', async () => {
    const used = device.tensor(new Float32Array(1000).fill(7));
    used.dispose();
    const zeros = device.zeros([1000]);
    expect((await zeros.data()).every((v) => v === 0)).toBe(true);
    zeros.dispose();
  });

  it('reads a tensor that is disposed while the read is on its way', async () => {
    const x = device.tensor(range(64));
    const reading = x.data();
    x.dispose();
    const other = device.tensor(new Float32Array(64).fill(9));
    const y = add(other, other);
    expect([...(await reading)]).toEqual([...range(64)]);
    expect((await y.data())[0]).toBe(18);
    other.dispose();
    y.dispose();
  });
});

describe('memory', () => {
  it('stays flat over 50 repetitions of a step', async () => {
    const x = device.tensor(wave(64 * 64), [64, 64], { memory: 'weights' });
    const w = device.tensor(wave(64));
    const step = async () => {
      const y = tidy(device, () => rmsNorm(matmul(rmsNorm(x, w), x, { transposeB: true }), w));
      await y.data();
      y.dispose();
    };
    await step();
    const { reserved, buffers } = device.memory();
    const { buffersCreated, bindGroups, pipelines } = device.stats();
    for (let i = 0; i < 50; i++) await step();
    expect(device.memory()).toMatchObject({ reserved, buffers });
    expect(device.stats()).toMatchObject({ buffersCreated, bindGroups, pipelines });
    x.dispose();
    w.dispose();
  });

  it('keeps no more freed bytes than the cap', async () => {
    const small = await vulkanDevice({ poolBytes: 1 << 20 });
    for (let i = 1; i <= 20; i++) small.zeros([i * 30_000]).dispose();
    expect(small.memory().reserved).toBeLessThanOrEqual(1 << 20);
    const x = small.tensor(range(10));
    expect([...(await add(x, x).data())]).toEqual([...range(10).map((v) => 2 * v)]);
    small.dispose();
  });

  it('refuses what is beyond maxBytes with the sizes, and goes on', async () => {
    const small = await vulkanDevice({ maxBytes: 1 << 20 });
    const kept = small.tensor(range(100_000));
    expect(() => small.zeros([200_000])).toThrow(OutOfMemoryError);
    expect(() => small.zeros([200_000])).toThrow(/800000 bytes.+of at most 1048576 bytes.+Dispose tensors/);
    // A freed block of another size makes room.
    small.zeros([100_000]).dispose();
    const y = small.zeros([120_000]);
    expect((await kept.data())[99_999]).toBe(99_999);
    expect((await y.data())[0]).toBe(0);
    small.dispose();
  });

  it('refuses a tensor beyond the largest buffer', () => {
    const { maxBufferSize } = (device.gpuDevice as { limits: { maxBufferSize: number } }).limits;
    const rows = Math.ceil(maxBufferSize / 2 ** 22) + 1;
    if (rows * 2 ** 20 > 0x7fffffff) return;
    expect(() => device.empty([rows, 2 ** 20], 'f32')).toThrow(/exceeds the largest buffer/);
  });
});

describe('f16 and bf16 bytes', () => {
  const cpu = createCpuDevice();
  afterAll(() => cpu.dispose());

  it.each(['f16', 'bf16'] as const)('%s: all patterns become what they are on the CPU', async (dtype) => {
    const bytes = new Uint8Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer);
    const [ours, theirs] = [device.fromBytes(bytes, dtype, [65536]), cpu.fromBytes(bytes, dtype, [65536])];
    const [a, b] = [await ours.data(), await theirs.data()];
    // A quiet NaN is a NaN: its payload is not compared.
    const wrong = [...a.keys()].filter((i) => !Object.is(a[i], b[i]));
    expect(wrong).toEqual([]);
    ours.dispose();
    theirs.dispose();
  });

  it('takes odd counts and more than one piece', async () => {
    const low = await vulkanDevice({ maxBindingBytes: 1024 });
    const values = Uint16Array.from({ length: 1001 }, (_, i) => 0x3c00 + i);
    const x = low.fromBytes(new Uint8Array(values.buffer), 'f16', [1001]);
    const y = cpu.fromBytes(new Uint8Array(values.buffer), 'f16', [1001]);
    expect([...(await x.data())]).toEqual([...(await y.data())]);
    low.dispose();
  });
});

describe('bytes in pieces', () => {
  it.each([
    ['f32', [2_200_001]],
    ['f16', [4_400_001]],
    ['q8', [1208, 8000]],
  ] as const)('%s %j lie where fromBytes puts them', async (dtype, shape) => {
    const lengths = dtype === 'f32' ? [4 * shape[0]] : weightParts(dtype, shape).map(({ bytes }) => bytes);
    const parts = lengths.map((length) => new Uint8Array(length));
    for (const part of parts) for (let i = 0; i < part.length; i++) part[i] = i % 2 === 0 ? (i >> 1) + (i >> 14) : 0x30 + (i % 7);
    const read = async (part: number, begin: number, end: number, into: Uint8Array) => into.set(parts[part]!.subarray(begin, end));
    const pieces = await device.fromPieces(read, dtype, shape);
    const whole = device.fromBytes(parts, dtype, shape, dtype === 'f32' ? {} : { as: dtype });
    const [a, b] = await Promise.all([pieces, whole].map((x) => (dtype === 'f32' ? x.data() : device.readBytes(x))));
    expect(Buffer.compare(new Uint8Array(a!.buffer), new Uint8Array(b!.buffer))).toBe(0);
    pieces.dispose();
    whole.dispose();
  });
});

describe('an adapter of small limits', () => {
  it('folds more workgroups than one dimension holds, in every operation', async () => {
    const low = await vulkanDevice({ tuning: 'gpu' });
    low.traits = { ...low.traits, maxWorkgroups: 3 };
    expect(await conformAll(low, 5)).toEqual([]);
    low.dispose();
  });

  it('splits what exceeds a binding by rows', async () => {
    const cpu = createCpuDevice();
    const low = await vulkanDevice({ maxBindingBytes: 8192 });
    const run = async (on: typeof low | typeof cpu): Promise<Float32Array[]> => {
      const a = on.tensor(wave(40 * 36), [40, 36]);
      const b = on.tensor(wave(100 * 36), [100, 36]);
      const index = on.tensor([0, 99, 50, 3, 98], [5], { dtype: 'i32' });
      const results: Tensor[] = [
        matmul(a, b, { transposeB: true }),
        gatherRows(b, index),
        add(b, b),
        rmsNorm(b, on.tensor(wave(36))),
        concat([b, a], 0),
        concat([b, b], 1),
      ];
      scatterRows(b, index, on.tensor(wave(5 * 36), [5, 36]));
      results.push(b);
      return Promise.all(results.map(async (result) => (await result.data()) as Float32Array));
    };
    const [ours, theirs] = [await run(low), await run(cpu)];
    for (const [i, values] of ours.entries()) {
      const far = values.findIndex((v, j) => !(Math.abs(v - theirs[i]![j]!) <= 1e-5 + 1e-5 * Math.abs(v)));
      expect(far, `result ${i}`).toBe(-1);
    }
    expect(() => matmul(low.zeros([2, 64]), low.zeros([64, 64]))).toThrow(/an operand of 16384 bytes exceeds .+\(8192 bytes\)/);
    expect(() => rmsNorm(low.zeros([2, 2000]), low.zeros([2000]))).toThrow(UnsupportedError);
    low.dispose();
    cpu.dispose();
  });
});

describe('bad values', () => {
  it.each([
    [
      'gatherRows',
      (d: WebGPUDevice | ReturnType<typeof createCpuDevice>) => gatherRows(d.zeros([3, 2]), d.tensor([0, 7], [2], { dtype: 'i32' })),
    ],
    [
      'crossEntropy',
      (d: WebGPUDevice | ReturnType<typeof createCpuDevice>) => crossEntropy(d.zeros([2, 3]), d.tensor([1, -4], [2], { dtype: 'i32' })),
    ],
    [
      'attention',
      (d: WebGPUDevice | ReturnType<typeof createCpuDevice>) =>
        attention(
          d.zeros([1, 1, 1, 2]),
          d.zeros([3, 1, 2]),
          d.zeros([3, 1, 2]),
          d.tensor([0, 1], [1, 2], { dtype: 'i32' }),
          d.tensor([5], [1, 1], { dtype: 'i32' }),
        ),
    ],
    [
      'scatterRows',
      (d: WebGPUDevice | ReturnType<typeof createCpuDevice>) => {
        const table = d.zeros([3, 2]);
        scatterRows(table, d.tensor([1, 3], [2], { dtype: 'i32' }), d.zeros([2, 2]));
        return table;
      },
    ],
  ])('of %s arrive at the next read, in the words of the CPU, and once', async (_, f) => {
    const cpu = createCpuDevice();
    let words = '';
    try {
      f(cpu);
    } catch (error) {
      words = (error as Error).message;
    }
    expect(words).not.toBe('');
    const bad = f(device);
    const reading = bad.data();
    await expect(reading).rejects.toThrow(RangeOpError);
    await expect(reading).rejects.toThrow(words);
    const x = device.tensor(range(3));
    expect([...(await x.data())]).toEqual([0, 1, 2]);
    cpu.dispose();
    x.dispose();
    bad.dispose();
  });
});

describe('profile', () => {
  it('times what was enqueued, by kernel', async () => {
    const x = device.tensor(wave(64 * 64), [64, 64]);
    const times = await device.profile(() => tidy(device, () => void add(matmul(x, x), add(x, x))));
    expect(times.map(({ kernel, dispatches }) => [kernel, dispatches]).sort()).toEqual([
      ['add.1', 2],
      [expect.stringMatching(/^matmul\./), 1],
    ]);
    for (const { microseconds } of times) expect(microseconds).toBeGreaterThanOrEqual(0);
    expect(times.some(({ microseconds }) => microseconds > 0)).toBe(true);
    x.dispose();
  });

  it('says what it cannot do', async () => {
    const plain = await vulkanDevice({ disable: ['timestamp-query'] });
    await expect(plain.profile(() => {})).rejects.toThrow(UnsupportedError);
    plain.dispose();
    const x = device.tensor(range(4));
    const many = () => tidy(device, () => Array.from({ length: 2050 }, () => void add(x, x)));
    await expect(device.profile(many)).rejects.toThrow(/2 dispatches beyond the 2048/);
    x.dispose();
  });
});

describe('the end of a process', () => {
  it('is clean, 3 times out of 3, with the device alive and garbage collected', async () => {
    const program = `
      import { create } from 'webgpu';
      const run = async () => {
        const pins = (globalThis[Symbol.for('unroll.webgpu.pinned')] ??= new Set());
        const gpu = create(['backend=vulkan']);
        pins.add(gpu);
        const device = await (await gpu.requestAdapter()).requestDevice();
        await device.queue.onSubmittedWorkDone();
      };
      await run();
      for (let i = 0; i < 5; i++) { gc(); await new Promise((done) => setTimeout(done, 5)); }
      console.log('done');`;
    for (let i = 0; i < 3; i++) {
      const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--input-type=module', '-e', program], {
        cwd: new URL('../../..', import.meta.url),
      });
      expect(stdout.trim()).toBe('done');
    }
  });
});
