export { type Finish, type GeneratedToken, generate } from './generate.js';
export type { InitialStateSource, LanguageModel, ModelCache, ModelPass, TextCodec } from './language-model.js';
export type { GenerateOptions, WarmStart } from './options.js';
