import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import {
  bitsPerElement,
  blobSource,
  bytesFiles,
  bytesSinks,
  bytesSource,
  encodeSafetensors,
  openCheckpoint,
  openSafetensors,
  SAFETENSORS_DTYPES,
  type TensorToWrite,
  writeCheckpoint,
} from '../src/index.js';
import { anyMetadata, anyTensors } from './support/arbitrary.js';
import { refused } from './support/raw.js';

// Generous, for machines that are busy with other things.
vi.setConfig({ testTimeout: 30_000 });

const f32 = (name: string, count: number, fill = 1): TensorToWrite => ({
  name,
  dtype: 'F32',
  shape: [count],
  bytes: new Uint8Array(count * 4).fill(fill),
});

describe('reading into shared memory', () => {
  it('works for bytes and blobs, in browsers too', async () => {
    const content = Uint8Array.from({ length: 70_000 }, (_, at) => 1 + ((at * 7) % 255));
    for (const source of [bytesSource(content), blobSource(new Blob([content]))]) {
      const { buffer } = new WebAssembly.Memory({ initial: 2, maximum: 2, shared: true });
      const got = await source.read(3, 60_000, new Uint8Array(buffer, 64));
      expect([got.buffer, got.byteOffset, got.byteLength]).toEqual([buffer, 64, 60_000]);
      const expected = new Uint8Array(buffer.byteLength);
      expected.set(content.subarray(3, 60_003), 64);
      expect(new Uint8Array(buffer).every((byte, at) => byte === expected[at])).toBe(true);
    }
  });
});

