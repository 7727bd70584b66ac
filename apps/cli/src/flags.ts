import type { ArgsDef } from './args.js';

/** Flags that say which model runs, and where. */
export const modelArgs = {
  model: {
    type: 'string',
    valueHint: 'DIR',
    short: 'm',
    description: 'checkpoint folder, embedded model (default: reckoner) or ORGANISATION/NAME on the hub (HF_TOKEN, HF_ENDPOINT)',
  },
  revision: { type: 'string', valueHint: 'NAME', description: 'with a model on the hub: branch, tag or commit (default: main)' },
  weights: { type: 'string', valueHint: 'FILE', description: 'weight file or shard index in the folder (default: model.safetensors)' },
  'allow-unknown': {
    type: 'string',
    valueHint: 'NAMES',
    description: 'fields of config.json to let pass although they are unknown, with commas',
  },
  dtype: {
    type: 'string',
    valueHint: 'NAME',
    description: 'what weight matrices are kept in: f32, f16, bf16, q8 or q4 (default: as stored where quantised, else f32)',
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

/** Flags that say how a token's recurrences run, of those that a batch can have. */
export const batchStrategyArgs = {
  exit: {
    type: 'string',
    valueHint: 'RULE[:X]',
    description:
      'each token ends by itself: latent-diff, cosine, acceleration, entropy-diff, kl, minp-kl, argmax-stability, q-exit (needs an exit gate)',
  },
  'min-recurrences': {
    type: 'string',
    valueHint: 'N',
    description: 'with --exit, the first recurrence after which the rule is asked (default: 1)',
  },
  'exit-every': { type: 'string', valueHint: 'N', description: 'with --exit, recurrences between two checks (default: 1)' },
  'kv-policy': {
    type: 'string',
    valueHint: 'NAME',
    description:
      'keys that are kept and read: full, latest, always-last, skip, last-only; behind it or alone compress-sN, compress-rN, compress-anchor',
  },
  'warm-start': {
    type: 'string',
    valueHint: 'KIND',
    description: 'start each token where the last one ended: norm-state or state',
  },
} as const satisfies ArgsDef;

/** The same, and those that work on one text alone. */
export const strategyArgs = {
  ...batchStrategyArgs,
  speculative: {
    type: 'string',
    valueHint: 'D,L[,X]',
    description: 'draft L tokens at depth D, verify in one pass: the same text; with X, approximate',
  },
  wavefront: {
    type: 'string',
    valueHint: 'R[,…]',
    description:
      'refine a window of tokens, R recurrences a round; then headway=, window=, freeze=, threshold=, ema=, noise=, rounds=, continuous',
  },
} as const satisfies ArgsDef;
