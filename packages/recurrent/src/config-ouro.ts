import type { RecurrentConfig } from './config.js';
import { type Fields, mostContext, mostLayers, mostRecurrences, mostWidth } from './config-fields.js';
import { ropeScalingOf } from './rope-scaling.js';

// Values other than these change the computation, and no public checkpoint has them.
const implemented: Readonly<Record<string, readonly unknown[]>> = {
  hidden_act: ['silu'],
  attention_bias: [false],
  mlp_bias: [false],
  attention_dropout: [0],
  use_sliding_window: [false],
  sliding_window: [null],
};

// About training, other programs, token ids, or how long to think by default, which is the caller's choice here.
const carried = [
  'architectures',
  'auto_map',
  'model_type',
  'torch_dtype',
  'dtype',
  'transformers_version',
  '_name_or_path',
  'use_cache',
  'bos_token_id',
  'eos_token_id',
  'pad_token_id',
  'initializer_range',
  'max_window_layers',
  'chunk_size',
  'early_exit_threshold',
  'early_exit_step',
  'use_weighted_exit',
];

/** `config.json` of Ouro (arXiv 2510.25741): the whole stack is the core, the state starts as the embedding. */
export function parseOuroConfig(fields: Fields): RecurrentConfig {
  const width = fields.count(['hidden_size'], 1, mostWidth);
  const heads = fields.count(['num_attention_heads'], 1, mostWidth);
  const kvHeads = fields.count(['num_key_value_heads'], 1, mostWidth, heads ?? Number.NaN);
  const D = fields.count(['head_dim'], 1, mostWidth, width / heads);
  const steps = fields.count(['total_ut_steps'], 1, mostRecurrences, 4);
  const config: RecurrentConfig = {
    vocabularySize: fields.count(['vocab_size'], 1, mostWidth),
    contextLength: fields.count(['max_position_embeddings'], 1, mostContext),
    width,
    heads,
    kvHeads,
    mlpWidth: fields.count(['intermediate_size'], 1, mostWidth),
    preludeLayers: 0,
    coreLayers: fields.count(['num_hidden_layers'], 1, mostLayers),
    codaLayers: 0,
    meanRecurrence: steps,
    meanBackpropDepth: steps,
    normEps: fields.positive('rms_norm_eps'),
    ropeBase: fields.positive('rope_theta'),
    tiedHead: fields.flag(['tie_word_embeddings'], false),
    qkBias: false,
    embeddingScale: 1,
    stateStd: 0,
    ...ropeScalingOf(fields),
  };
  fields.checkHeads('hidden_size', width, heads, kvHeads, D);
  const types = fields.take(['layer_types'], 'a list of "full_attention"', (value) => isFull(value), []);
  fields.check(
    !Array.isArray(types) || types.length === 0 || types.length === config.coreLayers,
    `"layer_types" must have one entry for each of the ${config.coreLayers} layers`,
  );
  for (const [name, values] of Object.entries(implemented)) fields.oneOf(name, values);
  fields.pass(carried);
  return config;
}

const isFull = (value: unknown): boolean => Array.isArray(value) && value.every((type) => type === 'full_attention');
