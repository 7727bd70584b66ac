import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import {
  blobFiles,
  bytesFiles,
  CheckpointError,
  type CheckpointErrorCode,
  encodeSafetensors,
  openCheckpoint,
  SafetensorsFormatError,
} from '../src/index.js';
import { rawFile, refused } from './support/raw.js';

// Generous, for machines that are busy with other things.
vi.setConfig({ testTimeout: 30_000 });

const tensor = (name: string): Promise<Uint8Array> => encodeSafetensors([{ name, dtype: 'U8', shape: [2], bytes: Uint8Array.of(1, 2) }]);
const indexOf = (weightMap: Record<string, string>, totalSize: unknown = 4): string =>
  JSON.stringify({ metadata: { total_size: totalSize }, weight_map: weightMap });
const INDEX = 'model.safetensors.index.json';

async function folder(changes: Record<string, Uint8Array | string | undefined> = {}): Promise<Record<string, Uint8Array | string>> {
  const files: Record<string, Uint8Array | string | undefined> = {
    'one.safetensors': await tensor('a'),
    'two.safetensors': await tensor('b'),
    [INDEX]: indexOf({ a: 'one.safetensors', b: 'two.safetensors' }),
    ...changes,
  };
  return Object.fromEntries(Object.entries(files).filter((pair): pair is [string, Uint8Array | string] => pair[1] !== undefined));
}

describe('openCheckpoint', () => {
  it('opens shards through their index', async () => {
    const checkpoint = await openCheckpoint(bytesFiles(await folder(), 'model'));
    expect(checkpoint.files).toEqual(['one.safetensors', 'two.safetensors']);
    expect(checkpoint.entries.get('b')).toMatchObject({ file: 'two.safetensors', dtype: 'U8', shape: [2], byteLength: 2 });
    expect(await checkpoint.read('b')).toEqual(Uint8Array.of(1, 2));
    await refused(() => checkpoint.read('c'), { code: 'missing-tensor', tensor: 'c' });
  });

  it('opens a single file, and the one that is named', async () => {
    const files = bytesFiles({ 'model.safetensors': await tensor('a'), 'model-bf16.safetensors': await tensor('half') });
    expect((await openCheckpoint(files)).names).toEqual(['a']);
    expect((await openCheckpoint(files, { weights: 'model-bf16.safetensors' })).names).toEqual(['half']);
  });

  it('opens Files by their own names, a Map and an object of Blobs', async () => {
    const bytes = (await tensor('a')) as Uint8Array<ArrayBuffer>;
    const blob = new Blob([bytes]);
    for (const files of [[new File([bytes], 'model.safetensors')], new Map([['model.safetensors', blob]]), { 'model.safetensors': blob }]) {
      const checkpoint = await openCheckpoint(blobFiles(files as File[]));
      expect(await checkpoint.read('a')).toEqual(Uint8Array.of(1, 2));
    }
    const twice = [new File([bytes], 'x'), new File([bytes], 'x')];
    expect(() => blobFiles(twice)).toThrow(/two files are named "x"/);
  });

  it('takes an index over the one file, as some exporters write', async () => {
    const files = await folder({ 'model.safetensors': await tensor('a'), [INDEX]: indexOf({ a: 'model.safetensors' }, 2) });
    expect((await openCheckpoint(bytesFiles(files))).names).toEqual(['a']);
  });

  it('takes an index in a subfolder, whose shards lie beside it', async () => {
    const flat = await folder();
    const files = Object.fromEntries(Object.entries(flat).map(([file, content]) => [`sub/${file}`, content]));
    const checkpoint = await openCheckpoint(bytesFiles(files), { weights: `sub/${INDEX}` });
    expect(checkpoint.entries.get('a')?.file).toBe('sub/one.safetensors');
  });

  it('passes over what tools add to an index', async () => {
    const index =
      '{"metadata":{"total_size":4,"total_parameters":2.5e0,"x":[{"y":null},true,-1]},"weight_map":{"a":"one.safetensors","b":"two.safetensors"},"v":1}';
    expect((await openCheckpoint(bytesFiles(await folder({ [INDEX]: index })))).names).toEqual(['a', 'b']);
  });

  it('refuses two checkpoints in one folder, unless told which', async () => {
    const files = bytesFiles(await folder({ 'model.safetensors': await tensor('z') }), 'model');
    await refused(() => openCheckpoint(files), { code: 'ambiguous-weights', message: /weights/ });
    expect((await openCheckpoint(files, { weights: INDEX })).names).toEqual(['a', 'b']);
  });

  it('says what a folder without weights has instead', async () => {
    await refused(() => openCheckpoint(bytesFiles({}, 'empty')), { code: 'missing-file', message: /"empty" has neither/ });
    await refused(() => openCheckpoint(bytesFiles({ 'x.safetensors': '' })), {
      code: 'missing-file',
      message: /pass one as \{ weights \}/,
    });
    await refused(() => openCheckpoint(bytesFiles({ 'pytorch_model.bin': '' })), { code: 'missing-file', message: /must be converted/ });
  });

  it('refuses unknown options and bad ones', async () => {
    const files = bytesFiles(await folder());
    await refused(() => openCheckpoint(files, { weight: 'x' } as object), { code: 'unknown-option', message: /"weight"/ });
    await refused(() => openCheckpoint(files, { totalSize: 'no' as 'check' }), { code: 'bad-argument' });
    await refused(() => openCheckpoint(files, { weights: '../x.safetensors' }), { code: 'bad-file-name' });
    await refused(() => openCheckpoint(files, { weights: 'none.safetensors' }), { code: 'missing-file', file: 'none.safetensors' });
  });
});

