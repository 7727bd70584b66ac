import { llamaBlock } from './blocks/llama.js';
import { olmo2Block } from './blocks/olmo2.js';
import { embeddingAtFirst, ouroBlock } from './blocks/ouro.js';
import { headDim, type RecurrentConfig } from './config.js';
import { finalNorm, type RecurrentParts, unchanged } from './model.js';

type Shape = readonly number[];

/**
 * A family of models that the four functions cover: what is in a block, how it is computed, and what its checkpoints call it. The
 * parameter tree has the names of the public checkpoint of Huginn in all of them. A variant of your own is one of these objects.
 */
export interface ModelFamily {
  readonly name: string;
  /** Where it differs from Huginn. */
  readonly parts: Partial<RecurrentParts>;
  readonly hasAdapter: boolean;
  readonly hasExitGate: boolean;
  /** Numbers that the configuration leaves open. */
  readonly defaults: Pick<RecurrentConfig, 'embeddingScale' | 'stateStd'>;
  /** Parameters of one block, by their names inside it. */
  blockShapes(config: RecurrentConfig): Readonly<Record<string, Shape>>;
  /**
   * Parameters of the parts that a family replaces, once a model: `{ 'gate.weight': [C, 2 C] }` is `transformer.own.gate.weight` in a
   * checkpoint, and `ownParams(model, 'gate').weight` in a part. None when absent.
   */
  ownShapes?(config: RecurrentConfig): Readonly<Record<string, Shape>>;
  /** The stored tensors that are a parameter, one behind the other along the first axis; `rows` of the first axis each, all when absent. */
  stored(parameter: string, config: RecurrentConfig): readonly { readonly name: string; readonly rows?: number }[];
  /** Stored tensors that are not loaded: copies, and tables that are computed here. */
  unused(config: RecurrentConfig): readonly string[];
}

function shapesOfBlock(config: RecurrentConfig, norms: readonly number[], extra: Record<string, Shape> = {}): Record<string, Shape> {
  const { width: C, heads: H, kvHeads: Hk, mlpWidth: I } = config;
  const D = headDim(config);
  return {
    'norm_1.weight': [C],
    'attn.Wqkv.weight': [(H + 2 * Hk) * D, C],
    ...extra,
    'attn.proj.weight': [C, C],
    'norm_2.weight': [C],
    ...(norms.includes(3) ? { 'norm_3.weight': [C] } : {}),
    'mlp.fc.weight': [2 * I, C],
    'mlp.proj.weight': [C, I],
    ...(norms.includes(4) ? { 'norm_4.weight': [C] } : {}),
  };
}

const asNamed = (name: string) => [{ name }];
// The upload carries the tied head a second time, and a table that is computed here.
const unused = (config: RecurrentConfig): readonly string[] => ['freqs_cis', ...(config.tiedHead ? ['lm_head.weight'] : [])];

/** Huginn (arXiv 2502.05171). */
export const sandwich: ModelFamily = {
  name: 'sandwich',
  parts: {},
  hasAdapter: true,
  hasExitGate: false,
  defaults: {},
  blockShapes: (config) =>
    shapesOfBlock(config, [1, 2, 3, 4], config.qkBias ? { 'attn.qk_bias': [2, 1, config.heads, headDim(config)] } : {}),
  stored: asNamed,
  unused,
};

// Retrofits (arXiv 2511.07384) take no norm between core and coda. Their state has the deviation of Huginn's, 2/(5 * 5280), at any width
// and without the embedding's scale.
const retrofit = {
  parts: { enterCoda: unchanged },
  hasAdapter: true,
  hasExitGate: false,
  defaults: { embeddingScale: 1, stateStd: Math.sqrt(2 / (5 * 5280)) },
  stored: asNamed,
  unused,
};

/** Retrofits of Llama and TinyLlama. */
export const llama: ModelFamily = {
  ...retrofit,
  name: 'llama',
  parts: { ...retrofit.parts, block: llamaBlock },
  blockShapes: (config) => shapesOfBlock(config, [1, 2]),
};

/** Retrofits of OLMo-2. */
export const olmo2: ModelFamily = {
  ...retrofit,
  name: 'olmo2',
  parts: { ...retrofit.parts, block: olmo2Block },
  blockShapes: (config) => {
    const D = headDim(config);
    return shapesOfBlock(config, [1, 2], { 'attn.q_norm.weight': [config.heads * D], 'attn.k_norm.weight': [config.kvHeads * D] });
  },
};

const ouroNames: Readonly<Record<string, string>> = {
  'transformer.wte.weight': 'model.embed_tokens.weight',
  'transformer.ln_f.weight': 'model.norm.weight',
  'transformer.exit_gate.weight': 'model.early_exit_gate.weight',
  'transformer.exit_gate.bias': 'model.early_exit_gate.bias',
  'norm_1.weight': 'input_layernorm.weight',
  'norm_2.weight': 'input_layernorm_2.weight',
  'norm_3.weight': 'post_attention_layernorm.weight',
  'norm_4.weight': 'post_attention_layernorm_2.weight',
  'attn.proj.weight': 'self_attn.o_proj.weight',
  'mlp.proj.weight': 'mlp.down_proj.weight',
};

function ouroStored(parameter: string, config: RecurrentConfig): readonly { readonly name: string; readonly rows?: number }[] {
  const layer = /^transformer\.core_block\.(\d+)\.(.+)$/.exec(parameter);
  if (layer === null) return [{ name: ouroNames[parameter] ?? parameter }];
  const [, n, own] = layer as unknown as [string, string, string];
  const at = (name: string) => `model.layers.${n}.${name}`;
  const D = headDim(config);
  if (own === 'attn.Wqkv.weight') {
    const rows = { q: config.heads * D, k: config.kvHeads * D, v: config.kvHeads * D };
    return Object.entries(rows).map(([letter, count]) => ({ name: at(`self_attn.${letter}_proj.weight`), rows: count }));
  }
  if (own === 'mlp.fc.weight') return ['gate', 'up'].map((half) => ({ name: at(`mlp.${half}_proj.weight`), rows: config.mlpWidth }));
  return [{ name: at(ouroNames[own]!) }];
}

/** Ouro (arXiv 2510.25741): no prelude and coda, the final norm inside the loop, an exit gate. */
export const ouro: ModelFamily = {
  name: 'ouro',
  parts: { inject: embeddingAtFirst, block: ouroBlock, endLoop: finalNorm, enterCoda: unchanged, enterHead: unchanged },
  hasAdapter: false,
  hasExitGate: true,
  defaults: { embeddingScale: 1, stateStd: 0 },
  blockShapes: (config) => shapesOfBlock(config, [1, 2, 3, 4]),
  stored: ouroStored,
  unused,
};

/**
 * Tells the family by the names of a checkpoint's tensors. The configuration cannot: retrofits carry the class names of Huginn.
 * Names that fit no family are taken for Huginn's, so that loading lists what is missing.
 */
export function familyOf(names: Iterable<string>): ModelFamily {
  const all = [...names];
  const has = (pattern: RegExp) => all.some((name) => pattern.test(name));
  if (has(/^model\.layers\.\d+\.input_layernorm_2\./)) return ouro;
  if (has(/^transformer\.\w+\.\d+\.attn\.q_norm\./)) return olmo2;
  if (has(/^transformer\.\w+\.\d+\.norm_2\./) && !has(/^transformer\.\w+\.\d+\.norm_[34]\./)) return llama;
  return sandwich;
}
