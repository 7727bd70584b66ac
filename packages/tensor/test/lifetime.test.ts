import * as T from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { requireSimd } from '../src/cpu/kernels.js';

const device = createCpuDevice();
afterAll(() => device.dispose());
const f = (...shape: number[]) => device.zeros(shape);

describe('what was disposed is refused', () => {
  it('tensors, by operation and input', async () => {
    const x = f(2, 3);
    const y = f(2, 3);
    y.dispose();
    expect(() => T.add(x, y)).toThrow(
      'add: input 1, f32[2,3], was disposed; keep it out of the scope that freed it, or return it from tidy()',
    );
    expect(() => T.neg(device.zeros([0]))).not.toThrow();
    expect(() => T.reshape(y, [6])).toThrow('reshape: the tensor f32[2,3] was disposed');
    expect(() => device.write(y, new Float32Array(1))).toThrow(T.DisposedError);
    await expect(y.data()).rejects.toThrow('tensor f32[2,3] was used after its dispose()');
    expect(String(y)).toBe('Tensor(f32[2,3] on cpu, disposed)');
    expect(String(x)).toBe('Tensor(f32[2,3] on cpu)');
    expect((x as unknown as Record<symbol, () => string>)[Symbol.for('nodejs.util.inspect.custom')]!()).toBe(String(x));
    const empty = f(0);
    empty.dispose();
    expect(() => T.exp(empty)).toThrow(T.DisposedError);
  });

  it('devices', async () => {
    const other = createCpuDevice();
    const x = other.tensor([1, 2], [2, 1]);
    const index = other.tensor([0], [1], { dtype: 'i32' });
    const row = T.slice(x, 0, 0, 1);
    other.dispose();
    other.dispose();
    expect(() => other.zeros([1])).toThrow('the cpu device was used after its dispose(); create another');
    expect(() => T.add(x, x)).toThrow('add: the cpu device was disposed; create another');
    expect(() => T.scatterRows(x, index, row)).toThrow('scatterRows: the cpu device was disposed');
    expect(() => other.write(x, new Float32Array(1))).toThrow(T.DisposedError);
    expect(() => other.readSync(x)).toThrow(T.DisposedError);
    expect(() => other.kernels).toThrow(T.DisposedError);
    await expect(x.data()).rejects.toThrow(T.DisposedError);
    x.dispose();
  });
});

it('tensors of two devices do not mix', async () => {
  const other = createCpuDevice();
  const [mine, theirs] = [f(2), other.zeros([2])];
  expect(() => T.add(mine, theirs)).toThrow('add: input 1 is on another device than input 0; make both on one device');
  expect(() => device.write(theirs, new Float32Array(2))).toThrow(
    'device.write: the tensor lives on another device; use the one in tensor.device',
  );
  expect(() => device.readSync(theirs)).toThrow('device.readSync: the tensor lives on another device');
  await expect(device.read(theirs)).rejects.toThrow('device.read: the tensor lives on another device');
  other.dispose();
});

describe('engines', () => {
  afterEach(() => {
    vi.unstubAllGlobals();
  });

  it('accepts this engine', () => {
    expect(() => requireSimd()).not.toThrow();
  });

  it('names what is missing and what to use: no SIMD', () => {
    const plain = { validate: (bytes: BufferSource) => (bytes as Uint8Array).length < 9 };
    expect(() => requireSimd(plain)).toThrow(T.UnsupportedError);
    vi.stubGlobal('WebAssembly', { ...plain, Memory: WebAssembly.Memory });
    expect(() => createCpuDevice()).toThrow(
      'createCpuDevice: this engine has no WebAssembly SIMD, which all CPU kernels need; use Node >= 20.19',
    );
  });

  it('no relaxed SIMD: plain is chosen, relaxed refused', () => {
    const plain = { ...WebAssembly, validate: (bytes: BufferSource) => (bytes as Uint8Array).length < 30 };
    const { Memory, Module, Instance } = WebAssembly;
    vi.stubGlobal('WebAssembly', { ...plain, Memory, Module, Instance });
    expect(() => createCpuDevice({ simd: 'relaxed' })).toThrow('createCpuDevice: this engine has no relaxed SIMD');
    const other = createCpuDevice();
    expect(other.description).toMatch(/^cpu: WebAssembly SIMD, \d+ threads?$/);
    other.dispose();
  });

  it('no WebAssembly at all', () => {
    vi.stubGlobal('WebAssembly', undefined);
    expect(() => createCpuDevice()).toThrow('createCpuDevice: this engine has no WebAssembly; use Node >= 20.19 or a current browser');
  });

  it('a system that reserves no memory', () => {
    class Memory {
      constructor() {
        throw new RangeError('WebAssembly.Memory(): could not allocate memory');
      }
    }
    vi.stubGlobal('WebAssembly', { validate: () => true, Memory });
    expect(() => createCpuDevice()).toThrow(T.OutOfMemoryError);
    expect(() => createCpuDevice()).toThrow('create the device with a smaller maxBytes');
  });
});
