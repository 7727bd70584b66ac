import fc from 'fast-check';
import {
  bytesSource,
  encodeSafetensors,
  openSafetensors,
  SAFETENSORS_DTYPES,
  SafetensorsFormatError,
  tensorByteLength,
} from '../../src/index.js';
import { rawFile } from './raw.js';

export interface FuzzReport {
  files: number;
  accepted: number;
  /** Refusals by code. */
  readonly refused: Map<string, number>;
  /** The slowest file, in milliseconds. */
  slowestMs: number;
}

const FILE = 'fuzz.safetensors';

const names = fc.oneof(
  fc.constantFrom('a', 'b', 'c', '__proto__', '__metadata__', 'toString', '', '\\u0061', '\\ud800', 'é'),
  fc.string({ maxLength: 4 }),
);
const integers = fc.oneof(
  { weight: 6, arbitrary: fc.nat(9).map(String) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '-1',
      '1.0',
      '1e3',
      '01',
      '4294967296',
      '9007199254740991',
      '9007199254740993',
      '18446744073709551615',
      'null',
      '[0]',
      '""',
    ),
  },
);
const dtypes = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom('U8', 'F32', 'F4', ...SAFETENSORS_DTYPES) },
  { weight: 1, arbitrary: fc.constantFrom('f32', '', 'F33') },
);
const lists = (maxLength: number) => fc.array(integers, { maxLength }).map((items) => `[${items.join(',')}]`);
const tinyShapes = fc.array(fc.nat(4), { maxLength: 3 });

/** One field of a header, right or nearly so; `at` is where the previous tensor ended. */
const fields = fc.record({
  name: names,
  dtype: dtypes,
  shape: fc.oneof({ weight: 3, arbitrary: tinyShapes }, { weight: 1, arbitrary: lists(4) }),
  offsets: fc.option(lists(3), { freq: 4 }),
  // Moves the tensor against its place: over the one before, or off it.
  move: fc.constantFrom(0, 0, 0, 0, 0, 0, -1, 1, 100),
  extra: fc.constantFrom('', '', '', '', '', '', ',"x":1', ',"dtype":"U8"', ',', ':'),
});

/** Headers in the grammar of the format with wrong values, wrong sizes, wrong places. */
const grammatical = fc
  .record({
    entries: fc.array(fields, { maxLength: 4 }),
    metadata: fc.constantFrom('', '', '"__metadata__":{}', '"__metadata__":{"a":"b"}', '"__metadata__":{"a":1}'),
    slack: fc.constantFrom(0, 0, 0, 1, -1),
  })
  .map(({ entries, metadata, slack }) => {
    let at = 0;
    const parts = entries.map(({ name, dtype, shape, offsets, move, extra }) => {
      let size = 1;
      try {
        size = tensorByteLength(dtype as 'U8', typeof shape === 'string' ? (JSON.parse(shape) as number[]) : shape);
      } catch {
        // A nonsense shape has no size; any will do.
      }
      const begin = Math.max(0, at + move);
      at = begin + (Number.isSafeInteger(size) && size < 1e6 ? size : 1);
      const place = offsets ?? `[${begin},${at}]`;
      const shapeText = typeof shape === 'string' ? shape : `[${shape.join(',')}]`;
      const nameText = name.startsWith('\\') ? `"${name}"` : JSON.stringify(name);
      return `${nameText}:{"dtype":${JSON.stringify(dtype)},"shape":${shapeText},"data_offsets":${place}${extra}}`;
    });
    return rawFile(`{${[...(metadata === '' ? [] : [metadata]), ...parts].join(',')}}`, Math.max(0, at + slack));
  });

/** Headers right in every field, whose tensors may lie over each other, apart, in any order, or past the end. */
const arranged = fc
  .record({
    tensors: fc.array(
      fc.record({ dtype: fc.constantFrom('U8', 'BF16', 'F32'), shape: tinyShapes, move: fc.constantFrom(0, 0, 0, 0, -2, -1, 1) }),
      {
        maxLength: 5,
      },
    ),
    backwards: fc.boolean(),
    slack: fc.constantFrom(0, 0, 0, 0, -1, 1),
  })
  .map(({ tensors, backwards, slack }) => {
    let at = 0;
    const parts = tensors.map(({ dtype, shape, move }, index) => {
      const begin = Math.max(0, at + move);
      at = begin + tensorByteLength(dtype, shape);
      return `"t${index}":{"data_offsets":[${begin},${at}],"dtype":"${dtype}","shape":[${shape.join(',')}]}`;
    });
    return rawFile(`{${(backwards ? parts.reverse() : parts).join(',')}}`, Math.max(0, at + slack));
  });

