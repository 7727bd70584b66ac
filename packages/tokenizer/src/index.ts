export { cleanUpSpaces } from './cleanup';
export {
  ChatTemplateError,
  TokenizerError,
  TokenizerFormatError,
  TokenizerOptionError,
  UnencodableTextError,
  UnknownTokenError,
} from './errors';
export type { SpecialTokens } from './special-tokens';
export type { DecodeOptions, EncodeOptions, StreamDecoder, StreamOptions, Tokenizer, TokenizerFiles } from './tokenizer';
export { parseTokenizer } from './tokenizer';
export type { TrainOptions } from './train';
export { trainByteLevelBPE } from './train';
