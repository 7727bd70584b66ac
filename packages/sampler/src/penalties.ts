/** What a logits processor may look at. */
export interface LogitsContext {
  /** Prompt and generated tokens so far. */
  readonly tokens: readonly number[];
  readonly promptLength: number;
}

/** Changes the logits (V) of the next token in place, or returns others. Runs after penalties and biases, before the temperature. */
export type LogitsProcessor =
  | ((logits: Float32Array, context: LogitsContext) => Float32Array)
  | ((logits: Float32Array, context: LogitsContext) => void);

export interface Penalties {
  /** Divides the positive and multiplies the negative logits of tokens of prompt and text (Keskar et al. 2019); 1 does nothing. */
  readonly repetitionPenalty: number;
  /** Subtracted from the logits of tokens that the generated text has. */
  readonly presencePenalty: number;
  /** Subtracted from a token's logit once for each time that the generated text has it. */
  readonly frequencyPenalty: number;
  /** Added to logits by token id; -Infinity bans a token. */
  readonly logitBias: ReadonlyMap<number, number> | undefined;
}

/** Applies penalties, then biases, to logits (V) in place. */
export function applyPenalties(logits: Float32Array, { tokens, promptLength }: LogitsContext, options: Penalties): void {
  const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = options;
  if (repetitionPenalty !== 1) {
    for (const token of new Set(tokens)) logits[token]! *= logits[token]! > 0 ? 1 / repetitionPenalty : repetitionPenalty;
  }
  if (presencePenalty !== 0 || frequencyPenalty !== 0) {
    const counts = new Map<number, number>();
    for (let i = promptLength; i < tokens.length; i++) counts.set(tokens[i]!, (counts.get(tokens[i]!) ?? 0) + 1);
    for (const [token, count] of counts) logits[token]! -= presencePenalty + frequencyPenalty * count;
  }
  for (const [token, bias] of logitBias ?? []) logits[token]! += bias;
}