const noise = fc.oneof(
  fc.uint8Array({ maxLength: 64 }),
  fc.uint8Array({ maxLength: 64 }).map((bytes) => rawFile(bytes)),
  fc.string({ unit: 'grapheme', maxLength: 40 }).map((text) => rawFile(`{${text}}`)),
  fc.json({ depthSize: 'small' }).map((text) => rawFile(text)),
);

const specs = fc.uniqueArray(
  fc.record({ name: fc.string({ maxLength: 5 }), dtype: fc.constantFrom('U8', 'BF16', 'F32', 'I64', 'F8_E4M3', 'F64'), shape: tinyShapes }),
  { maxLength: 4, selector: ({ name }) => name },
);

type Mutation = {
  readonly kind: 'flip' | 'set' | 'insert' | 'delete' | 'cut' | 'length' | 'swap';
  readonly at: number;
  readonly value: number;
};
const mutations: fc.Arbitrary<Mutation[]> = fc.array(
  fc.record({
    kind: fc.constantFrom('flip', 'set', 'insert', 'delete', 'cut', 'length', 'swap'),
    at: fc.nat(0xffff),
    value: fc.oneof(fc.nat(255), fc.constantFrom(0x22, 0x2c, 0x30, 0x39, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d, 0xff)),
  }),
  { maxLength: 3 },
);

function mutate(bytes: Uint8Array, { kind, at, value }: Mutation): Uint8Array {
  if (bytes.length === 0) return bytes;
  const place = at % bytes.length;
  const copy = bytes.slice();
  switch (kind) {
    case 'flip':
      copy[place] = (copy[place] as number) ^ (1 << (value % 8));
      return copy;
    case 'set':
      copy[place] = value;
      return copy;
    case 'insert':
      return Uint8Array.from([...bytes.subarray(0, place), value, ...bytes.subarray(place)]);
    case 'delete':
      return Uint8Array.from([...bytes.subarray(0, place), ...bytes.subarray(place + 1)]);
    case 'cut':
      return bytes.slice(0, place);
    case 'length':
      copy[value % Math.min(8, copy.length)] = at & 0xff;
      return copy;
    case 'swap': {
      const other = (place + value) % bytes.length;
      copy[place] = bytes[other] as number;
      copy[other] = bytes[place] as number;
      return copy;
    }
  }
}

type Case =
  | { readonly bytes: Uint8Array }
  | {
      readonly specs: { name: string; dtype: 'U8' | 'BF16' | 'F32' | 'I64' | 'F8_E4M3' | 'F64'; shape: number[] }[];
      readonly mutations: Mutation[];
    };

const anyCase: fc.Arbitrary<Case> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ specs, mutations }) as fc.Arbitrary<Case> },
  { weight: 4, arbitrary: grammatical.map((bytes) => ({ bytes })) },
  { weight: 2, arbitrary: arranged.map((bytes) => ({ bytes })) },
  { weight: 1, arbitrary: noise.map((bytes) => ({ bytes })) },
);

const badName = /(?:^|[./])(?:__proto__|constructor)(?:$|[./])/;

async function bytesOf(test: Case): Promise<{ bytes: Uint8Array; intact: boolean }> {
  if ('bytes' in test) return { bytes: test.bytes, intact: false };
  const lawful = test.specs.filter(({ name }) => name !== '__metadata__' && !badName.test(name));
  const whole = await encodeSafetensors(
    lawful.map((spec) => ({ ...spec, bytes: new Uint8Array(tensorByteLength(spec.dtype, spec.shape)) })),
  );
  return { bytes: test.mutations.reduce(mutate, whole), intact: test.mutations.length === 0 };
}

/** Keys of all objects in a parsed value; fewer than the colons of its text when `JSON.parse` dropped a duplicate. */
function keysIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  const inner = Object.values(value).reduce((sum: number, item) => sum + keysIn(item), 0);
  return Array.isArray(value) ? inner : inner + Object.keys(value).length;
}

