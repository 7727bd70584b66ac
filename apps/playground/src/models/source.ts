import { type Checkpoint, CheckpointError, type FileSet, openCheckpoint } from '@unroll/checkpoint';
import { parseRecurrentConfig, type RecurrentConfig } from '@unroll/recurrent';
import { parseTokenizer, type Tokenizer } from '@unroll/tokenizer';
import type { Example } from '../worker/protocol.js';

/** A model's files, opened, with everything but the weights read. */
export interface OpenedFiles {
  readonly name: string;
  readonly config: RecurrentConfig;
  readonly configJson: unknown;
  readonly tokenizer: Tokenizer | undefined;
  readonly maxNewTokens: number;
  readonly checkpoint: Checkpoint;
  readonly examples: readonly Example[];
  readonly about: string;
}

async function readJson(files: FileSet, file: string): Promise<unknown> {
  let text: string;
  try {
    text = await files.readText(file);
  } catch (error) {
    if (CheckpointError.is(error) && error.code === 'missing-file') return undefined;
    throw error;
  }
  try {
    return JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    throw new Error(`${files.name}: ${file} is not JSON: ${(error as Error).message}`);
  }
}

const DEFAULT_NEW_TOKENS = 64;

/** Opens the files of a checkpoint folder. Throws what they are wrong in, with the file's name. */
export async function openFiles(files: FileSet, examples: readonly Example[] = [], card = ''): Promise<OpenedFiles> {
  const configJson = await readJson(files, 'config.json');
  if (configJson === undefined) throw new Error(`${files.name}: there is no config.json; give all files of the checkpoint's folder`);
  const config = parseRecurrentConfig(configJson);
  const generation = (await readJson(files, 'generation_config.json')) as { max_new_tokens?: unknown } | undefined;
  const tokenizerJson = await readJson(files, 'tokenizer.json');
  const tokenizerConfig = await readJson(files, 'tokenizer_config.json');
  const tokenizer =
    tokenizerJson === undefined
      ? undefined
      : parseTokenizer({
          tokenizer: tokenizerJson,
          ...(tokenizerConfig === undefined ? {} : { config: tokenizerConfig }),
          ...(generation === undefined ? {} : { generationConfig: generation }),
        });
  const limit = generation?.max_new_tokens;
  return {
    name: files.name,
    config,
    configJson,
    tokenizer,
    maxNewTokens: typeof limit === 'number' && Number.isInteger(limit) && limit > 0 ? limit : DEFAULT_NEW_TOKENS,
    checkpoint: await openCheckpoint(files),
    examples,
    about: firstParagraph(card),
  };
}

/** The first paragraph of a Markdown card behind its title. */
export function firstParagraph(card: string): string {
  const blocks = card.split(/\n\s*\n/).map((block) => block.trim());
  return blocks.find((block) => block !== '' && !/^[#|>\-`]/.test(block))?.replaceAll('\n', ' ') ?? '';
}
