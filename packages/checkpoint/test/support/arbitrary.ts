import fc from 'fast-check';
import { SAFETENSORS_DTYPES, type TensorToWrite, tensorByteLength } from '../../src/index.js';

const SUB_BYTE = new Set(['F4', 'F6_E2M3', 'F6_E3M2']);

export const anyName: fc.Arbitrary<string> = fc
  .oneof(
    {
      weight: 4,
      arbitrary: fc.constantFrom(
        'wte.weight',
        'h.0.attn.qk_bias',
        'ln_f',
        'toString',
        'hasOwnProperty',
        '__metadata',
        'valueOf',
        '0',
        '12',
      ),
    },
    { weight: 4, arbitrary: fc.string({ maxLength: 12 }) },
    { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 8 }) },
    { weight: 1, arbitrary: fc.constantFrom('\u0000', '"quoted"', 'back\\slash', 'tab\there', '\u{1f600}', '\uffee', 'é') },
  )
  .filter((name) => !/(?:^|[./])(?:__proto__|constructor)(?:$|[./])/.test(name) && name !== '__metadata__');

const anySpec = fc
  .record({
    name: anyName,
    dtype: fc.constantFrom(...SAFETENSORS_DTYPES),
    shape: fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 }),
  })
  .map((spec) => (SUB_BYTE.has(spec.dtype) ? { ...spec, shape: [...spec.shape, 8] } : spec));

/** Tensors with distinct names, of every dtype, scalars and empty ones included, with random bytes. */
export const anyTensors: fc.Arbitrary<(TensorToWrite & { bytes: Uint8Array })[]> = fc
  .uniqueArray(anySpec, { maxLength: 6, selector: ({ name }) => name })
  .chain((specs) =>
    fc.tuple(
      ...specs.map((spec) => {
        const length = tensorByteLength(spec.dtype, spec.shape);
        return fc.uint8Array({ minLength: length, maxLength: length }).map((bytes) => ({ ...spec, bytes }));
      }),
    ),
  );

export const anyMetadata: fc.Arbitrary<Map<string, string>> = fc
  .uniqueArray(fc.tuple(fc.string({ unit: 'binary', maxLength: 6 }), fc.string({ unit: 'binary', maxLength: 10 })), {
    maxLength: 3,
    selector: ([key]) => key,
  })
  .map((pairs) => new Map(pairs));