/**
 * The rules of the format written again, as plainly as `JSON.parse` allows. It cannot see how a number was spelled, and lets
 * names be; `mayRefuse` lists what the reader may object to beyond it.
 */
function lawful(bytes: Uint8Array): boolean {
  if (bytes.length < 8) return false;
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (length > bytes.length - 8) return false;
  let header: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes.subarray(8, 8 + length));
    if (text[0] !== '{') return false;
    header = JSON.parse(text);
    if (text.replace(/"(?:[^"\\]|\\.)*"/g, '').split(':').length - 1 !== keysIn(header)) return false;
  } catch {
    return false;
  }
  const spans: [number, number][] = [];
  for (const [name, entry] of Object.entries(header as Record<string, unknown>)) {
    if (name === '__metadata__') {
      if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return false;
      if (!Object.values(entry).every((value) => typeof value === 'string')) return false;
      continue;
    }
    if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return false;
    const { dtype, shape, data_offsets: offsets, ...rest } = entry as Record<string, unknown>;
    const isList = (value: unknown): value is number[] =>
      Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
    if (
      Object.keys(rest).length > 0 ||
      !SAFETENSORS_DTYPES.includes(dtype as 'U8') ||
      !isList(shape) ||
      !isList(offsets) ||
      offsets.length !== 2
    )
      return false;
    let size: number;
    try {
      size = tensorByteLength(dtype as 'U8', shape);
    } catch {
      return false;
    }
    const [begin, end] = offsets as [number, number];
    if (end - begin !== size) return false;
    spans.push([begin, end]);
  }
  spans.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let at = 0;
  for (const [begin, end] of spans) {
    if (begin !== at) return false;
    at = end;
  }
  return 8 + length + at === bytes.length;
}

const mayRefuse = new Set(['bad-name', 'bad-shape', 'bad-offsets', 'header-json']);

async function check(test: Case, report: FuzzReport): Promise<void> {
  const { bytes, intact } = await bytesOf(test);
  let readBytes = 0;
  const memory = bytesSource(bytes, FILE);
  const source = {
    ...memory,
    read: (offset: number, length: number, into?: Uint8Array) => {
      readBytes += length;
      if (offset < 0 || offset + length > bytes.length) throw new Error(`read of ${length} at ${offset} in a file of ${bytes.length}`);
      return memory.read(offset, length, into);
    },
  };
  const expected = lawful(bytes);
  const start = performance.now();
  report.files++;
  try {
    const file = await openSafetensors(source);
    report.accepted++;
    if (!expected) throw new Error('a file was read that breaks the format');
    if (readBytes > bytes.length) throw new Error(`opening read ${readBytes} bytes of a file of ${bytes.length}`);
    for (const [name, { offset, byteLength }] of file.entries) {
      const tensor = await file.read(name);
      if (Buffer.compare(tensor, bytes.subarray(offset, offset + byteLength)) !== 0)
        throw new Error(`tensor ${name} has other bytes than the file`);
    }
    if (readBytes > bytes.length) throw new Error(`reading took ${readBytes} bytes of a file of ${bytes.length}`);
  } catch (error) {
    if (!SafetensorsFormatError.is(error)) throw error;
    if (intact || (expected && !mayRefuse.has(error.code))) throw new Error(`a lawful file was refused: ${error.message}`);
    if (error.file !== FILE || !error.message.includes(FILE) || error.message.length > 1000)
      throw new Error(`a poor message: ${error.message}`);
    if (readBytes > bytes.length) throw new Error(`refusing read ${readBytes} bytes of a file of ${bytes.length}`);
    report.refused.set(error.code, (report.refused.get(error.code) ?? 0) + 1);
  }
  report.slowestMs = Math.max(report.slowestMs, performance.now() - start);
}

/** Runs `files` cases from `seed` on, in chunks, so that a failure is shrunk and a long run does not hold its history. */
export async function fuzz(files: number, seed: number, onChunk?: (report: FuzzReport) => void): Promise<FuzzReport> {
  const report: FuzzReport = { files: 0, accepted: 0, refused: new Map(), slowestMs: 0 };
  for (let chunk = 0; report.files < files; chunk++) {
    const numRuns = Math.min(10_000, files - report.files);
    await fc.assert(
      fc.asyncProperty(anyCase, (test) => check(test, report)),
      { numRuns, seed: seed + chunk },
    );
    onChunk?.(report);
  }
  return report;
}
