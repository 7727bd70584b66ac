const MARK = Symbol.for('@unroll/tokenizer.error');

/**
 * Base of every error that this package throws on purpose.
 *
 * `TokenizerError.is` works across two copies of the package, where `instanceof` does not.
 */
export class TokenizerError extends Error {
  override name = 'TokenizerError';
  readonly [MARK] = true;

  static is(value: unknown): value is TokenizerError {
    return typeof value === 'object' && value !== null && (value as Record<symbol, unknown>)[MARK] === true;
  }
}

/** A tokenizer.json, tokenizer_config.json or generation_config.json that cannot be used. `field` is the path of the culprit. */
export class TokenizerFormatError extends TokenizerError {
  override name = 'TokenizerFormatError';
  /** For example `tokenizer.json: model.merges[12]`. */
  readonly field: string;

  constructor(field: string, problem: string) {
    super(`${field}: ${problem}`);
    this.field = field;
  }
}

/** Text that the vocabulary has no tokens for (and no unknown token, or that is no text at all: a lone surrogate). */
export class UnencodableTextError extends TokenizerError {
  override name = 'UnencodableTextError';
  /** The character (or, where a normalizer hides which one it was, the piece of normalised text) that has no token. */
  readonly character: string;
  /** Index of the character in the text given, in UTF-16 units; undefined where a normalizer made the character. */
  readonly position: number | undefined;

  constructor(character: string, position: number | undefined, why: string) {
    super(`encode: ${why}`);
    this.character = character;
    this.position = position;
  }
}

/** A token id that is not in the vocabulary. */
export class UnknownTokenError extends TokenizerError {
  override name = 'UnknownTokenError';
  readonly token: number;

  constructor(token: number, vocabularySize: number) {
    super(
      `decode: token ${token} is not in the vocabulary (ids 0 to ${vocabularySize - 1}); ` +
        `was it made by a model with another tokenizer? Pass unknownTokens: 'skip' to leave such ids out`,
    );
    this.token = token;
  }
}

/** A chat template that is missing, does not parse, or refuses the messages. */
export class ChatTemplateError extends TokenizerError {
  override name = 'ChatTemplateError';
}

/** A wrong argument: an unknown option, or a value of the wrong type. */
export class TokenizerOptionError extends TokenizerError {
  override name = 'TokenizerOptionError';
}
