import { describe, expect, it, vi } from 'vitest';
import { bytesSource, type CheckpointErrorCode, openSafetensors, SafetensorsFormatError } from '../src/index.js';
import { rawFile, refused } from './support/raw.js';

// Generous, for machines that are busy with other things.
vi.setConfig({ testTimeout: 30_000 });

const FILE = 'evil.safetensors';
const entry = (dtype: string, shape: string, offsets: string): string => `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const one = (dtype: string, shape: string, offsets: string): string => `{"a":${entry(dtype, shape, offsets)}}`;
const nested = (depth: number): string => '['.repeat(depth);

interface Case {
  readonly what: string;
  readonly bytes: Uint8Array;
  readonly code: CheckpointErrorCode;
  readonly tensor?: string;
  readonly message?: RegExp;
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

const cases: Case[] = [
  { what: 'an empty file', bytes: new Uint8Array(0), code: 'truncated' },
  { what: 'seven bytes', bytes: new Uint8Array(7), code: 'truncated' },
  { what: 'a header longer than the file', bytes: rawFile('{}', 0, 3n), code: 'header-length' },
  { what: 'a header over the limit', bytes: rawFile('{}', 0, 100_000_001n), code: 'header-limit', message: /100000000/ },
  { what: 'a header length of 2^64-1', bytes: rawFile('{}', 0, 2n ** 64n - 1n), code: 'header-limit' },
  { what: 'a header length of 2^63', bytes: rawFile('{}', 0, 2n ** 63n), code: 'header-limit' },
  { what: 'an empty header', bytes: rawFile(''), code: 'header-json' },
  { what: 'a web page', bytes: text('<!DOCTYPE html><html><body>log in</body></html>'), code: 'header-limit', message: /web page/ },
  { what: 'a Git LFS pointer', bytes: text('version https://git-lfs.github.com/spec/v1\n'), code: 'header-limit', message: /LFS/ },
  { what: 'a zip file', bytes: text('PK\u0003\u0004aaaaaaaaaaaaaaaaaaa'), code: 'header-limit', message: /PyTorch/ },
  { what: 'a GGUF file', bytes: Uint8Array.from([...text('GGUF'), 3, 0, 0, 0, 1, 2, 3]), code: 'header-limit', message: /GGUF/ },
  { what: 'a header that is not UTF-8', bytes: rawFile(Uint8Array.from([0x7b, 0xff, 0xfe, 0x7d])), code: 'header-encoding' },
  { what: 'an overlong UTF-8 form', bytes: rawFile(Uint8Array.from([0x7b, 0xc0, 0xa2, 0x7d])), code: 'header-encoding' },
  { what: 'a byte order mark', bytes: rawFile('\ufeff{}'), code: 'header-json' },
  { what: 'a leading space', bytes: rawFile(' {}'), code: 'header-json' },
  { what: 'an array', bytes: rawFile('[]'), code: 'header-json' },
  { what: 'cut JSON', bytes: rawFile('{"a":'), code: 'bad-entry', tensor: 'a' },
  { what: 'cut JSON in a key', bytes: rawFile('{"a'), code: 'header-json' },
  { what: 'text after the object', bytes: rawFile('{}{}'), code: 'header-json' },
  { what: 'a zero byte as padding', bytes: rawFile('{}\u0000'), code: 'header-json' },
  { what: 'a trailing comma', bytes: rawFile(`{"a":${entry('U8', '[0]', '[0,0]')},}`), code: 'header-json' },
  { what: 'single quotes', bytes: rawFile("{'a':1}"), code: 'header-json' },
  { what: 'a comment', bytes: rawFile('{/* */}'), code: 'header-json' },
  { what: 'a raw newline in a name', bytes: rawFile(`{"a\nb":${entry('U8', '[0]', '[0,0]')}}`), code: 'header-json' },
  { what: 'a bad escape', bytes: rawFile(`{"\\x":${entry('U8', '[0]', '[0,0]')}}`), code: 'header-json' },
  { what: 'half a surrogate pair', bytes: rawFile(`{"\\ud800":${entry('U8', '[0]', '[0,0]')}}`), code: 'header-json' },
  {
    what: 'a name that occurs twice',
    bytes: rawFile(`{"a":${entry('U8', '[1]', '[0,1]')},"a":${entry('U8', '[1]', '[1,2]')}}`, 2),
    code: 'duplicate-name',
    tensor: 'a',
  },
  {
    what: 'a name twice through an escape',
    bytes: rawFile(`{"a":${entry('U8', '[1]', '[0,1]')},"\\u0061":${entry('U8', '[1]', '[1,2]')}}`, 2),
    code: 'duplicate-name',
    tensor: 'a',
  },
  {
    what: 'a field twice',
    bytes: rawFile('{"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}}', 1),
    code: 'duplicate-name',
    tensor: 'a',
  },
  { what: '__metadata__ twice', bytes: rawFile('{"__metadata__":{},"__metadata__":{}}'), code: 'duplicate-name' },
  { what: 'a metadata key twice', bytes: rawFile('{"__metadata__":{"k":"1","k":"2"}}'), code: 'duplicate-name' },
  { what: '__metadata__ that is an array', bytes: rawFile('{"__metadata__":[]}'), code: 'bad-metadata' },
  { what: '__metadata__ that is null', bytes: rawFile('{"__metadata__":null}'), code: 'bad-metadata' },
  { what: 'metadata with a number', bytes: rawFile('{"__metadata__":{"k":1}}'), code: 'bad-metadata' },
  { what: 'metadata with an object', bytes: rawFile('{"__metadata__":{"k":{}}}'), code: 'bad-metadata' },
  { what: 'a tensor that is null', bytes: rawFile('{"a":null}'), code: 'bad-entry', tensor: 'a' },
  { what: 'a tensor that is deeply nested', bytes: rawFile(`{"a":${nested(200_000)}`), code: 'bad-entry', tensor: 'a' },
  { what: 'a shape that is deeply nested', bytes: rawFile(`{"a":{"shape":${nested(200_000)}`), code: 'bad-shape', tensor: 'a' },
  {
    what: 'an unknown field',
    bytes: rawFile('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"strides":[1]}}', 1),
    code: 'unknown-field',
    tensor: 'a',
    message: /"strides"/,
  },
  {
    what: 'no dtype',
    bytes: rawFile('{"a":{"shape":[1],"data_offsets":[0,1]}}', 1),
    code: 'bad-entry',
    tensor: 'a',
    message: /missing dtype/,
  },
  { what: 'an empty entry', bytes: rawFile('{"a":{}}'), code: 'bad-entry', tensor: 'a', message: /dtype, shape, data_offsets/ },
  { what: 'an unknown dtype', bytes: rawFile(one('F33', '[1]', '[0,4]'), 4), code: 'unknown-dtype', tensor: 'a', message: /F33/ },
  { what: 'a dtype in lower case', bytes: rawFile(one('f32', '[1]', '[0,4]'), 4), code: 'unknown-dtype', tensor: 'a' },
  { what: 'a dtype from the prototype', bytes: rawFile(one('toString', '[1]', '[0,4]'), 4), code: 'unknown-dtype', tensor: 'a' },
  {
    what: 'a dtype that is a number',
    bytes: rawFile('{"a":{"dtype":32,"shape":[1],"data_offsets":[0,4]}}', 4),
    code: 'unknown-dtype',
    tensor: 'a',
  },
  { what: 'a negative dimension', bytes: rawFile(one('U8', '[-1]', '[0,1]'), 1), code: 'bad-shape', tensor: 'a' },
  { what: 'two negative dimensions', bytes: rawFile(one('U8', '[-1,-1]', '[0,1]'), 1), code: 'bad-shape', tensor: 'a' },
  { what: 'minus zero', bytes: rawFile(one('U8', '[-0]', '[0,0]')), code: 'bad-shape', tensor: 'a' },
  { what: 'a fraction', bytes: rawFile(one('U8', '[1.0]', '[0,1]'), 1), code: 'bad-shape', tensor: 'a' },
  { what: 'an exponent', bytes: rawFile(one('U8', '[1e0]', '[0,1]'), 1), code: 'bad-shape', tensor: 'a' },
  { what: 'a leading zero', bytes: rawFile(one('U8', '[01]', '[0,1]'), 1), code: 'bad-shape', tensor: 'a' },
  { what: 'a dimension of 2^53', bytes: rawFile(one('U8', '[9007199254740992]', '[0,1]'), 1), code: 'bad-shape', tensor: 'a' },
  { what: 'a dimension of 2^64', bytes: rawFile(one('U8', '[18446744073709551616]', '[0,1]'), 1), code: 'bad-shape', tensor: 'a' },
  {
    what: 'a dimension of a million digits',
    bytes: rawFile(one('U8', `[${'9'.repeat(1_000_000)}]`, '[0,1]'), 1),
    code: 'bad-shape',
    tensor: 'a',
  },
  { what: 'a dimension as text', bytes: rawFile(one('U8', '["1"]', '[0,1]'), 1), code: 'bad-shape', tensor: 'a' },
  { what: 'a shape that is a number', bytes: rawFile(one('U8', '1', '[0,1]'), 1), code: 'bad-shape', tensor: 'a' },
  { what: '65 dimensions', bytes: rawFile(one('U8', `[${Array(65).fill(1).join(',')}]`, '[0,1]'), 1), code: 'bad-shape', tensor: 'a' },
  { what: 'a product over 2^53', bytes: rawFile(one('U8', '[4294967296,4294967296]', '[0,1]'), 1), code: 'shape-overflow', tensor: 'a' },
  {
    what: 'a product that wraps to 0 in 64 bits',
    bytes: rawFile(one('U8', '[4294967296,4294967296]', '[0,0]')),
    code: 'shape-overflow',
    tensor: 'a',
  },
  {
    what: 'an overflow behind a zero',
    bytes: rawFile(one('U8', '[4294967296,4294967296,0]', '[0,0]')),
    code: 'shape-overflow',
    tensor: 'a',
  },
  {
    what: 'an overflow after a zero',
    bytes: rawFile(one('U8', '[0,4294967296,4294967296]', '[0,0]')),
    code: 'shape-overflow',
    tensor: 'a',
  },
  { what: 'bytes over 2^53', bytes: rawFile(one('F64', '[9007199254740991]', '[0,1]'), 1), code: 'shape-overflow', tensor: 'a' },
  { what: 'a size that does not fit its shape', bytes: rawFile(one('F32', '[2]', '[0,4]'), 4), code: 'size-mismatch', tensor: 'a' },
  { what: 'a scalar with no bytes', bytes: rawFile(one('F32', '[]', '[0,0]')), code: 'size-mismatch', tensor: 'a' },
  {
    what: 'half a byte',
    bytes: rawFile(one('F4', '[3]', '[0,2]'), 2),
    code: 'size-mismatch',
    tensor: 'a',
    message: /whole number of bytes/,
  },
  { what: 'a 6-bit tensor that ends inside a byte', bytes: rawFile(one('F6_E3M2', '[2]', '[0,2]'), 2), code: 'size-mismatch', tensor: 'a' },
  { what: 'offsets that end before they begin', bytes: rawFile(one('U8', '[1]', '[1,0]'), 1), code: 'bad-offsets', tensor: 'a' },
  { what: 'one offset', bytes: rawFile(one('U8', '[1]', '[0]'), 1), code: 'bad-offsets', tensor: 'a' },
  { what: 'three offsets', bytes: rawFile(one('U8', '[1]', '[0,1,2]'), 1), code: 'bad-offsets', tensor: 'a' },
  { what: 'a negative offset', bytes: rawFile(one('U8', '[1]', '[-1,0]'), 1), code: 'bad-offsets', tensor: 'a' },
  {
    what: 'an offset over 2^53',
    bytes: rawFile(one('U8', '[1]', '[9007199254740992,9007199254740993]'), 1),
    code: 'bad-offsets',
    tensor: 'a',
  },
  { what: 'offsets far beyond the file', bytes: rawFile(one('U8', '[1]', '[1000,1001]'), 1), code: 'out-of-range', tensor: 'a' },
  {
    what: 'a tensor larger than the file',
    bytes: rawFile(one('U8', '[1099511627776]', '[0,1099511627776]'), 1),
    code: 'truncated',
    tensor: 'a',
  },
  { what: 'a file that lost its last byte', bytes: rawFile(one('F32', '[1]', '[0,4]'), 3), code: 'truncated', tensor: 'a' },
  {
    what: 'overlapping tensors',
    bytes: rawFile(`{"a":${entry('U8', '[4]', '[0,4]')},"b":${entry('U8', '[4]', '[2,6]')}}`, 6),
    code: 'overlap',
    tensor: 'b',
    message: /"a"/,
  },
  {
    what: 'an overlap of one byte',
    bytes: rawFile(`{"a":${entry('U8', '[4]', '[0,4]')},"b":${entry('U8', '[4]', '[3,7]')}}`, 7),
    code: 'overlap',
    tensor: 'b',
  },
  {
    what: 'two tensors over the same bytes',
    bytes: rawFile(`{"a":${entry('U8', '[4]', '[0,4]')},"b":${entry('U8', '[4]', '[0,4]')}}`, 4),
    code: 'overlap',
    tensor: 'b',
  },
  {
    what: 'an empty tensor inside another',
    bytes: rawFile(`{"a":${entry('U8', '[4]', '[0,4]')},"b":${entry('U8', '[0]', '[2,2]')}}`, 4),
    code: 'overlap',
    tensor: 'b',
  },
  {
    what: 'a hole between tensors',
    bytes: rawFile(`{"a":${entry('U8', '[2]', '[0,2]')},"b":${entry('U8', '[2]', '[3,5]')}}`, 5),
    code: 'gap',
    tensor: 'b',
  },
  { what: 'a hole at the start', bytes: rawFile(one('U8', '[1]', '[1,2]'), 2), code: 'gap', tensor: 'a' },
  { what: 'an empty tensor after a hole', bytes: rawFile(one('U8', '[0]', '[1,1]'), 1), code: 'gap', tensor: 'a' },
  { what: 'trailing bytes', bytes: rawFile(one('U8', '[1]', '[0,1]'), 2), code: 'trailing-bytes' },
  { what: 'trailing bytes after no tensor', bytes: rawFile('{}', 1), code: 'trailing-bytes' },
  { what: 'the name __proto__', bytes: rawFile(`{"__proto__":${entry('U8', '[1]', '[0,1]')}}`, 1), code: 'bad-name', tensor: '__proto__' },
  { what: '__proto__ as a path segment', bytes: rawFile(`{"a.__proto__.b":${entry('U8', '[1]', '[0,1]')}}`, 1), code: 'bad-name' },
  { what: '__proto__ through an escape', bytes: rawFile(`{"\\u005f_proto__":${entry('U8', '[1]', '[0,1]')}}`, 1), code: 'bad-name' },
  { what: 'constructor.prototype', bytes: rawFile(`{"constructor.prototype.x":${entry('U8', '[1]', '[0,1]')}}`, 1), code: 'bad-name' },
];

describe('hostile files are refused', () => {
  for (const { what, bytes, code, tensor, message } of cases) {
    it(`${what}: ${code}`, async () => {
      const error = await refused(() => openSafetensors(bytesSource(bytes, FILE)), {
        code,
        file: FILE,
        ...(tensor === undefined ? {} : { tensor }),
        ...(message === undefined ? {} : { message }),
      });
      expect(SafetensorsFormatError.is(error)).toBe(true);
      expect(error.message).toContain(FILE);
      expect(error.message.length).toBeLessThan(600);
      if (tensor !== undefined) expect(error.message).toContain(JSON.stringify(tensor));
    });
  }

  it('before anything beyond the length is read, when the length is the problem', async () => {
    const reads: number[] = [];
    const bytes = rawFile('{}', 0, 99_999_999n);
    const source = bytesSource(bytes, FILE);
    const watched = {
      ...source,
      read: (offset: number, length: number, into?: Uint8Array) => {
        reads.push(length);
        return source.read(offset, length, into);
      },
    };
    await refused(() => openSafetensors(watched), { code: 'header-length' });
    expect(reads).toEqual([8]);
  });

  it('with terminal escapes in a name made harmless', async () => {
    const header = `{"\\u001b[31m\\u009b2J\\u202e":${entry('F33', '[1]', '[0,1]')}}`;
    const error = await refused(() => openSafetensors(bytesSource(rawFile(header, 1), FILE)), { code: 'unknown-dtype' });
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what must not be there
    expect(error.message).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u202e]/);
  });

  it('when there are more tensors than the limit, or the limit is lowered', async () => {
    const bytes = rawFile(`{"a":${entry('U8', '[1]', '[0,1]')},"b":${entry('U8', '[1]', '[1,2]')}}`, 2);
    await openSafetensors(bytesSource(bytes), { limits: { tensors: 2 } });
    await refused(() => openSafetensors(bytesSource(bytes), { limits: { tensors: 1 } }), { code: 'header-limit' });
    await refused(() => openSafetensors(bytesSource(bytes), { limits: { headerBytes: 20 } }), { code: 'header-limit' });
    await refused(() => openSafetensors(bytesSource(bytes), { limits: { rank: 0 } }), { code: 'bad-shape' });
    await refused(() => openSafetensors(bytesSource(bytes), { limits: { rank: -1 } }), { code: 'bad-argument' });
    await refused(() => openSafetensors(bytesSource(bytes), { limits: { ranks: 1 } as object }), {
      code: 'unknown-option',
      message: /"ranks"/,
    });
    await refused(() => openSafetensors(bytesSource(bytes), { strict: true } as object), { code: 'unknown-option', message: /"strict"/ });
  });

  it('and a source that fails is closed', async () => {
    let closed = 0;
    const source = { ...bytesSource(new Uint8Array(3)), close: async () => void closed++ };
    await refused(() => openSafetensors(source), { code: 'truncated' });
    expect(closed).toBe(1);
  });
});

describe('odd but lawful files are read', () => {
  const lawful: [string, Uint8Array, string[]][] = [
    ['no tensors', rawFile('{}'), []],
    ['white space inside and after', rawFile('{ "a" :\n{"shape":[ 1 , 1 ],\t"data_offsets":[0,1],"dtype":"U8"}\r} \n ', 1), ['a']],
    ['an empty name', rawFile(`{"":${entry('U8', '[1]', '[0,1]')}}`, 1), ['']],
    ['escapes in a name', rawFile(`{"\\u0061\\n\\"":${entry('U8', '[1]', '[0,1]')}}`, 1), ['a\n"']],
    [
      'names of object methods',
      rawFile(`{"toString":${entry('U8', '[1]', '[0,1]')},"hasOwnProperty":${entry('U8', '[1]', '[1,2]')}}`, 2),
      ['toString', 'hasOwnProperty'],
    ],
    [
      'metadata after the tensors, with odd keys',
      rawFile(`{"a":${entry('U8', '[1]', '[0,1]')},"__metadata__":{"__proto__":"x"}}`, 1),
      ['a'],
    ],
    ['order of offsets, not of names', rawFile(`{"b":${entry('U8', '[1]', '[1,2]')},"a":${entry('U8', '[1]', '[0,1]')}}`, 2), ['a', 'b']],
    [
      'empty tensors at a border',
      rawFile(`{"a":${entry('U8', '[2]', '[0,2]')},"e":${entry('U8', '[0,7]', '[2,2]')},"f":${entry('F32', '[0]', '[0,0]')}}`, 2),
      ['f', 'a', 'e'],
    ],
    ['a scalar', rawFile(one('F64', '[]', '[0,8]'), 8), ['a']],
    ['64 dimensions', rawFile(one('U8', `[${Array(64).fill(1).join(',')}]`, '[0,1]'), 1), ['a']],
    ['4-bit values that fill a byte', rawFile(one('F4', '[3,2]', '[0,3]'), 3), ['a']],
    ['6-bit values that fill bytes', rawFile(one('F6_E2M3', '[4]', '[0,3]'), 3), ['a']],
  ];
  for (const [what, bytes, names] of lawful) {
    it(what, async () => {
      const file = await openSafetensors(bytesSource(bytes, FILE));
      expect(file.names).toEqual(names);
      for (const name of names) expect((await file.read(name)).length).toBe(file.entries.get(name)?.byteLength);
    });
  }

  it('a hundred thousand tensors in time linear in their number', async () => {
    const parts = Array.from({ length: 100_000 }, (_, at) => `"layers.${at}.w":${entry('U8', '[1]', `[${at},${at + 1}]`)}`);
    const bytes = rawFile(`{${parts.join(',')}}`, 100_000);
    const start = performance.now();
    const file = await openSafetensors(bytesSource(bytes, FILE));
    expect(file.entries.size).toBe(100_000);
    // Half a second on an idle machine; anything quadratic takes minutes.
    expect(performance.now() - start).toBeLessThan(20_000);
  });
});
