import type { Device } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { describe, expect, it, vi } from 'vitest';
import {
  bytesFiles,
  bytesSinks,
  bytesSource,
  encodeSafetensors,
  fromFloat32,
  type LoadDevice,
  type LoadDtype,
  type LoadProgress,
  loadTensors,
  openCheckpoint,
  openSafetensors,
  type TensorReader,
  type TensorToWrite,
  toFloat32,
  writeCheckpoint,
} from '../src/index.js';
import { refused } from './support/raw.js';

// Generous, for machines that are busy with other things.
vi.setConfig({ testTimeout: 30_000 });

interface FakeTensor {
  readonly bytes: Uint8Array;
  readonly dtype: LoadDtype;
  readonly shape: readonly number[];
  readonly memory: string | undefined;
  dispose(): void;
}

/** Counts what is alive; `failAt` makes the n-th tensor fail. */
function fakeDevice(failAt = Infinity): LoadDevice<FakeTensor> & { live: number; made: number; buffers: Set<ArrayBufferLike> } {
  const device = {
    live: 0,
    made: 0,
    buffers: new Set<ArrayBufferLike>(),
    fromBytes(bytes: Uint8Array, dtype: LoadDtype, shape: readonly number[], options?: { readonly memory?: string }): FakeTensor {
      if (device.made === failAt) throw new Error('out of memory');
      device.made++;
      device.live++;
      device.buffers.add(bytes.buffer);
      return { bytes: bytes.slice(), dtype, shape, memory: options?.memory, dispose: () => void device.live-- };
    },
  };
  return device;
}

const f32 = (name: string, ...values: number[]): TensorToWrite => ({
  name,
  dtype: 'F32',
  shape: [values.length],
  bytes: fromFloat32(Float32Array.from(values), 'F32'),
});
const open = async (tensors: TensorToWrite[]): Promise<TensorReader> => openSafetensors(bytesSource(await encodeSafetensors(tensors), 'm'));

