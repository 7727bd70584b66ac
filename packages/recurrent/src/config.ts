import { OptionError } from '@unroll/tensor';
import { ConfigError, Fields, mostContext, mostLayers, mostRecurrences, mostWidth } from './config-fields.js';
import { parseOuroConfig } from './config-ouro.js';
import { type RopeScaling, ropeScalingOf } from './rope-scaling.js';

export { ConfigError };

/** The numbers of a recurrent-depth model. Letters: C width, H heads, Hk key and value heads, I MLP width, V vocabulary. */
export interface RecurrentConfig {
  readonly vocabularySize: number;
  readonly contextLength: number;
  /** C */
  readonly width: number;
  /** H */
  readonly heads: number;
  /** Hk */
  readonly kvHeads: number;
  /** I */
  readonly mlpWidth: number;
  readonly preludeLayers: number;
  readonly coreLayers: number;
  readonly codaLayers: number;
  /** The depth used when none is asked for. */
  readonly meanRecurrence: number;
  /** Recurrences that carry gradient in training. */
  readonly meanBackpropDepth: number;
  readonly normEps: number;
  readonly ropeBase: number;
  readonly tiedHead: boolean;
  readonly qkBias: boolean;
  /** Factor of the embedding; sqrt(C) when absent. */
  readonly embeddingScale?: number;
  /** Deviation of the initial state before its cut at 3; sqrt(2/5) when absent, 0 for a start from zeros. */
  readonly stateStd?: number;
  /** Rotary frequencies changed for a longer context than they were trained at. */
  readonly ropeScaling?: RopeScaling;
}

/** D = C / H. */
export const headDim = (config: RecurrentConfig): number => config.width / config.heads;

// Values other than these change the computation, and no public checkpoint has them.
const implemented: Readonly<Record<string, readonly unknown[]>> = {
  architecture_class_name: ['RecurrentGPT'],
  block_class_name: ['SandwichBlock'],
  norm_class_name: ['RMSNorm_llama'],
  mlp_class_name: ['GatedMLP'],
  nonlin_name: ['SiLU'],
  injection_type: ['linear'],
  state_init: ['like-init'],
  init_strategy: ['takase'],
  init_orthogonal: [false],
  sampling_scheme: ['poisson-lognormal-filling'],
  test_time_noise: [0],
  test_time_noise_type: ['fixed'],
  bias: [false],
};

// About training, other programs or token ids: nothing here depends on them.
const carried = new Set([
  'name',
  'hf_config',
  'architectures',
  'auto_map',
  'model_type',
  'torch_dtype',
  'dtype',
  'transformers_version',
  'padding_multiple',
  'activation_checkpoint_impl',
  'effective_expected_depth',
  'max_position_embeddings',
  '_name_or_path',
  'use_cache',
  'bos_token_id',
  'eos_token_id',
  'pad_token_id',
]);

// What no model without recurrence has.
const layerFields = ['n_layers_in_prelude', 'n_layers_in_recurrent_block', 'n_layers_in_coda'] as const;

export interface ParseConfigOptions {
  /** Fields to let pass although they are unknown. */
  readonly allowUnknown?: readonly string[];
}

/**
 * Reads a `config.json` in the layout of the public checkpoint. Throws one ConfigError with every problem: missing fields, values that
 * are not implemented, fields that contradict each other, and fields that are unknown.
 */
export function parseRecurrentConfig(json: unknown, options: ParseConfigOptions = {}): RecurrentConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ConfigError(`config.json: must hold one JSON object; got ${Array.isArray(json) ? 'an array' : String(json)}`);
  }
  const fields = new Fields(json as Record<string, unknown>);
  const type = fields.json.model_type;
  if (type !== 'ouro' && layerFields.every((name) => fields.json[name] === undefined)) {
    throw new ConfigError(
      `config.json: no recurrent-depth model${type === undefined ? '' : `, but one of model_type ${JSON.stringify(type)}`}: it has none of ` +
        `${layerFields.map((name) => `"${name}"`).join(', ')}, which the layouts of Huginn (huginn_raven) and its retrofits have; ` +
        'the other layout that can be read has model_type "ouro"',
    );
  }
  const config = type === 'ouro' ? parseOuroConfig(fields) : parseHuginnConfig(fields);
  const allowed = new Set(options.allowUnknown ?? []);
  const unknown = fields.rest().filter((name) => !allowed.has(name));
  fields.check(
    unknown.length === 0,
    `unknown field ${unknown.map((name) => `"${name}"`).join(', ')}; let it pass by name with allowUnknown if it does not change the model`,
  );
  if (fields.problems.length > 0) throw new ConfigError(`config.json: ${fields.problems.join('; ')}`);
  return config;
}