describe('round trip', () => {
  it('gives back every tensor, byte for byte, and the metadata', async () => {
    await fc.assert(
      fc.asyncProperty(anyTensors, anyMetadata, async (tensors, metadata) => {
        const bytes = await encodeSafetensors(tensors, { metadata });
        const file = await openSafetensors(bytesSource(bytes, 'a.safetensors'));
        expect([...file.names].sort()).toEqual(tensors.map(({ name }) => name).sort());
        expect(new Map(file.metadata)).toEqual(metadata);
        for (const tensor of tensors) {
          const entry = file.entries.get(tensor.name);
          expect(entry).toMatchObject({ name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, byteLength: tensor.bytes.length });
          expect(await file.read(tensor.name)).toEqual(tensor.bytes);
        }
      }),
      { numRuns: 400 },
    );
  });

  it('aligns the header to 8 bytes and each tensor to its element', async () => {
    await fc.assert(
      fc.asyncProperty(anyTensors, anyMetadata, async (tensors, metadata) => {
        const bytes = await encodeSafetensors(tensors, { metadata });
        expect(Number(new DataView(bytes.buffer).getBigUint64(0, true)) % 8).toBe(0);
        const file = await openSafetensors(bytesSource(bytes));
        for (const { dtype, offset } of file.entries.values()) {
          const width = bitsPerElement(dtype) / 8;
          if (Number.isInteger(width)) expect(offset % width).toBe(0);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('writes the same file whatever the order of tensors, metadata and pieces', async () => {
    await fc.assert(
      fc.asyncProperty(anyTensors, anyMetadata, fc.infiniteStream(fc.nat()), async (tensors, metadata, order) => {
        const bytes = await encodeSafetensors(tensors, { metadata });
        const shuffled = tensors
          .map((tensor) => ({ tensor, key: order.next().value }))
          .sort((a, b) => a.key - b.key)
          .map(({ tensor }) => ({ ...tensor, bytes: () => inPieces(tensor.bytes, 3) }));
        const again = await encodeSafetensors(shuffled, { metadata: new Map([...metadata].reverse()) });
        expect(again).toEqual(bytes);
      }),
      { numRuns: 200 },
    );
  });

  it('writes the very bytes that the reference writer gives', async () => {
    // Layout and JSON spelling of `safetensors::serialize`, from its own test for one I32 tensor `test` of [2, 2].
    const header = '{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}';
    const expected = new Uint8Array(8 + 64 + 16).fill(0x20, 8, 72);
    expected[0] = 64;
    expected.set(new TextEncoder().encode(header), 8);
    expect(await encodeSafetensors([{ name: 'test', dtype: 'I32', shape: [2, 2], bytes: new Uint8Array(16) }])).toEqual(expected);
  });

  it('puts wide dtypes first, then names by code point', async () => {
    const tensor = (name: string, dtype: 'U8' | 'F64' | 'F32'): TensorToWrite => ({ name, dtype, shape: [0], bytes: new Uint8Array(0) });
    const bytes = await encodeSafetensors([tensor('\u{10000}', 'F32'), tensor('\uffee', 'F32'), tensor('z', 'F64'), tensor('a', 'U8')]);
    const header = new TextDecoder().decode(bytes.subarray(8));
    const at = ['z', '\uffee', '\u{10000}', 'a'].map((name) => header.indexOf(`"${name}"`));
    expect(at).toEqual([...at].sort((a, b) => a - b));
  });

  it('reads every dtype of the format', async () => {
    const tensors = SAFETENSORS_DTYPES.map((dtype) => ({ name: dtype, dtype, shape: [8], bytes: new Uint8Array(bitsPerElement(dtype)) }));
    const file = await openSafetensors(bytesSource(await encodeSafetensors(tensors)));
    expect(file.entries.size).toBe(SAFETENSORS_DTYPES.length);
    for (const dtype of SAFETENSORS_DTYPES) expect(file.entries.get(dtype)?.byteLength).toBe(bitsPerElement(dtype));
  });

  it('reads the same from a Blob', async () => {
    const bytes = await encodeSafetensors([f32('a', 100, 7), f32('b', 3, 9)]);
    const file = await openSafetensors(blobSource(new File([bytes as Uint8Array<ArrayBuffer>], 'm.safetensors')));
    expect(file.name).toBe('m.safetensors');
    expect(await file.read('a')).toEqual(new Uint8Array(400).fill(7));
    expect(await file.read('b')).toEqual(new Uint8Array(12).fill(9));
  });

  it('reads into a given array, in slices and as a stream', async () => {
    const content = Uint8Array.from({ length: 40 }, (_, at) => at);
    const file = await openSafetensors(bytesSource(await encodeSafetensors([{ name: 'a', dtype: 'U8', shape: [40], bytes: content }])));
    const into = new Uint8Array(64).fill(255);
    const view = await file.readInto('a', into);
    expect(view.buffer).toBe(into.buffer);
    expect(view).toEqual(content);
    expect(into[40]).toBe(255);
    expect(await file.readSlice('a', 5, 9)).toEqual(content.subarray(5, 9));
    const pieces: number[][] = [];
    for await (const piece of file.stream('a', 16)) pieces.push([...piece]);
    expect(pieces.map((piece) => piece.length)).toEqual([16, 16, 8]);
    expect(pieces.flat()).toEqual([...content]);
    await refused(() => file.readInto('a', new Uint8Array(39)), { code: 'bad-argument' });
    await refused(() => file.readSlice('a', 39, 41), { code: 'out-of-range' });
    await refused(() => file.readSlice('a', -1, 4), { code: 'out-of-range' });
    await refused(() => file.readSlice('a', 8, 4), { code: 'out-of-range' });
    await refused(() => file.read('b'), { code: 'missing-tensor', tensor: 'b' });
    await refused(() => file.stream('a', 0).next(), { code: 'bad-argument' });
  });

  it('refuses to read after close', async () => {
    const file = await openSafetensors(bytesSource(await encodeSafetensors([f32('a', 1)])));
    await file.close();
    await file.close();
    await refused(() => file.read('a'), { code: 'closed', tensor: 'a' });
  });

  it('serves a hundred reads at once, each its own bytes', async () => {
    const tensors = Array.from({ length: 100 }, (_, at) => f32(`t${at}`, 50 + at, at));
    const file = await openSafetensors(bytesSource(await encodeSafetensors(tensors)));
    const read = await Promise.all(tensors.map(({ name }) => file.read(name)));
    for (const [at, bytes] of read.entries()) expect(bytes).toEqual(tensors[at]?.bytes);
  });
});

describe('writer refuses', () => {
  const cases: [string, TensorToWrite[], Parameters<typeof refused>[1]][] = [
    ['a name given twice', [f32('a', 1), f32('a', 1)], { code: 'duplicate-name', tensor: 'a' }],
    ['the reserved name', [f32('__metadata__', 1)], { code: 'bad-name' }],
    ['a prototype name', [f32('a.__proto__.b', 1)], { code: 'bad-name' }],
    ['half a surrogate pair', [f32('\ud800', 1)], { code: 'bad-name' }],
    ['an unknown dtype', [{ ...f32('a', 1), dtype: 'F33' as 'F32' }], { code: 'unknown-dtype' }],
    ['a negative dimension', [{ ...f32('a', 1), shape: [-1] }], { code: 'bad-shape' }],
    ['a fractional dimension', [{ ...f32('a', 1), shape: [1.5] }], { code: 'bad-shape' }],
    ['an overflow', [{ ...f32('a', 1), shape: [2 ** 30, 2 ** 30] }], { code: 'shape-overflow' }],
    ['half a byte', [{ name: 'a', dtype: 'F4', shape: [3], bytes: new Uint8Array(2) }], { code: 'size-mismatch' }],
    ['too few bytes', [{ ...f32('a', 1), bytes: new Uint8Array(3) }], { code: 'size-mismatch', tensor: 'a' }],
    ['too many bytes', [{ ...f32('a', 1), bytes: () => inPieces(new Uint8Array(9), 3) }], { code: 'size-mismatch', tensor: 'a' }],
    ['endless bytes', [{ ...f32('a', 1), bytes: endless }], { code: 'size-mismatch', tensor: 'a' }],
    ['pieces that are not bytes', [{ ...f32('a', 1), bytes: [[1, 2, 3, 4]] as unknown as Uint8Array[] }], { code: 'bad-argument' }],
  ];
  for (const [what, tensors, expected] of cases) {
    it(what, async () => {
      await refused(() => encodeSafetensors(tensors), expected);
    });
  }

  it('unknown options and metadata that is not text', async () => {
    await refused(() => encodeSafetensors([], { meta: {} } as object), { code: 'unknown-option', message: /"meta"/ });
    await refused(() => encodeSafetensors([], { metadata: { a: 1 as unknown as string } }), { code: 'bad-metadata' });
    await refused(() => encodeSafetensors([], { metadata: { a: '\ud800' } }), { code: 'bad-metadata' });
  });
});

describe('sharded checkpoints', () => {
  it('come back whole, whatever the shard size', async () => {
    await fc.assert(
      fc.asyncProperty(anyTensors, fc.integer({ min: 1, max: 300 }), async (tensors, maxShardBytes) => {
        const files = new Map<string, Uint8Array>();
        const written = await writeCheckpoint(bytesSinks(files), tensors, { maxShardBytes });
        expect(written.map(({ file }) => file).sort()).toEqual([...files.keys()].sort());
        const checkpoint = await openCheckpoint(bytesFiles(Object.fromEntries(files), 'model'));
        expect([...checkpoint.names].sort()).toEqual(tensors.map(({ name }) => name).sort());
        expect(checkpoint.totalBytes).toBe(tensors.reduce((sum, { bytes }) => sum + bytes.length, 0));
        for (const { name, bytes } of tensors) expect(await checkpoint.read(name)).toEqual(bytes);
        for (const { byteLength } of checkpoint.entries.values()) expect(byteLength).toBeGreaterThanOrEqual(0);
        if (files.size > 1) expect(files.has('model.safetensors')).toBe(false);
      }),
      { numRuns: 200 },
    );
  });

  it('keep shards under the limit but for a tensor larger than it', async () => {
    const files = new Map<string, Uint8Array>();
    await writeCheckpoint(bytesSinks(files), [f32('a', 10), f32('b', 10), f32('c', 50), f32('d', 5)], { maxShardBytes: 80 });
    const checkpoint = await openCheckpoint(bytesFiles(Object.fromEntries(files)));
    const places = Array.from(checkpoint.entries.values(), ({ name, file }) => [name, file]);
    const shard = (number: number): string => `model-0000${number}-of-00003.safetensors`;
    expect(places).toEqual([
      ['a', shard(1)],
      ['b', shard(1)],
      ['c', shard(2)],
      ['d', shard(3)],
    ]);
    const slice = await checkpoint.readSlice('c', 4, 8);
    expect(slice).toEqual(new Uint8Array(4).fill(1));
    let streamed = 0;
    for await (const piece of checkpoint.stream('c', 64)) streamed += piece.length;
    expect(streamed).toBe(200);
    await checkpoint.close();
    await refused(() => checkpoint.read('a'), { code: 'closed' });
  });

  it('are not overwritten unless asked, and never mixed with another layout', async () => {
    const files = new Map<string, Uint8Array>();
    const folder = bytesSinks(files, 'model');
    await writeCheckpoint(folder, [f32('a', 10), f32('b', 10)], { maxShardBytes: 40 });
    await refused(() => writeCheckpoint(folder, [f32('a', 10)]), { code: 'exists', message: /overwrite/ });
    await refused(() => writeCheckpoint(folder, [f32('a', 10)], { overwrite: true }), { code: 'exists', message: /remove it first/ });
    await writeCheckpoint(folder, [f32('a', 10, 5), f32('b', 10, 6)], { maxShardBytes: 40, overwrite: true });
    const checkpoint = await openCheckpoint(bytesFiles(Object.fromEntries(files)));
    expect(await checkpoint.read('b')).toEqual(new Uint8Array(40).fill(6));
  });

  it('leave nothing behind when a tensor fails, and the old files as they were', async () => {
    const files = new Map<string, Uint8Array>();
    const folder = bytesSinks(files, 'model');
    await writeCheckpoint(folder, [f32('a', 10), f32('b', 10)], { maxShardBytes: 40 });
    const before = new Map(files);
    const failing = { ...f32('b', 10), bytes: () => Promise.reject(new Error('disk on fire')) };
    await expect(writeCheckpoint(folder, [f32('a', 10, 3), failing], { maxShardBytes: 40, overwrite: true })).rejects.toThrow(
      'disk on fire',
    );
    expect(files).toEqual(before);
  });

  it('remove the old index before the first new shard takes its name', async () => {
    const files = new Map<string, Uint8Array>();
    const folder = bytesSinks(files, 'model');
    await writeCheckpoint(folder, [f32('a', 10), f32('b', 10)], { maxShardBytes: 40 });
    const dying = {
      ...folder,
      create: async (file: string) => {
        const sink = await folder.create(file);
        const commit = async (): Promise<void> => {
          await sink.commit();
          throw new Error('killed after the first rename');
        };
        return { ...sink, commit };
      },
    };
    await expect(writeCheckpoint(dying, [f32('a', 10, 5), f32('b', 10, 6)], { maxShardBytes: 40, overwrite: true })).rejects.toThrow(
      'killed',
    );
    await refused(() => openCheckpoint(bytesFiles(Object.fromEntries(files))), { code: 'missing-file' });
  });
});

function* inPieces(bytes: Uint8Array, length: number): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

function* endless(): Generator<Uint8Array> {
  for (;;) yield new Uint8Array(3);
}
