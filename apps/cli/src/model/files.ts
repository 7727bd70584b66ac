import { stat } from 'node:fs/promises';
import { bytesFiles, CheckpointError, type FileSet } from '@unroll/checkpoint';
import { folderFiles } from '@unroll/checkpoint/node';
import { type EmbeddedName, embeddedNames, loadEmbedded, type Problem } from '@unroll/pretrained';
import { CommandError } from '../errors.js';

export const DEFAULT_MODEL: EmbeddedName = 'adder';

/** The files of a checkpoint, wherever they lie. */
export interface ModelFiles {
  readonly name: string;
  readonly files: FileSet;
  /** Held-out problems of an embedded model. */
  readonly problems?: readonly Problem[];
}

const isEmbedded = (name: string): name is EmbeddedName => (embeddedNames as readonly string[]).includes(name);

async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory();
  } catch {
    return false;
  }
}

/** An embedded model as the folder that it was made from, so that both load the same way. */
async function embeddedFiles(name: EmbeddedName): Promise<ModelFiles> {
  const embedded = await loadEmbedded(name);
  const files = bytesFiles(
    {
      'config.json': JSON.stringify(embedded.config),
      'tokenizer.json': JSON.stringify(embedded.tokenizer),
      'tokenizer_config.json': JSON.stringify(embedded.tokenizerConfig),
      'generation_config.json': JSON.stringify(embedded.generationConfig),
      'model.safetensors': embedded.weights,
    },
    `${name} (embedded)`,
  );
  return { name: `${name} (embedded)`, files, problems: embedded.problems };
}

/** The files of a folder, or of an embedded model by name; the default model without one. Throws CommandError. */
export async function findModel(model: string | undefined): Promise<ModelFiles> {
  if (model === undefined) return embeddedFiles(DEFAULT_MODEL);
  if (await isFolder(model)) return { name: model, files: folderFiles(model) };
  if (isEmbedded(model)) return embeddedFiles(model);
  throw new CommandError(
    `there is no folder "${model}"; --model takes a checkpoint folder or the name of an embedded model (${embeddedNames.join(', ')})`,
  );
}

/** A JSON file of the set. Throws CheckpointError when it is missing, CommandError when it is not JSON. */
export async function readJson(files: FileSet, file: string): Promise<unknown> {
  const text = await files.readText(file);
  try {
    return JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    throw new CommandError(`"${files.name}": ${file} is not JSON: ${(error as Error).message}`);
  }
}

/** The same, undefined when there is no such file. */
export async function readJsonIfThere(files: FileSet, file: string): Promise<unknown> {
  try {
    return await readJson(files, file);
  } catch (error) {
    if (CheckpointError.is(error) && error.code === 'missing-file') return undefined;
    throw error;
  }
}