/** The layout of the public checkpoint, which retrofits of other models share (arXiv 2511.07384). */
function parseHuginnConfig(fields: Fields): RecurrentConfig {
  const width = fields.count(['n_embd'], 1, mostWidth);
  const heads = fields.count(['n_heads', 'num_attention_heads'], 1, mostWidth);
  const kvHeads = fields.count(['num_key_value_heads'], 1, mostWidth, heads ?? Number.NaN);
  const D = fields.count(['head_dim'], 1, mostWidth, width / heads);
  const preludeLayers = fields.count(['n_layers_in_prelude'], 0, mostLayers);
  const coreLayers = fields.count(['n_layers_in_recurrent_block'], 1, mostLayers);
  const codaLayers = fields.count(['n_layers_in_coda'], 0, mostLayers);
  const layers = preludeLayers + coreLayers + codaLayers;
  // The retrofits keep the base of the model they started from beside the parent's, which is the one that counts.
  const theta = fields.json.rope_theta === undefined ? undefined : fields.positive('rope_theta');
  const base = fields.positive('rope_base', 50000);
  const config: RecurrentConfig = {
    vocabularySize: fields.count(['vocab_size', 'padded_vocab_size'], 1, mostWidth),
    contextLength: fields.count(['block_size'], 1, mostContext),
    width,
    heads,
    kvHeads,
    mlpWidth: fields.count(['intermediate_size'], 1, mostWidth),
    preludeLayers,
    coreLayers,
    codaLayers,
    meanRecurrence: fields.count(['mean_recurrence'], 1, mostRecurrences),
    meanBackpropDepth: fields.count(['mean_backprop_depth'], 1, mostRecurrences, 8),
    normEps: fields.positive('norm_eps'),
    ropeBase: theta ?? base,
    tiedHead: fields.flag(['tie_embeddings', 'tie_word_embeddings']),
    qkBias: fields.flag(['qk_bias']),
    ...initValues(fields, width),
    ...ropeScalingOf(fields),
  };
  fields.checkHeads('n_embd', width, heads, kvHeads, D);
  fields.check(
    !config.qkBias || !Number.isFinite(heads / kvHeads) || heads === kvHeads,
    `"qk_bias" needs as many key heads as query heads; got ${kvHeads} and ${heads}`,
  );
  const total = fields.count(['n_layers'], 1, 3 * mostLayers, layers);
  fields.check(Number.isNaN(layers) || total === layers, `"n_layers" must be the sum of prelude, core and coda, ${layers}; got ${total}`);

  for (const [name, values] of Object.entries(implemented)) fields.oneOf(name, values);
  fields.pass(carried);
  return config;
}

/** Scales that differ from what the width gives: retrofits leave the embedding as it is and keep the deviation of Huginn's state. */
function initValues(fields: Fields, width: number): Pick<RecurrentConfig, 'embeddingScale' | 'stateStd'> {
  const values = fields.nested('init_values');
  if (values === undefined) return {};
  const scale = values.amount('embed_scale', Math.sqrt(width));
  const std = values.amount('std', Math.sqrt(2 / (5 * width)));
  fields.problems.push(...values.problems.map((problem) => `"init_values": ${problem}`));
  // The file's numbers are rounded; those that the width gives are left to the width.
  const differs = (value: number, usual: number) => Math.abs(value - usual) > 1e-6 * usual;
  return {
    ...(differs(scale, Math.sqrt(width)) ? { embeddingScale: scale } : {}),
    ...(differs(std * scale, Math.sqrt(2 / 5)) ? { stateStd: std * scale } : {}),
  };
}

/** Throws OptionError unless the depth is a whole number from 1 to 65536. */
export function checkRecurrences(who: string, recurrences: number): void {
  if (!Number.isInteger(recurrences) || recurrences < 1 || recurrences > mostRecurrences) {
    throw new OptionError(`${who}: recurrences (depth) must be a whole number from 1 to ${mostRecurrences}; got ${recurrences}`);
  }
}
