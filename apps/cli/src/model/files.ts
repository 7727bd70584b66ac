import { stat } from 'node:fs/promises';
import { bytesFiles, type FileSet, isHubRepo } from '@unroll/checkpoint';
import { downloadFromHub, folderFiles, hubCacheFolder } from '@unroll/checkpoint/node';
import { type EmbeddedName, embeddedNames, loadEmbedded, type Problem } from '@unroll/pretrained';
import { CommandError } from '../errors.js';
import type { Io } from '../io.js';
import { createProgress } from '../progress.js';
import { bytes } from '../style.js';

export const DEFAULT_MODEL: EmbeddedName = 'reckoner';

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

export interface FindOptions {
  /** Branch, tag or commit of a repository. */
  readonly revision?: string | undefined;
  /** For the progress of a download, and for HF_TOKEN, HF_ENDPOINT and the folder of the cache. */
  readonly io?: Io;
}

/**
 * The files of a folder, of an embedded model by name, or of a repository on the hub, which is downloaded into the hub's cache; the
 * default model without a name. Throws CommandError, CheckpointError.
 */
export async function findModel(model: string | undefined, options: FindOptions = {}): Promise<ModelFiles> {
  const { revision, io } = options;
  if (model === undefined) return embeddedFiles(DEFAULT_MODEL);
  if (revision === undefined && (await isFolder(model))) return { name: model, files: folderFiles(model) };
  if (revision === undefined && isEmbedded(model)) return embeddedFiles(model);
  if (io !== undefined && isHubRepo(model)) return fromHub(model, revision, io);
  throw new CommandError(
    `there is no folder "${model}"; --model takes a checkpoint folder, the name of an embedded model (${embeddedNames.join(', ')}), or a repository ORGANISATION/NAME on the hub`,
  );
}

async function fromHub(repo: string, revision: string | undefined, io: Io): Promise<ModelFiles> {
  const { HF_TOKEN, HF_ENDPOINT } = io.env;
  const progress = createProgress(io);
  try {
    const files = await downloadFromHub({
      repo,
      cache: hubCacheFolder(io.env),
      ...(revision === undefined ? {} : { revision }),
      ...(HF_TOKEN ? { token: HF_TOKEN } : {}),
      ...(HF_ENDPOINT ? { endpoint: HF_ENDPOINT } : {}),
      onProgress: ({ loadedBytes, totalBytes, bytesPerSecond, secondsLeft }) => {
        const left = Number.isFinite(secondsLeft) ? `, ${Math.ceil(secondsLeft)} s left` : '';
        progress.update(loadedBytes / totalBytes, `${bytes(loadedBytes)} of ${bytes(totalBytes)}, ${bytes(bytesPerSecond)}/s${left}`);
      },
    });
    return { name: revision === undefined ? repo : `${repo}@${revision}`, files };
  } finally {
    progress.done();
  }
}
