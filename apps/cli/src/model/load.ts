import { type Checkpoint, type FileSet, openCheckpoint } from '@unroll/checkpoint';
import {
  ConfigError,
  familyOf,
  loadRecurrentModel,
  type ModelFamily,
  parseRecurrentConfig,
  type RecurrentConfig,
  type RecurrentModel,
  type WeightDType,
} from '@unroll/recurrent';
import type { Device } from '@unroll/tensor';
import { parseTokenizer, type Tokenizer } from '@unroll/tokenizer';
import { type Flags, readText } from '../args.js';
import { CommandError, UsageError } from '../errors.js';
import type { Io } from '../io.js';
import { createProgress } from '../progress.js';
import { bytes } from '../style.js';
import { placeModel } from './choose.js';
import { parseDeviceName } from './device.js';
import { findModel, type ModelFiles } from './files.js';
import { readJsonIfThere } from './json.js';

export { openDevice } from './device.js';

/** A checkpoint with everything but the weights read. */
export interface OpenedModel extends ModelFiles {
  readonly config: RecurrentConfig;
  readonly configJson: unknown;
  /** What is in a block, told by the names of the tensors. */
  readonly family: ModelFamily;
  readonly tokenizer: Tokenizer | undefined;
  /** `max_new_tokens` of generation_config.json. */
  readonly maxNewTokens: number | undefined;
  readonly checkpoint: Checkpoint;
}

/** A model ready to run. Call `dispose()` when done; it frees the model and the device. */
export interface LoadedModel extends OpenedModel {
  readonly device: Device;
  readonly model: RecurrentModel;
  dispose(): Promise<void>;
}

export interface ModelChoice {
  readonly model?: string | undefined;
  readonly revision?: string | undefined;
  readonly weights?: string | undefined;
  readonly allowUnknown?: readonly string[] | undefined;
  readonly device?: string | undefined;
  readonly dtype?: WeightDType | undefined;
  /** false leaves the tokenizer files unread: for work on token ids, which no fault of theirs should stop. */
  readonly tokenizer?: boolean;
}

export function modelChoice(flags: Flags): ModelChoice {
  return {
    model: readText(flags, 'model'),
    revision: readText(flags, 'revision'),
    weights: readText(flags, 'weights'),
    allowUnknown: readText(flags, 'allow-unknown')?.split(','),
    device: readText(flags, 'device'),
    dtype: parseDType(readText(flags, 'dtype')),
  };
}

const DTYPES: readonly WeightDType[] = ['f32', 'f16', 'bf16', 'q8', 'q4'];

function parseDType(name: string | undefined): WeightDType | undefined {
  const known = DTYPES.find((one) => one === name);
  if (name !== undefined && known === undefined) throw new UsageError(`--dtype must be ${DTYPES.join(', ')}; got "${name}"`);
  return known;
}

function parseConfig(files: ModelFiles, json: unknown, allowUnknown: readonly string[] | undefined): RecurrentConfig {
  try {
    return parseRecurrentConfig(json, allowUnknown === undefined ? {} : { allowUnknown });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new CommandError(`"${files.name}": ${error.message.replace('with allowUnknown', 'with --allow-unknown')}`);
  }
}

async function readTokenizer(files: FileSet, generationConfig: unknown): Promise<Tokenizer | undefined> {
  const tokenizer = await readJsonIfThere(files, 'tokenizer.json');
  if (tokenizer === undefined) return undefined;
  const config = await readJsonIfThere(files, 'tokenizer_config.json');
  try {
    return parseTokenizer({
      tokenizer,
      ...(config === undefined ? {} : { config }),
      ...(generationConfig === undefined ? {} : { generationConfig }),
    });
  } catch (error) {
    throw new CommandError(`"${files.name}": its tokenizer files (tokenizer.json) cannot be used: ${(error as Error).message}`);
  }
}

/** `max_new_tokens`, undefined where the file says nothing. Throws CommandError. */
function readLimit(files: FileSet, generationConfig: unknown): number | undefined {
  const limit = (generationConfig as { max_new_tokens?: unknown } | null | undefined)?.max_new_tokens ?? undefined;
  if (limit === undefined) return undefined;
  if (typeof limit === 'number' && Number.isInteger(limit) && limit > 0) return limit;
  throw new CommandError(
    `"${files.name}": generation_config.json: max_new_tokens must be a whole number from 1; got ${JSON.stringify(limit)}`,
  );
}

/** Reads and checks everything of a checkpoint but its weights. */
export async function openModel(choice: ModelChoice, io?: Io): Promise<OpenedModel> {
  const found = await findModel(choice.model, { revision: choice.revision, ...(io === undefined ? {} : { io }) });
  const { files } = found;
  const configJson = await readJsonIfThere(files, 'config.json');
  if (configJson === undefined)
    throw new CommandError(`there is no file "config.json" in "${files.name}"; name the folder that holds the checkpoint's config.json`);
  const config = parseConfig(found, configJson, choice.allowUnknown);
  const generationConfig = await readJsonIfThere(files, 'generation_config.json');
  const tokenizer = choice.tokenizer === false ? undefined : await readTokenizer(files, generationConfig);
  const maxNewTokens = readLimit(files, generationConfig);
  const checkpoint = await openCheckpoint(files, choice.weights === undefined ? {} : { weights: choice.weights });
  return { ...found, config, configJson, family: familyOf(checkpoint.names), tokenizer, maxNewTokens, checkpoint };
}

// Below this, loading is over before a bar could be read.
const SHOW_PROGRESS_FROM = 100e6;

/** Opens a checkpoint and puts its weights on a device. Throws the errors of the packages, CommandError and UsageError. */
export async function loadModel(choice: ModelChoice, io: Io): Promise<LoadedModel> {
  const name = parseDeviceName(choice.device);
  const opened = await openModel(choice, io);
  const { checkpoint, configJson } = opened;
  const progress = createProgress(io);
  const large = checkpoint.totalBytes >= SHOW_PROGRESS_FROM;
  const load = (device: Device): Promise<RecurrentModel> =>
    loadRecurrentModel({
      device,
      config: configJson,
      weights: checkpoint,
      ...(choice.dtype === undefined ? {} : { dtype: choice.dtype }),
      ...(choice.allowUnknown === undefined ? {} : { allowUnknown: choice.allowUnknown }),
      onProgress: ({ loaded, total }) => {
        if (large) progress.update(loaded / total, `loading ${opened.name} (${bytes(checkpoint.totalBytes)})`);
      },
    });
  try {
    const placed = await placeModel(name, load, io);
    return {
      ...opened,
      device: placed.device,
      model: placed.model,
      async dispose() {
        placed.model.dispose();
        await checkpoint.close();
        await placed.close();
      },
    };
  } catch (error) {
    await checkpoint.close();
    throw error;
  } finally {
    progress.done();
  }
}
