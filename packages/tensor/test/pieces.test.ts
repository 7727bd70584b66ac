import { DisposedError, DTypeError, OptionError, RangeOpError, type ReadPiece, ShapeError, tidy, weightParts } from '@unroll/tensor';
import { type CpuDevice, createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const MiB = 1 << 20;

/** Bytes of a part that are no two pieces' alike; as halves, all finite. */
const stored = (length: number) => {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = i % 2 === 0 ? (i >> 1) * 37 + (i >> 14) : 0x30 + (i % 9);
  return bytes;
};
const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 1));
const from =
  (parts: readonly Uint8Array[]): ReadPiece =>
  async (part, begin, end, into) => {
    expect(into.byteLength).toBe(end - begin);
    // The later pieces come first.
    await new Promise((resolve) => setTimeout(resolve, 20 - Math.floor(begin / MiB / 2)));
    into.set(parts[part]!.subarray(begin, end));
  };

// Several pieces of 8 MiB, of which the last is smaller, and one whose size is no multiple of a word.
const cases = [
  ['f32', [5_000_001]],
  ['f16', [3, 1_500_001]],
  ['bf16', [9_000_001]],
  ['q8', [2404, 8192]],
  ['q4', [2404, 8200]],
] as const;
const partsOf = (dtype: (typeof cases)[number][0], shape: readonly number[]) =>
  dtype === 'f32' ? [stored(4 * shape[0]!)] : weightParts(dtype, shape).map(({ bytes }) => stored(bytes));

