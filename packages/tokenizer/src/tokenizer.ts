import { type AddedToken, AddedTokenMatcher, parseAddedToken } from './added-tokens';
import { parseDecoder, type TextAssembler } from './decoder';
import { TokenizerFormatError, TokenizerOptionError, UnencodableTextError, UnknownTokenError } from './errors';
import { Field } from './fields';
import { parseModel } from './model';
import { parseNormalizer } from './normalizer';
import { checkBoolean, describe, refuseUnknown } from './options';
import { parsePostProcessor } from './post-processor';
import { parsePreTokenizer } from './pre-tokenizer';
import { parseSpecialTokens, type SpecialTokens } from './special-tokens';

export interface EncodeOptions {
  /** Put the special tokens that the post-processor asks for around the text. Default true. */
  addSpecialTokens?: boolean;
  /**
   * Whether `<|eot|>` written in the text becomes the special token of that name (default true) or stays plain text. Say false for text
   * from people whom the prompt's structure should not trust.
   */
  allowSpecial?: boolean;
}

export interface DecodeOptions {
  /** Leave special tokens out. Default false. */
  skipSpecialTokens?: boolean;
  /**
   * Take spaces before punctuation and English contractions away. Default: what tokenizer_config.json says under
   * `clean_up_tokenization_spaces`, but false for a BPE model and where it says nothing.
   */
  cleanUpSpaces?: boolean;
  /** What to do with an id that the vocabulary lacks: throw UnknownTokenError (default), or leave it out. */
  unknownTokens?: 'throw' | 'skip';
}

export interface StreamOptions extends DecodeOptions {
  /** Tokens that came before, for example the prompt: their text is not returned, but what follows is decoded as its continuation. */
  after?: Iterable<number>;
}

/** Decodes token by token. The texts returned, one after another, are the text that `decode` gives for all the tokens. */
export interface StreamDecoder {
  /** @returns the text that is final now: never half a character, never text that a later token would change; often empty */
  push(token: number): string;
  /** Ends the text and returns what was held back. The next push begins a new text. */
  flush(): string;
}

export interface Tokenizer {
  /** Highest id plus one. A model's logits may be wider (padded), never narrower. */
  readonly vocabularySize: number;
  readonly specialTokens: SpecialTokens;
  /** Ids of all special tokens: those marked so in tokenizer.json and those that tokenizer_config.json names. */
  readonly specialIds: ReadonlySet<number>;
  /** Ids that end a generation: `eos_token_id` of generation_config.json and `eos_token` of tokenizer_config.json. */
  readonly stopTokens: readonly number[];
  /** Context length that tokenizer_config.json states, in tokens. */
  readonly modelMaxLength?: number;
  /** Texts of the named special tokens (`bos_token`, …), which chat templates refer to. */
  readonly specialTokenTexts: Readonly<Record<string, string>>;
  /** Chat templates of tokenizer_config.json by name; a single one is called `default`. */
  readonly chatTemplates: ReadonlyMap<string, string>;
  /**
   * Text to token ids. Never truncates and never pads.
   * @throws UnencodableTextError naming the character and its position where the vocabulary cannot express the text
   */
  encode(text: string, options?: EncodeOptions): number[];
  /** Token ids to text. @throws UnknownTokenError for an id that the vocabulary lacks */
  decode(tokens: Iterable<number>, options?: DecodeOptions): string;
  idOf(token: string): number | undefined;
  tokenOf(id: number): string | undefined;
  stream(options?: StreamOptions): StreamDecoder;
}

export interface TokenizerFiles {
  /** Parsed tokenizer.json. */
  tokenizer: unknown;
  /** Parsed tokenizer_config.json: names of special tokens, chat template, context length. */
  config?: unknown;
  /** Parsed generation_config.json: stop tokens. */
  generationConfig?: unknown;
}

function collectAddedTokens(root: Field, config: Field | undefined, vocabulary: ReadonlyMap<string, number>): AddedToken[] {
  const byId = new Map<number, string>();
  for (const [token, id] of vocabulary) byId.set(id, token);
  const added: AddedToken[] = [];
  const contents = new Map<string, number>();
  const add = (field: Field, id: number) => {
    const token = parseAddedToken(field, id);
    const holder = byId.get(id);
    if (holder !== undefined && holder !== token.content) {
      throw new TokenizerFormatError(
        field.path,
        `id ${id} of ${JSON.stringify(token.content)} already belongs to ${JSON.stringify(holder)}`,
      );
    }
    const other = contents.get(token.content) ?? vocabulary.get(token.content);
    if (other !== undefined && other !== id) {
      throw new TokenizerFormatError(field.path, `${JSON.stringify(token.content)} has id ${id} here and ${other} elsewhere`);
    }
    byId.set(id, token.content);
    contents.set(token.content, id);
    added.push(token);
  };
  for (const field of root.optional('added_tokens')?.items() ?? []) {
    const id = field.get('id').count();
    if (contents.has(field.get('content').string())) field.fail('each added token once');
    add(field, id);
  }
  const late = config?.optional('added_tokens_decoder');
  for (const key of Object.keys(late?.object() ?? {})) {
    const field = (late as Field).get(key);
    if (!/^\d+$/.test(key)) field.fail('an id as its name');
    if (!contents.has(field.get('content').string())) add(field, Number(key));
  }
  return added;
}

