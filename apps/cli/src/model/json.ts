import { CheckpointError, type FileSet } from '@unroll/checkpoint';
import { CommandError } from '../errors.js';

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
