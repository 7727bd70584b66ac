import { readFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { parseTokenizer, trainByteLevelBPE } from '@unroll/tokenizer';
import { documentEnd, type TrainingConfig, tokenizerFiles } from '@unroll/train';
import { CommandError } from '../errors.js';

/** What a run needs beside its config: the tokens of its text, if it has one, and the tokenizer that goes with its model. */
export interface Corpus {
  readonly documents?: readonly (readonly number[])[];
  /** Content of `tokenizer.json` and the small files beside it, by name. */
  readonly files: Readonly<Record<string, unknown>>;
}

/**
 * Reads the text of a recipe, each file a document with its path relative to the recipe, and learns its vocabulary; a run on tasks has
 * theirs. The same text gives the same vocabulary. Throws CommandError for a file that cannot be read.
 */
export async function corpusOf({ text, model }: TrainingConfig, recipe: string): Promise<Corpus> {
  const contextLength = (model as { block_size: number }).block_size;
  if (text === undefined) return { files: tokenizerFiles(contextLength) };
  const texts = await Promise.all(
    text.files.map((file) =>
      readFile(resolve(dirname(recipe), file), 'utf8').catch((error: NodeJS.ErrnoException) => {
        throw new CommandError(
          error.code === 'ENOENT'
            ? `"${recipe}" names the text "${file}", which is not there; paths are relative to the recipe`
            : `"${file}" cannot be read: ${error.message}`,
        );
      }),
    ),
  );
  const trained = trainByteLevelBPE(texts, { vocabSize: text.vocabulary, specialTokens: [documentEnd.content] });
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    eos_token: documentEnd.content,
    clean_up_tokenization_spaces: false,
    model_max_length: contextLength,
  };
  const tokenizer = parseTokenizer({ tokenizer: trained, config });
  return {
    documents: texts.map((one) => tokenizer.encode(one, { addSpecialTokens: false })),
    files: {
      'tokenizer.json': trained,
      'tokenizer_config.json': config,
      'generation_config.json': { eos_token_id: documentEnd.id, do_sample: true, temperature: 0.8 },
    },
  };
}
