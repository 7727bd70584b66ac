import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());

const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** IEEE 754 binary16 by its definition, in float64. */
function f16Value(h: number): number {
  const sign = h >> 15 ? -1 : 1;
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** bfloat16 by its definition: 8 bits of exponent, 7 of fraction. */
function bf16Value(h: number): number {
  const sign = h >> 15 ? -1 : 1;
  const exponent = (h >> 7) & 255;
  const fraction = h & 127;
  if (exponent === 255) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? (fraction / 128) * 2 ** -126 : (1 + fraction / 128) * 2 ** (exponent - 127));
}

describe.each([
  ['f16', f16Value],
  ['bf16', bf16Value],
] as const)('%s', (dtype, value) => {
  it('loads all 65536 patterns exactly, signed zeros and subnormals included, NaN as NaN', async () => {
    const tensor = device.fromBytes(new Uint8Array(patterns.buffer), dtype, [256, 256]);
    const got = await tensor.data();
    const wrong = [...patterns].filter((h) => !Object.is(got[h], value(h)));
    expect(wrong).toEqual([]);
    tensor.dispose();
  });

  it('loads any count, from any offset, without touching its neighbours', async () => {
    const before = device.memory();
    for (const n of [0, 1, 2, 3, 5, 31, 33]) {
      const left = device.tensor(new Float32Array(16).fill(7));
      const bytes = new Uint8Array(2 * n + 1);
      bytes.set(new Uint8Array(patterns.buffer, 2 * 15360, 2 * n), 1);
      const tensor = device.fromBytes(bytes.subarray(1), dtype, [n]);
      const right = device.tensor(new Float32Array(16).fill(7));
      expect([...(await tensor.data())]).toEqual(Array.from({ length: n }, (_, i) => value(15360 + i)));
      for (const other of [left, right]) expect([...(await other.data())]).toEqual(new Array(16).fill(7));
      for (const made of [left, tensor, right]) made.dispose();
    }
    expect(device.memory().bytes).toEqual(before.bytes);
  });
});

it('takes no memory besides the tensor while loading halves', () => {
  const small = createCpuDevice({ maxBytes: 1 << 20 });
  const n = 200_000;
  const tensor = small.fromBytes(new Uint8Array(2 * n), 'bf16', [n]);
  expect(small.memory().bytes.scratch).toBe(4 * n);
  tensor.dispose();
  small.dispose();
});

it('keeps the bits of stored f32 and i32, NaN payloads included', async () => {
  const words = Uint32Array.from([0x7fc00001, 0xffa00000, 0x80000000, 1, 0x7f800000]);
  const floats = device.fromBytes(new Uint8Array(words.buffer), 'f32', [5]);
  expect([...new Uint32Array((await floats.data()).buffer)]).toEqual([...words]);
  const ints = device.fromBytes(new Uint8Array(words.buffer), 'i32', [5]);
  expect(ints.dtype).toBe('i32');
  expect([...(await ints.data())]).toEqual([...new Int32Array(words.buffer)]);
});