describe('loadTensors', () => {
  it('loads everything, in file order, with progress', async () => {
    const files = new Map<string, Uint8Array>();
    await writeCheckpoint(bytesSinks(files), [f32('a', 1, 2), f32('b', 3), f32('c', 4, 5, 6)], { maxShardBytes: 8 });
    const checkpoint = await openCheckpoint(bytesFiles(Object.fromEntries(files)));
    const device = fakeDevice();
    const progress: LoadProgress[] = [];
    const tensors = await loadTensors(device, checkpoint, { onProgress: (step) => progress.push(step) });
    expect(Object.keys(tensors)).toEqual(['a', 'b', 'c']);
    expect(Object.getPrototypeOf(tensors)).toBe(null);
    expect(tensors.c).toMatchObject({ dtype: 'f32', shape: [3], memory: 'weights' });
    expect(toFloat32((tensors.c as FakeTensor).bytes, 'F32')).toEqual(Float32Array.of(4, 5, 6));
    expect(progress).toEqual([
      { name: 'a', loadedTensors: 1, totalTensors: 3, loadedBytes: 8, totalBytes: 24 },
      { name: 'b', loadedTensors: 2, totalTensors: 3, loadedBytes: 12, totalBytes: 24 },
      { name: 'c', loadedTensors: 3, totalTensors: 3, loadedBytes: 24, totalBytes: 24 },
    ]);
  });

  it('uses one buffer, as large as the largest tensor that is loaded', async () => {
    const tensors = Array.from({ length: 50 }, (_, at) => f32(`t${at}`, ...new Array<number>(1 + ((at * 37) % 64)).fill(at)));
    const file = await open(tensors);
    let outstanding = 0;
    const watched: TensorReader = {
      ...file,
      name: file.name,
      entries: file.entries,
      names: file.names,
      read: () => Promise.reject(new Error('a read of its own would be a second buffer')),
      readInto: async (name, into) => {
        expect(outstanding++).toBe(0);
        const bytes = await file.readInto(name, into);
        outstanding--;
        return bytes;
      },
    } as TensorReader;
    const device = fakeDevice();
    await loadTensors(device, watched);
    expect(device.made).toBe(50);
    expect(device.buffers.size).toBe(1);
    expect([...device.buffers][0]?.byteLength).toBe(64 * 4);
  });

  it('keeps f16 and bf16 as stored, widens the rest exactly', async () => {
    const values = Float32Array.of(0.5, -2, 448);
    const bytes = (array: ArrayBufferView): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    const device = fakeDevice();
    const tensors = await loadTensors(
      device,
      await open([
        { name: 'f16', dtype: 'F16', shape: [3], bytes: fromFloat32(values, 'F16') },
        { name: 'bf16', dtype: 'BF16', shape: [3], bytes: fromFloat32(values, 'BF16') },
        { name: 'f8', dtype: 'F8_E4M3', shape: [3], bytes: Uint8Array.of(0x30, 0xc0, 0x7e) },
        { name: 'i64', dtype: 'I64', shape: [2], bytes: bytes(BigInt64Array.of(-1n, 5n)) },
        { name: 'u8', dtype: 'U8', shape: [1], bytes: Uint8Array.of(200) },
        { name: 'bool', dtype: 'BOOL', shape: [2], bytes: Uint8Array.of(1, 0) },
        { name: 'i32', dtype: 'I32', shape: [], bytes: bytes(Int32Array.of(-7)) },
      ]),
    );
    const got = Object.fromEntries(Object.entries(tensors).map(([name, { bytes: stored, dtype }]) => [name, [dtype, ...stored]]));
    expect(got.f16).toEqual(['f16', ...fromFloat32(values, 'F16')]);
    expect(got.bf16).toEqual(['bf16', ...fromFloat32(values, 'BF16')]);
    expect(got.f8).toEqual(['f32', ...fromFloat32(values, 'F32')]);
    expect(got.i64).toEqual(['i32', ...bytes(Int32Array.of(-1, 5))]);
    expect(got.u8).toEqual(['i32', ...bytes(Int32Array.of(200))]);
    expect(got.bool).toEqual(['i32', ...bytes(Int32Array.of(1, 0))]);
    expect(got.i32).toEqual(['i32', ...bytes(Int32Array.of(-7))]);
  });

  it('takes names and a filter, and names all that are missing', async () => {
    const file = await open([f32('a', 1), f32('b', 2), f32('c', 3)]);
    expect(Object.keys(await loadTensors(fakeDevice(), file, { names: ['c', 'a'] }))).toEqual(['a', 'c']);
    expect(Object.keys(await loadTensors(fakeDevice(), file, { filter: ({ name }) => name !== 'b' }))).toEqual(['a', 'c']);
    expect(Object.keys(await loadTensors(fakeDevice(), file, { names: [] }))).toEqual([]);
    expect((await loadTensors(fakeDevice(), file, { names: ['a'], memory: 'kv' })).a?.memory).toBe('kv');
    await refused(() => loadTensors(fakeDevice(), file, { names: ['a', 'x', 'y'] }), {
      code: 'missing-tensor',
      message: /lacks 2 of 3 tensors: "x", "y"/,
    });
    await refused(() => loadTensors(fakeDevice(), file, { name: 'a' } as object), { code: 'unknown-option', message: /"name"/ });
  });

  it('refuses dtypes that would lose something, before reading', async () => {
    const file = await open([
      f32('a', 1),
      { name: 'd', dtype: 'F64', shape: [1], bytes: new Uint8Array(8) },
      { name: 'q', dtype: 'F4', shape: [2], bytes: new Uint8Array(1) },
    ]);
    const device = fakeDevice();
    await refused(() => loadTensors(device, file), { code: 'unsupported-dtype', message: /"d" \(F64\), "q" \(F4\)/ });
    expect(device.made).toBe(0);
    await loadTensors(device, file, { filter: ({ dtype }) => dtype === 'F32' });
    expect(device.made).toBe(1);
  });

  it('disposes what it made when a tensor, a value, a callback or a signal stops it', async () => {
    const file = await open([f32('a', 1), f32('b', 2), { name: 'c', dtype: 'U32', shape: [1], bytes: new Uint8Array(4).fill(255) }]);
    const onlyFloats = { filter: ({ dtype }: { dtype: string }) => dtype === 'F32' };
    const full = fakeDevice(1);
    await expect(loadTensors(full, file, onlyFloats)).rejects.toThrow('out of memory');
    expect([full.made, full.live]).toEqual([1, 0]);
    const unsafe = fakeDevice();
    await refused(() => loadTensors(unsafe, file), { code: 'unsafe-number', tensor: 'c' });
    expect([unsafe.made, unsafe.live]).toEqual([2, 0]);
    const throwing = fakeDevice();
    const onProgress = (): never => {
      throw new Error('no more');
    };
    await expect(loadTensors(throwing, file, { ...onlyFloats, onProgress })).rejects.toThrow('no more');
    expect([throwing.made, throwing.live]).toEqual([1, 0]);
    const controller = new AbortController();
    const aborted = fakeDevice();
    const stop = { ...onlyFloats, signal: controller.signal, onProgress: () => controller.abort() };
    await refused(() => loadTensors(aborted, file, stop), { code: 'aborted', message: /after 1 of 2/ });
    expect([aborted.made, aborted.live]).toEqual([1, 0]);
  });

  it('closed sources fail cleanly', async () => {
    const file = await open([f32('a', 1)]);
    await file.close();
    const device = fakeDevice();
    await refused(() => loadTensors(device, file), { code: 'closed' });
    expect(device.live).toBe(0);
  });
});

describe('loadTensors on the CPU device', () => {
  it('gives tensors with the stored values, f16 and bf16 widened, and balances memory', async () => {
    const device: Device = await createCpuDevice();
    const values = Float32Array.of(1, -0.5, 3.25, 1e-3);
    const tensors = await loadTensors(
      device,
      await open([
        { name: 'f32', dtype: 'F32', shape: [2, 2], bytes: fromFloat32(values, 'F32') },
        { name: 'f16', dtype: 'F16', shape: [4], bytes: fromFloat32(values, 'F16') },
        { name: 'bf16', dtype: 'BF16', shape: [4], bytes: fromFloat32(values, 'BF16') },
        { name: 'i64', dtype: 'I64', shape: [1], bytes: new Uint8Array(BigInt64Array.of(-3n).buffer) },
        { name: 'empty', dtype: 'F32', shape: [0, 3], bytes: new Uint8Array(0) },
      ]),
    );
    expect(await tensors.f32?.data()).toEqual(values);
    expect(tensors.f32?.shape).toEqual([2, 2]);
    expect(await tensors.f16?.data()).toEqual(toFloat32(fromFloat32(values, 'F16'), 'F16'));
    expect(await tensors.bf16?.data()).toEqual(toFloat32(fromFloat32(values, 'BF16'), 'BF16'));
    expect(await tensors.i64?.data()).toEqual(Int32Array.of(-3));
    expect(tensors.empty?.shape).toEqual([0, 3]);
    expect(device.memory().bytes.weights).toBeGreaterThan(0);
    for (const tensor of Object.values(tensors)) tensor.dispose();
    expect(device.memory().bytes.weights).toBe(0);
    device.dispose();
  });
});