describe('hostile indexes are refused', () => {
  const cases: [string, string, CheckpointErrorCode][] = [
    ['not JSON', 'model', 'bad-index'],
    ['an array', '[]', 'bad-index'],
    ['null', 'null', 'bad-index'],
    ['cut short', '{"weight_map":{"a":"one.safe', 'bad-index'],
    ['no weight_map', '{"metadata":{}}', 'bad-index'],
    ['an empty weight_map', '{"weight_map":{}}', 'bad-index'],
    ['weight_map as an array', '{"weight_map":["a"]}', 'bad-index'],
    ['a shard that is a number', '{"weight_map":{"a":1}}', 'bad-index'],
    ['a shard that is a list', '{"weight_map":{"a":["one.safetensors"]}}', 'bad-index'],
    ['weight_map twice', '{"weight_map":{"a":"one.safetensors"},"weight_map":{"a":"one.safetensors"}}', 'duplicate-name'],
    ['a tensor twice', '{"weight_map":{"a":"one.safetensors","a":"two.safetensors"}}', 'duplicate-name'],
    ['a tensor named __proto__', '{"weight_map":{"__proto__":"one.safetensors"}}', 'bad-name'],
    ['a tensor named __metadata__', '{"weight_map":{"__metadata__":"one.safetensors"}}', 'bad-name'],
    ['the folder above', indexOf({ a: '../one.safetensors' }), 'bad-file-name'],
    ['the folder above, backwards', indexOf({ a: '..\\one.safetensors' }), 'bad-file-name'],
    ['an absolute path', indexOf({ a: '/etc/one.safetensors' }), 'bad-file-name'],
    ['a drive', indexOf({ a: 'C:one.safetensors' }), 'bad-file-name'],
    ['a URL', indexOf({ a: 'https://evil/one.safetensors' }), 'bad-file-name'],
    ['a subfolder', indexOf({ a: 'sub/one.safetensors' }), 'bad-file-name'],
    ['a zero byte', indexOf({ a: 'one\u0000.safetensors' }), 'bad-file-name'],
    ['a hidden file', indexOf({ a: '.safetensors' }), 'bad-file-name'],
    ['another kind of file', indexOf({ a: 'one.bin' }), 'bad-file-name'],
    ['an empty shard name', indexOf({ a: '' }), 'bad-file-name'],
    ['total_size as text', indexOf({ a: 'one.safetensors' }, '4'), 'bad-index'],
    ['a negative total_size', indexOf({ a: 'one.safetensors' }, -4), 'bad-index'],
    ['total_size twice', '{"metadata":{"total_size":4,"total_size":4},"weight_map":{"a":"one.safetensors"}}', 'duplicate-name'],
    ['endless nesting', `{"x":${'['.repeat(1_000_000)}`, 'bad-index'],
    ['text after the end', `${indexOf({ a: 'one.safetensors' })}x`, 'bad-index'],
  ];
  for (const [what, index, code] of cases) {
    it(`${what}: ${code}`, async () => {
      const files = bytesFiles(await folder({ [INDEX]: index }), 'model');
      await refused(() => openCheckpoint(files), { code, file: INDEX });
    });
  }

  it('text that is not UTF-8: header-encoding', async () => {
    const files = bytesFiles(await folder({ [INDEX]: Uint8Array.of(0x7b, 0xff) }));
    await refused(() => openCheckpoint(files), { code: 'header-encoding', file: INDEX });
  });

  it('a missing shard: missing-file', async () => {
    const files = bytesFiles(await folder({ 'two.safetensors': undefined }), 'model');
    await refused(() => openCheckpoint(files), { code: 'missing-file', file: 'two.safetensors' });
  });

  it('a shard that lacks its tensor: missing-tensor', async () => {
    const index = indexOf({ a: 'one.safetensors', b: 'two.safetensors', c: 'two.safetensors' });
    const files = bytesFiles(await folder({ [INDEX]: index }));
    await refused(() => openCheckpoint(files), { code: 'missing-tensor', file: 'two.safetensors', tensor: 'c' });
  });

  it('a shard with a tensor the index does not list: unlisted-tensor', async () => {
    const both = await encodeSafetensors(['b', 'x'].map((name) => ({ name, dtype: 'U8', shape: [2], bytes: Uint8Array.of(1, 2) })));
    const files = bytesFiles(await folder({ 'two.safetensors': both }));
    await refused(() => openCheckpoint(files), { code: 'unlisted-tensor', file: 'two.safetensors', tensor: 'x' });
  });

  it('a tensor in two shards: unlisted-tensor', async () => {
    const both = await encodeSafetensors(['a', 'b'].map((name) => ({ name, dtype: 'U8', shape: [2], bytes: Uint8Array.of(1, 2) })));
    const files = bytesFiles(await folder({ 'two.safetensors': both }));
    await refused(() => openCheckpoint(files), { code: 'unlisted-tensor', tensor: 'a', message: /places it in "one.safetensors"/ });
  });

  it('a wrong total_size: total-size, unless ignored', async () => {
    const files = bytesFiles(await folder({ [INDEX]: indexOf({ a: 'one.safetensors', b: 'two.safetensors' }, 5) }));
    await refused(() => openCheckpoint(files), { code: 'total-size', file: INDEX, message: /5, the tensors have 4/ });
    expect((await openCheckpoint(files, { totalSize: 'ignore' })).totalBytes).toBe(4);
  });

  it('all problems of all shards in one error, and every opened shard closed', async () => {
    const files = bytesFiles(
      await folder({
        'one.safetensors': rawFile('{}', 1),
        'two.safetensors': rawFile('[]'),
        'three.safetensors': await tensor('c'),
        [INDEX]: indexOf({ a: 'one.safetensors', b: 'two.safetensors', c: 'three.safetensors', d: 'four.safetensors' }),
      }),
      'model',
    );
    let open = 0;
    const watched = {
      ...files,
      open: async (file: string) => {
        const source = await files.open(file);
        open++;
        return { ...source, close: async () => void open-- };
      },
    };
    const error = await refused(() => openCheckpoint(watched), { code: 'several-problems', file: 'model' });
    expect(error.problems.map(({ code, file }) => [code, file]).sort()).toEqual([
      ['header-json', 'two.safetensors'],
      ['missing-file', 'four.safetensors'],
      ['trailing-bytes', 'one.safetensors'],
    ]);
    for (const problem of error.problems) expect(error.message).toContain(problem.message);
    expect(open).toBe(0);
  });

  it('a thousand problems in a message that stays readable', async () => {
    const weightMap = Object.fromEntries(Array.from({ length: 1000 }, (_, at) => [`t${at}`, 'one.safetensors']));
    const files = bytesFiles(await folder({ 'two.safetensors': undefined, [INDEX]: indexOf(weightMap) }), 'model');
    const error = await refused(() => openCheckpoint(files), { code: 'several-problems' });
    expect(error.problems.length).toBe(1001);
    expect(error.message.split('\n').length).toBe(22);
  });
});