function parseChatTemplates(config: Field | undefined): Map<string, string> {
  const field = config?.optional('chat_template');
  if (!field) return new Map();
  if (typeof field.value === 'string') return new Map([['default', field.value]]);
  return new Map(field.items().map((entry) => [entry.get('name').string(), entry.get('template').string()]));
}

function quote(character: string): string {
  const codes = Array.from(character, (char) => `U+${(char.codePointAt(0) as number).toString(16).toUpperCase().padStart(4, '0')}`);
  return `${JSON.stringify(character)} (${codes.join(' ')})`;
}

/**
 * Builds a tokenizer from the parsed files of a checkpoint. No file is read here, so that it runs wherever JavaScript does.
 *
 * @throws TokenizerFormatError naming the field that is missing, malformed, or asks for something not supported
 */
export function parseTokenizer(files: TokenizerFiles): Tokenizer {
  refuseUnknown('parseTokenizer', files, ['tokenizer', 'config', 'generationConfig']);
  const root = new Field(files.tokenizer, 'tokenizer.json');
  const given = (value: unknown, path: string) => (value === undefined || value === null ? undefined : new Field(value, path));
  const config = given(files.config, 'tokenizer_config.json');
  const generation = given(files.generationConfig, 'generation_config.json');

  const model = parseModel(root.get('model'));
  const part = <T>(name: string, parse: (field: Field) => T): T | undefined => {
    const field = root.optional(name);
    return field && parse(field);
  };
  const normalize = part('normalizer', parseNormalizer) ?? ((text: string) => text);
  const preTokenize = part('pre_tokenizer', parsePreTokenizer) ?? ((piece: string) => [piece]);
  const frame = part('post_processor', parsePostProcessor) ?? { before: [], after: [] };
  const added = collectAddedTokens(root, config, model.vocabulary);

  const ids = new Map(model.vocabulary);
  for (const token of added) ids.set(token.content, token.id);
  const texts = new Map<number, string>();
  let vocabularySize = 0;
  for (const [token, id] of ids) {
    texts.set(id, token);
    if (id >= vocabularySize) vocabularySize = id + 1;
  }
  for (const id of [...frame.before, ...frame.after]) {
    if (!texts.has(id)) throw new TokenizerFormatError('tokenizer.json.post_processor', `adds token ${id}, which is not in the vocabulary`);
  }

  const assemble = parseDecoder(root.optional('decoder'), new Set(added.map((token) => token.content)));
  const configCleanUp = config?.optional('clean_up_tokenization_spaces')?.boolean() ?? false;
  // English clean-up after a BPE model corrupts the text ("x != y" becomes "x!= y"); many configs ask for it by accident
  // (huggingface/transformers#44915), so that there only the caller can.
  const cleanUpDefault = model.type !== 'BPE' && configCleanUp;
  const maxLength = config?.optional('model_max_length')?.number();

  const rawMatcher = new AddedTokenMatcher(added.filter((token) => !token.normalized));
  const normalMatcher = new AddedTokenMatcher(
    added.filter((token) => token.normalized),
    normalize,
  );

  /** Appends the ids of text without the frame; returns the first inexpressible piece and the place where its section begins. */
  const encodeText = (text: string, allow: (token: AddedToken) => boolean, out: number[]) => {
    for (const section of rawMatcher.split(text, allow)) {
      if (section.token) {
        out.push(section.token.id);
        continue;
      }
      for (const sub of normalMatcher.split(normalize(section.text), allow)) {
        if (sub.token) {
          out.push(sub.token.id);
          continue;
        }
        for (const piece of preTokenize(sub.text, section.start === 0 && sub.start === 0)) {
          const symbol = model.tokenize(piece, out);
          if (symbol !== undefined) return { symbol, section };
        }
      }
    }
    return undefined;
  };

  // A special token may be named by its text ("\n") where the vocabulary spells it otherwise ("Ċ").
  const idOfNamed = (name: string): number | undefined => {
    const out: number[] = [];
    return ids.get(name) ?? (encodeText(name, () => true, out) === undefined && out.length === 1 ? out[0] : undefined);
  };
  const special = parseSpecialTokens(idOfNamed, config, generation, model.unknown);
  const specialIds = new Set([...added.filter((token) => token.special).map((token) => token.id), ...special.ids]);

  const unencodable = (symbol: string, section: { start: number; text: string }, allow: (token: AddedToken) => boolean) => {
    const size = `this vocabulary (${ids.size} tokens)`;
    const known =
      model.vocabulary.size > 64
        ? ''
        : `; it knows ${[...model.vocabulary.values()].map((id) => JSON.stringify(decode([id], {}))).join(' ')}`;
    let position = section.start;
    for (const character of section.text) {
      if (encodeText(character, allow, []) !== undefined) {
        return new UnencodableTextError(character, position, `${quote(character)} at index ${position} has no token in ${size}${known}`);
      }
      position += character.length;
    }
    return new UnencodableTextError(
      symbol,
      undefined,
      `the normalised text contains ${quote(symbol)}, which has no token in ${size}${known}`,
    );
  };

  function encode(text: string, options: EncodeOptions = {}): number[] {
    if (typeof text !== 'string') throw new TokenizerOptionError(`encode: expected a string, got ${describe(text)}`);
    refuseUnknown('encode', options, ['addSpecialTokens', 'allowSpecial']);
    checkBoolean('encode', 'addSpecialTokens', options.addSpecialTokens);
    checkBoolean('encode', 'allowSpecial', options.allowSpecial);
    const lone = /\p{Surrogate}/u.exec(text);
    if (lone) {
      throw new UnencodableTextError(
        lone[0],
        lone.index,
        `half a surrogate pair at index ${lone.index} is not a character; use text.toWellFormed()`,
      );
    }
    const allow = (token: AddedToken) => !token.special || options.allowSpecial !== false;
    const framed = options.addSpecialTokens !== false;
    const out: number[] = framed ? [...frame.before] : [];
    const problem = encodeText(text, allow, out);
    if (problem) throw unencodable(problem.symbol, problem.section, allow);
    if (framed) out.push(...frame.after);
    return out;
  }

  function decodeWith(options: DecodeOptions, where: string, known: readonly string[]) {
    refuseUnknown(where, options, known);
    checkBoolean(where, 'skipSpecialTokens', options.skipSpecialTokens);
    checkBoolean(where, 'cleanUpSpaces', options.cleanUpSpaces);
    const { skipSpecialTokens = false, cleanUpSpaces = cleanUpDefault, unknownTokens = 'throw' } = options;
    if (unknownTokens !== 'throw' && unknownTokens !== 'skip') {
      throw new TokenizerOptionError(`${where}: unknownTokens must be 'throw' or 'skip', got ${describe(unknownTokens)}`);
    }
    const push = (assembler: TextAssembler, id: number): string => {
      const token = texts.get(id);
      if (token === undefined) {
        if (unknownTokens === 'skip') return '';
        throw new UnknownTokenError(id, vocabularySize);
      }
      return skipSpecialTokens && specialIds.has(id) ? '' : assembler.push(token);
    };
    return { push, start: () => assemble(cleanUpSpaces) };
  }

  const DECODE_OPTIONS = ['skipSpecialTokens', 'cleanUpSpaces', 'unknownTokens'];

  function decode(tokens: Iterable<number>, options: DecodeOptions = {}): string {
    const { push, start } = decodeWith(options, 'decode', DECODE_OPTIONS);
    const assembler = start();
    let out = '';
    for (const id of tokens) out += push(assembler, id);
    return out + assembler.end();
  }

  function stream(options: StreamOptions = {}): StreamDecoder {
    const { push, start } = decodeWith(options, 'stream', [...DECODE_OPTIONS, 'after']);
    let assembler = start();
    for (const id of options.after ?? []) push(assembler, id);
    return {
      push: (id) => push(assembler, id),
      flush: () => {
        const rest = assembler.end();
        assembler = start();
        return rest;
      },
    };
  }

  return {
    vocabularySize,
    specialTokens: special.tokens,
    specialIds,
    stopTokens: special.stop,
    // Files write 1e30 where there is no limit.
    ...(maxLength !== undefined && maxLength < 1e15 ? { modelMaxLength: maxLength } : {}),
    specialTokenTexts: special.names,
    chatTemplates: parseChatTemplates(config),
    encode,
    decode,
    idOf: (token) => ids.get(token),
    tokenOf: (id) => texts.get(id),
    stream,
  };
}
