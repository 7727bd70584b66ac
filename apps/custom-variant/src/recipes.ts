import type { ModelFamily } from '@unroll/recurrent';
import { OptionError } from '@unroll/tensor';
import { crossEntropyObjective, type Objective, type TrainingConfig, vocabularySize } from '@unroll/train';
import { elbo } from './elbo.js';
import { preNorm } from './pre-norm.js';
import { wholeStack } from './whole-stack.js';

/** What a variant is trained by, beside its config. */
export interface Variant {
  readonly about: string;
  readonly family: ModelFamily;
  readonly objective: Objective;
  /** Depths that a trained model is measured at. */
  readonly depths: readonly number[];
}

// #region variants
export const variants = {
  add: {
    about: 'pre-norm blocks, add injection, no prelude',
    family: preNorm('add'),
    objective: crossEntropyObjective,
    depths: [1, 2, 3, 4, 6, 8, 16],
  },
  gated: {
    about: 'pre-norm blocks, gated injection, no prelude',
    family: preNorm('gated'),
    objective: crossEntropyObjective,
    depths: [1, 2, 3, 4, 6, 8, 16],
  },
  ouro: {
    about: 'all layers in the loop, an exit gate trained with the ELBO',
    family: wholeStack,
    objective: elbo(0.1),
    depths: [1, 2, 3, 4, 6, 8],
  },
} as const satisfies Readonly<Record<string, Variant>>;
// #endregion variants

export type VariantName = keyof typeof variants;
export const variantNames = Object.keys(variants) as VariantName[];

/** Throws OptionError for a name that no variant has. */
export function parseVariantName(name: unknown): VariantName {
  const known = variantNames.find((one) => one === name);
  if (known === undefined) throw new OptionError(`there is no variant "${String(name)}"; there are ${variantNames.join(', ')}`);
  return known;
}

/** Most bits of a problem that is trained on. */
export const mostBits = 16;

// #region recipe
const sizes = {
  n_embd: 64,
  num_attention_heads: 4,
  intermediate_size: 128,
  vocab_size: vocabularySize,
  block_size: 64,
  rope_base: 2000,
  norm_eps: 1e-6,
  tie_embeddings: true,
  qk_bias: false,
  n_layers_in_prelude: 0,
  n_layers_in_recurrent_block: 1,
};
const looped = { ...sizes, n_layers_in_coda: 1, mean_recurrence: 6, mean_backprop_depth: 4 };
const stacked = { ...sizes, n_layers_in_coda: 0, mean_recurrence: 8, mean_backprop_depth: 8 };

/** Prefix parity of up to 16 bits, the easy problems first. `config.model` is what a checkpoint has as `config.json`. */
export function recipeOf(name: VariantName, { steps, seed }: { readonly steps: number; readonly seed: number }): TrainingConfig {
  const own =
    name === 'ouro'
      ? // Every loop is read out, so every loop has its gradient.
        { model: stacked, depth: { kind: 'fixed', mean: 8, gradient: 8 } as const }
      : { model: looped, depth: { kind: 'lognormal-poisson', mean: 6, gradient: 4, limit: 16 } as const, stateScale: 0.5 };
  return {
    ...own,
    seed,
    steps,
    tasks: [{ task: 'parity', weight: 1, levels: [1, mostBits] }],
    curriculum: { solved: 0.4, focus: 0.4 },
    microBatch: 24,
    schedule: {
      kind: 'warmup-stable-decay',
      peak: 0.01,
      warmup: Math.min(50, Math.floor(steps / 4)),
      total: steps,
      decay: Math.max(1, Math.floor(steps / 4)),
      floor: 0.03,
    },
    optimizer: { name: 'muon', weightDecay: 0.01, otherRate: 0.2 },
  };
}
// #endregion recipe