describe.each([1, 2])('device.fromPieces with %i threads', (threads) => {
  let device: CpuDevice;
  beforeAll(() => {
    device = createCpuDevice({ threads });
  });
  afterAll(() => {
    expect(device.memory().buffers).toBe(0);
    device.dispose();
  });

  it.each(cases)('puts the bytes of %s %j where fromBytes does', async (dtype, shape) => {
    const parts = partsOf(dtype, shape);
    const pieces = await device.fromPieces(from(parts), dtype, shape, { memory: 'weights' });
    const whole = device.fromBytes(parts, dtype, shape, { memory: 'weights', ...(dtype === 'f32' ? {} : { as: dtype }) });
    expect([pieces.dtype, pieces.shape]).toEqual([dtype, shape]);
    const { storage } = pieces;
    expect(storage.bytes).toBe(whole.storage.bytes);
    const bytes = (at: number) => new Uint8Array(device.linear.memory.buffer, at, storage.bytes);
    for (const { offset, bytes: length } of dtype === 'f32' ? [{ offset: 0, bytes: storage.bytes }] : weightParts(dtype, shape)) {
      const [a, b] = [storage, whole.storage].map(({ handle }) => bytes(handle as number).subarray(offset, offset + length));
      expect(Buffer.compare(a!, b!)).toBe(0);
    }
    for (const tensor of [pieces, whole]) tensor.dispose();
  });

  it('writes right into shared memory, and elsewhere to at most four buffers', async () => {
    const seen = new Set<ArrayBufferLike>();
    let [under, most] = [0, 0];
    const read: ReadPiece = async (_part, _begin, _end, into) => {
      seen.add(into.buffer);
      most = Math.max(most, ++under);
      await turn();
      under--;
    };
    (await device.fromPieces(read, 'f32', [20 * MiB])).dispose();
    expect(most).toBe(4);
    if (threads === 1) expect([...seen].map(({ byteLength }) => byteLength)).toEqual(Array(4).fill(8 * MiB));
    else expect([...seen].every((buffer) => buffer instanceof SharedArrayBuffer)).toBe(true);
  });

  it('is right when the memory grows meanwhile', async () => {
    const parts = [stored(40 * MiB)];
    const plain = from(parts);
    const grown: { dispose(): void }[] = [];
    const before = device.memory().reserved;
    const read: ReadPiece = async (part, begin, end, into) => {
      await plain(part, begin, Math.floor((begin + end) / 2), into.subarray(0, Math.floor((end - begin) / 2)));
      grown.push(device.zeros([16 * MiB], { memory: 'kv' }));
      await plain(part, Math.floor((begin + end) / 2), end, into.subarray(Math.floor((end - begin) / 2)));
    };
    const tensor = await device.fromPieces(read, 'f32', [10 * MiB]);
    expect(device.memory().reserved).toBeGreaterThan(before);
    const values = await tensor.data();
    expect(Buffer.compare(new Uint8Array(values.buffer), parts[0]!)).toBe(0);
    for (const owner of [tensor, ...grown]) owner.dispose();
  });

  it('rejects with the first failure, once no piece is under way, and gives the memory back', async () => {
    let under = 0;
    let begun = 0;
    const read: ReadPiece = async (_part, begin) => {
      begun++;
      if (begin === 8 * MiB) throw new Error('disk gone');
      under++;
      for (let i = 0; i < 5; i++) {
        await turn();
        // Not another's while somebody may write to it.
        expect(device.memory().bytes.weights).toBe(400 * MiB);
      }
      under--;
      throw new Error('a later one');
    };
    await expect(device.fromPieces(read, 'f32', [100 * MiB], { memory: 'weights' })).rejects.toThrow('disk gone');
    expect([under, begun]).toEqual([0, 4]);
    expect(device.memory()).toMatchObject({ buffers: 0, bytes: { weights: 0 } });
  });

  it('refuses halves that are not finite, by their number, and takes any quants', async () => {
    const halves = stored(20 * MiB);
    halves.set([0x00, 0x7c], 2 * 9_000_000);
    await expect(device.fromPieces(from([halves]), 'f16', [10 * MiB])).rejects.toThrow(RangeOpError);
    await expect(device.fromPieces(from([halves]), 'f16', [10 * MiB])).rejects.toThrow('value 9000000 is Infinity');
    const [quants, scales] = partsOf('q8', [16, 64]) as [Uint8Array, Uint8Array];
    (await device.fromPieces(from([quants.fill(0xff), scales]), 'q8', [16, 64])).dispose();
    await expect(device.fromPieces(from([quants, scales.fill(0xff)]), 'q8', [16, 64])).rejects.toThrow('scale 0 is NaN');
    expect(device.memory().buffers).toBe(0);
  });

  it('makes a tensor that no scope or recording takes', async () => {
    const coming: Promise<unknown>[] = [];
    const program = device.record(() => void coming.push(device.fromPieces(from([stored(64)]), 'f32', [16])));
    program.dispose();
    tidy(device, () => void coming.push(device.fromPieces(from([stored(64)]), 'f32', [16])));
    const made = (await Promise.all(coming)) as Awaited<ReturnType<CpuDevice['fromPieces']>>[];
    for (const tensor of made) {
      expect(Buffer.compare(new Uint8Array((await tensor.data()).buffer), stored(64))).toBe(0);
      tensor.dispose();
    }
  });

  it('refuses bad arguments', async () => {
    const read = from([stored(64)]);
    await expect(device.fromPieces(read, 'i32' as 'f32', [16])).rejects.toThrow(DTypeError);
    await expect(device.fromPieces(read, 'f64' as 'f32', [16])).rejects.toThrow(DTypeError);
    await expect(device.fromPieces(read, 'f32', [-1])).rejects.toThrow(ShapeError);
    await expect(device.fromPieces(read, 'q8', [16])).rejects.toThrow('only matrices');
    await expect(device.fromPieces(read, 'f32', [16], { as: 'q8' } as object)).rejects.toThrow(OptionError);
    (await device.fromPieces(read, 'q4', [0, 32])).dispose();
  });

  it('says so when the device goes meanwhile', async () => {
    const short = createCpuDevice({ threads });
    const read: ReadPiece = async () => {
      await turn();
      short.dispose();
    };
    await expect(short.fromPieces(read, 'f32', [10 * MiB])).rejects.toThrow(DisposedError);
  });
});
