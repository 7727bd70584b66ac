const marker = Symbol.for('@unroll/pretrained.error');

/** An embedded model that does not exist. */
export class PretrainedError extends Error {
  override name = 'PretrainedError';
  readonly [marker] = true;

  static is(value: unknown): value is PretrainedError {
    return typeof value === 'object' && value !== null && marker in value;
  }
}

/** A question with its right answer. */
export interface Problem {
  readonly prompt: string;
  readonly answer: string;
  /** Its kind, and how many steps it takes, where a model knows several. */
  readonly task?: string;
  readonly level?: number;
}

/** A checkpoint that comes with this package, as the files of a checkpoint folder would give it. */
export interface EmbeddedModel {
  readonly name: string;
  /** Parsed `config.json`. */
  readonly config: unknown;
  /** Parsed `tokenizer.json`. */
  readonly tokenizer: unknown;
  /** Parsed `tokenizer_config.json`. */
  readonly tokenizerConfig: unknown;
  /** Parsed `generation_config.json`. */
  readonly generationConfig: unknown;
  /** The bytes of `model.safetensors`. */
  readonly weights: Uint8Array;
  /** Held-out problems, none of which was trained on. */
  readonly problems: readonly Problem[];
  /** The model card, Markdown. */
  readonly card: string;
}

const loaders = {
  adder: async () => {
    const [files, { weights }] = await Promise.all([
      import('./generated/adder.generated.js'),
      import('./generated/adder-weights.generated.js'),
    ]);
    return { files, weights };
  },
  reckoner: async () => {
    const [files, { weights }] = await Promise.all([
      import('./generated/reckoner.generated.js'),
      import('./generated/reckoner-weights.generated.js'),
    ]);
    return { files, weights };
  },
} as const;

export type EmbeddedName = keyof typeof loaders;

/** Names that `loadEmbedded` takes. */
export const embeddedNames: readonly EmbeddedName[] = Object.keys(loaders) as EmbeddedName[];

/**
 * Loads an embedded model. Each is a module of its own that is imported here, so that bundlers split it off and nobody downloads what
 * they do not load. Rejects with PretrainedError for another name.
 *
 * @example
 * const { config, weights } = await loadEmbedded('adder');
 */
export async function loadEmbedded(name: EmbeddedName): Promise<EmbeddedModel> {
  if (!Object.hasOwn(loaders, name)) {
    throw new PretrainedError(`loadEmbedded: there is no embedded model "${name}"; there are ${embeddedNames.join(', ')}`);
  }
  const { files, weights } = await loaders[name]();
  const { config, tokenizer, tokenizerConfig, generationConfig, card } = files;
  const problems = files.problems.map(([prompt, answer, task, level]) =>
    task === undefined || level === undefined ? { prompt, answer } : { prompt, answer, task, level },
  );
  return { name, config, tokenizer, tokenizerConfig, generationConfig, card, problems, weights: fromBase64(weights) };
}

function fromBase64(text: string): Uint8Array {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
