import { CheckpointError, type FileSet, openSafetensors, type SafetensorsFile, toFloat32, toInt32 } from '@unroll/checkpoint';
import { CommandError } from '../errors.js';
import { readJsonIfThere } from '../model/json.js';

/** What one run of the reference was asked for (`args`) and gave (the other fields). */
export type GenerationRecord = Readonly<Record<string, unknown>>;

/** The reference's outputs: `expected.safetensors` and `expected.json` of a folder. */
export interface Fixture {
  readonly tensors: SafetensorsFile | undefined;
  readonly meta: Readonly<Record<string, unknown>>;
  readonly generations: ReadonlyMap<string, GenerationRecord>;
  /** The tensor as f32. Throws CommandError when it is not there. */
  floats(name: string): Promise<{ values: Float32Array; shape: readonly number[] }>;
  /** input_ids (B, T) as rows. */
  inputRows(): Promise<number[][]>;
  close(): Promise<void>;
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function record(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (value === undefined) return {};
  if (!isRecord(value)) throw new CommandError(`expected.json: ${what} must be an object`);
  return value;
}

async function openTensors(files: FileSet): Promise<SafetensorsFile | undefined> {
  try {
    return await openSafetensors(await files.open('expected.safetensors'));
  } catch (error) {
    if (CheckpointError.is(error) && error.code === 'missing-file') return undefined;
    throw error;
  }
}

/** Opens the expected outputs of a fixture folder. Throws CommandError when there are none. */
export async function openFixture(files: FileSet): Promise<Fixture> {
  const json = await readJsonIfThere(files, 'expected.json');
  const tensors = await openTensors(files);
  if (json === undefined && tensors === undefined) {
    throw new CommandError(
      `"${files.name}" has neither expected.safetensors nor expected.json; parity compares a checkpoint with outputs that lie beside it`,
    );
  }
  const root = record(json, 'the file');
  const generations = new Map(
    Object.entries(record(root.generations, 'generations')).map(([name, value]) => [name, record(value, `generations.${name}`)]),
  );
  const read = async <T>(
    name: string,
    convert: (bytes: Uint8Array, dtype: never) => T,
  ): Promise<{ values: T; shape: readonly number[] }> => {
    const entry = tensors?.entries.get(name);
    if (tensors === undefined || entry === undefined)
      throw new CommandError(`expected.safetensors has no tensor "${name}", which other tensors need`);
    return { values: convert(await tensors.read(name), entry.dtype as never), shape: entry.shape };
  };
  return {
    tensors,
    meta: record(root.meta, 'meta'),
    generations,
    floats: (name) => read(name, toFloat32),
    async inputRows() {
      const { values, shape } = await read('input_ids', toInt32);
      if (shape.length !== 2) throw new CommandError(`expected.safetensors: input_ids must be (B, T); got [${shape}]`);
      const [B, T] = shape as [number, number];
      return Array.from({ length: B }, (_, b) => Array.from(values.subarray(b * T, (b + 1) * T)));
    },
    close: async () => tensors?.close(),
  };
}
