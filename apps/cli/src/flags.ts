import type { ArgsDef } from './args.js';

/** Flags that say which model runs, and where. */
export const modelArgs = {
  model: {
    type: 'string',
    valueHint: 'DIR',
    short: 'm',
    description: 'checkpoint folder, or the name of an embedded model (default: adder)',
  },
  weights: { type: 'string', valueHint: 'FILE', description: 'weight file or shard index in the folder (default: model.safetensors)' },
  'allow-unknown': {
    type: 'string',
    valueHint: 'NAMES',
    description: 'fields of config.json to let pass although they are unknown, with commas',
  },
  device: { type: 'string', valueHint: 'NAME', description: 'where to compute: cpu (default), webgpu, or auto, which measures both' },
} as const satisfies ArgsDef;

/** Flags that say how the initial state is made. */
export const stateArgs = {
  seed: { type: 'string', valueHint: 'N', description: 'keys the initial state and the sampling noise: same seed, same text (default: 0)' },
  'init-scale': { type: 'string', valueHint: 'X', description: 'multiplies the random initial state; 0 starts from zeros (default: 1)' },
} as const satisfies ArgsDef;

/** Flags that say how tokens are chosen. */
export const samplingArgs = {
  depth: { type: 'string', valueHint: 'R', short: 'd', description: "recurrences per token (default: the model's mean)" },
  'max-new-tokens': {
    type: 'string',
    valueHint: 'N',
    short: 'n',
    description: 'most tokens to generate (default: what the model says, else 256)',
  },
  temperature: { type: 'string', valueHint: 'X', description: '0 takes the most likely token (default), higher is more random' },
  'top-k': { type: 'string', valueHint: 'K', description: 'keep the K most likely tokens' },
  'top-p': { type: 'string', valueHint: 'P', description: 'keep the most likely tokens until they reach P, with the one that crosses it' },
  'min-p': { type: 'string', valueHint: 'P', description: "keep tokens of at least this share of the best token's probability" },
  'repetition-penalty': { type: 'string', valueHint: 'X', description: 'above 1, makes tokens of prompt and text less likely' },
  'presence-penalty': { type: 'string', valueHint: 'X', description: 'taken from the logits of tokens that the text has' },
  'frequency-penalty': { type: 'string', valueHint: 'X', description: 'the same, once for each time' },
  stop: { type: 'string', valueHint: 'TEXT', repeatable: true, description: 'end before this text; may be given several times' },
} as const satisfies ArgsDef;