describe('mutated and random indexes', () => {
  it('are read or refused with a typed error', async () => {
    const lawful = indexOf({ a: 'one.safetensors', b: 'two.safetensors' });
    const mutated = fc
      .array(fc.tuple(fc.nat(lawful.length), fc.nat(3), fc.string({ maxLength: 2 })), { minLength: 1, maxLength: 3 })
      .map((edits) => edits.reduce((text, [at, dropped, added]) => text.slice(0, at) + added + text.slice(at + dropped), lawful));
    const codes = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.oneof(mutated, fc.json(), fc.string()), async (index) => {
        try {
          const { names } = await openCheckpoint(bytesFiles(await folder({ [INDEX]: index })));
          expect(names).toEqual(['a', 'b']);
        } catch (error) {
          if (!CheckpointError.is(error)) throw error;
          codes.add(error.code);
        }
      }),
      { numRuns: 2000, seed: 1 },
    );
    for (const code of ['bad-index', 'bad-file-name', 'missing-file', 'several-problems']) expect(codes).toContain(code);
  });
});

describe('errors', () => {
  it('are told apart by marker, also those of another copy of the package', () => {
    const format = new SafetensorsFormatError('gap', 'x');
    const plain = new CheckpointError('exists', 'x');
    expect([CheckpointError.is(format), SafetensorsFormatError.is(format)]).toEqual([true, true]);
    expect([CheckpointError.is(plain), SafetensorsFormatError.is(plain)]).toEqual([true, false]);
    const foreign = Object.assign(new Error('x'), { [Symbol.for('unroll.checkpoint.CheckpointError')]: true });
    expect(CheckpointError.is(foreign)).toBe(true);
    for (const other of [new Error('x'), null, undefined, 'x', {}]) expect(CheckpointError.is(other)).toBe(false);
  });
});
