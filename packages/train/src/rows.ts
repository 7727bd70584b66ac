import type { TrainingBatch } from '@unroll/recurrent';
import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import { packDocuments } from './batch.js';
import { Random } from './random.js';

/** Running text in place of tasks: rows of tokens, each predicting the next. */
export interface TextConfig {
  /** Where the text is, for the program that reads it and makes tokens of it. */
  readonly files: readonly string[];
  /** Tokens of the vocabulary that is learned from the text, the closing one of a document included. */
  readonly vocabulary: number;
  /** Tokens of a row. */
  readonly length: number;
  /** Share of the rows that are never trained on; 0.05 when absent. */
  readonly heldOut?: number;
}

/** Closes a document. */
export const documentEnd = { id: 0, content: '<|end|>' } as const;

/** Throws OptionError for unknown fields and values that do not fit. */
export function checkText(config: TextConfig, contextLength: number): void {
  refuseUnknownOptions('text', config, ['files', 'vocabulary', 'length', 'heldOut']);
  const { files, vocabulary, length, heldOut = 0.05 } = config;
  if (!Array.isArray(files) || files.length === 0 || files.some((file) => typeof file !== 'string' || file === ''))
    throw new OptionError('text: files must be a list of paths, one at least');
  // 256 bytes and the end of a document.
  if (!Number.isInteger(vocabulary) || vocabulary < 257)
    throw new OptionError(`text: vocabulary must be a whole number from 257, the bytes and the end of a document; got ${vocabulary}`);
  if (!Number.isInteger(length) || length < 1 || length > contextLength)
    throw new OptionError(`text: length must be a whole number from 1 to the model's context ${contextLength}; got ${length}`);
  if (!(heldOut > 0 && heldOut <= 0.5)) throw new OptionError(`text: heldOut must be from above 0 to 0.5; got ${heldOut}`);
}

/** The rows of a text, those for training and those held out. */
export class TextRows {
  readonly #length: number;
  readonly #tokens: Int32Array;
  readonly #targets: Int32Array;
  readonly #training: readonly number[];
  readonly #heldOut: readonly number[];
  /** Tells whether two runs read the same tokens (FNV-1a). */
  readonly key: string;

  /** `documents` are tokens without `documentEnd`. Throws OptionError for tokens beyond the vocabulary, and for too little text. */
  constructor({ length, vocabulary, heldOut = 0.05 }: TextConfig, documents: readonly (readonly number[])[]) {
    const wrong = documents.flatMap((document) =>
      document.filter((token) => !(Number.isInteger(token) && token >= 0 && token < vocabulary)),
    );
    if (wrong.length > 0) throw new OptionError(`text: token ${wrong[0]} is not one of a vocabulary of ${vocabulary}`);
    const { batch, tokens, targets } = packDocuments(documents, length, documentEnd.id);
    const every = Math.round(1 / heldOut);
    if (batch < every) throw new OptionError(`text: ${batch} rows of ${length} tokens leave nothing to hold out; give ${every} or more`);
    const rows = Array.from({ length: batch }, (_, row) => row);
    this.#length = length;
    this.#tokens = tokens;
    this.#targets = targets;
    this.#training = rows.filter((row) => (row + 1) % every !== 0);
    this.#heldOut = rows.filter((row) => (row + 1) % every === 0);
    let hash = 0x811c9dc5;
    for (const token of tokens) hash = Math.imul(hash ^ token, 0x01000193);
    this.key = `${tokens.length} tokens, ${(hash >>> 0).toString(16)}`;
  }

  /** `count` rows for training, from place `start` of an endless list of draws: draw i is a function of (seed, i). */
  training(seed: number, start: number, count: number): TrainingBatch {
    const drawn = Array.from({ length: count }, (_, i) => new Random(seed, 'problem', start + i).int(0, this.#training.length - 1));
    return this.#batch(drawn.map((i) => this.#training[i]!));
  }

  /** The first `count` held-out rows, or all. */
  heldOut(count: number): TrainingBatch {
    return this.#batch(this.#heldOut.slice(0, count));
  }

  #batch(rows: readonly number[]): TrainingBatch {
    const cut = (from: Int32Array) => {
      const part = new Int32Array(rows.length * this.#length);
      rows.forEach((row, i) => {
        part.set(from.subarray(row * this.#length, (row + 1) * this.#length), i * this.#length);
      });
      return part;
    };
    return { batch: rows.length, tokens: cut(this.#tokens), targets: cut(this.#targets) };
  }
}
