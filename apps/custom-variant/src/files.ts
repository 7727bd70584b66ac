import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openSafetensors } from '@unroll/checkpoint';
import { fileSink, fileSource } from '@unroll/checkpoint/node';
import { loadRecurrentModel, type RecurrentModel } from '@unroll/recurrent';
import type { Device } from '@unroll/tensor';
import { parseTokenizer, type Tokenizer } from '@unroll/tokenizer';
import { saveModel, type Trainer, tokenizerFiles } from '@unroll/train';
import { parseVariantName, type VariantName, variants } from './recipes.js';

/** The tokenizer of the tasks. */
export function taskTokenizer(contextLength: number): Tokenizer {
  const files = tokenizerFiles(contextLength);
  return parseTokenizer({
    tokenizer: files['tokenizer.json'],
    config: files['tokenizer_config.json'],
    generationConfig: files['generation_config.json'],
  });
}

// #region save
/** Writes a checkpoint folder: config.json, with the variant's name in it, and the weights. */
export async function saveVariant(folder: string, name: VariantName, trainer: Trainer): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), `${JSON.stringify({ variant: name, ...trainer.config.model }, null, 1)}\n`);
  await saveModel(await fileSink(join(folder, 'model.safetensors')), trainer.model);
}

/** Reads it. Throws OptionError for a folder without a variant's name, ConfigError and ParamsError. The caller disposes the model. */
export async function loadVariant(folder: string, device: Device): Promise<{ name: VariantName; model: RecurrentModel }> {
  const config = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')) as { variant?: unknown };
  const name = parseVariantName(config.variant);
  const { family } = variants[name];
  const weights = await openSafetensors(await fileSource(join(folder, 'model.safetensors')));
  try {
    return { name, model: await loadRecurrentModel({ device, config, weights, family, allowUnknown: ['variant'] }) };
  } finally {
    await weights.close();
  }
}
// #endregion save
