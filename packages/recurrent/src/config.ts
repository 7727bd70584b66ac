import { OptionError, UnrollError } from '@unroll/tensor';

/** A field of a model's configuration that is missing, unknown, or has a value that this package does not implement. */
export class ConfigError extends UnrollError {}

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
  'init_values',
  '_name_or_path',
  'use_cache',
  'bos_token_id',
  'eos_token_id',
  'pad_token_id',
]);

// The file may come from anyone: without limits a few digits in it cost gigabytes or minutes before the first tensor is looked at.
// All are far beyond known models (8 layers, 4096 positions, width 5280, vocabulary 65536); a context costs a row of the rotary table for each position.
const mostLayers = 4096;
const mostContext = 262144;
const mostWidth = 2 ** 24;
const mostRecurrences = 65536;

/** Reads fields of one JSON object, gathering every problem before any is thrown. */
class Fields {
  readonly problems: string[] = [];
  readonly #seen = new Set<string>();

  constructor(readonly json: Readonly<Record<string, unknown>>) {}

  /** The value that all given names agree on. */
  take(names: readonly string[], what: string, valid: (value: unknown) => boolean, fallback?: unknown): unknown {
    for (const name of names) this.#seen.add(name);
    const present = names.filter((name) => this.json[name] !== undefined);
    if (present.length === 0) {
      if (fallback === undefined) this.problems.push(`${names.map((name) => `"${name}"`).join(' or ')} is missing; it must be ${what}`);
      return fallback;
    }
    const value = this.json[present[0]!];
    const other = present.find((name) => this.json[name] !== value);
    if (other !== undefined) {
      this.problems.push(
        `"${present[0]}" is ${JSON.stringify(value)} and "${other}" is ${JSON.stringify(this.json[other])}; they must be equal`,
      );
    }
    if (!valid(value)) this.problems.push(`"${present[0]}" must be ${what}; got ${JSON.stringify(value)}`);
    return value;
  }

  count(names: readonly string[], least: number, most: number, fallback?: number): number {
    const valid = (value: unknown) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most;
    return this.take(names, `a whole number from ${least} to ${most}`, valid, fallback) as number;
  }

  positive(name: string, fallback?: number): number {
    return this.take(
      [name],
      'a number above 0',
      (value) => typeof value === 'number' && Number.isFinite(value) && value > 0,
      fallback,
    ) as number;
  }

  flag(names: readonly string[], fallback?: boolean): boolean {
    return this.take(names, 'true or false', (value) => typeof value === 'boolean', fallback) as boolean;
  }

  check(condition: boolean, problem: string): void {
    if (!condition) this.problems.push(problem);
  }

  rest(): string[] {
    return Object.keys(this.json).filter((name) => !this.#seen.has(name));
  }
}

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
  const width = fields.count(['n_embd'], 1, mostWidth);
  const heads = fields.count(['n_heads', 'num_attention_heads'], 1, mostWidth);
  const kvHeads = fields.count(['num_key_value_heads'], 1, mostWidth, heads);
  const D = fields.count(['head_dim'], 1, mostWidth, width / heads);
  const preludeLayers = fields.count(['n_layers_in_prelude'], 0, mostLayers);
  const coreLayers = fields.count(['n_layers_in_recurrent_block'], 1, mostLayers);
  const codaLayers = fields.count(['n_layers_in_coda'], 0, mostLayers);
  const layers = preludeLayers + coreLayers + codaLayers;
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
    ropeBase: fields.positive('rope_base', 50000),
    tiedHead: fields.flag(['tie_embeddings', 'tie_word_embeddings']),
    qkBias: fields.flag(['qk_bias']),
  };
  fields.check(width % heads === 0, `"n_embd" ${width} must be a multiple of the ${heads} heads`);
  fields.check(D === width / heads, `"head_dim" must be n_embd / heads = ${width / heads}; got ${D}`);
  fields.check((width / heads) % 2 === 0, `rotary positions turn pairs: the head size ${width / heads} must be even`);
  fields.check(heads % kvHeads === 0, `${heads} heads must be a multiple of "num_key_value_heads" ${kvHeads}`);
  fields.check(!config.qkBias || heads === kvHeads, `"qk_bias" needs as many key heads as query heads; got ${kvHeads} and ${heads}`);
  const total = fields.count(['n_layers'], 1, 3 * mostLayers, layers);
  fields.check(total === layers, `"n_layers" must be the sum of prelude, core and coda, ${layers}; got ${total}`);

  const allowed = new Set(options.allowUnknown ?? []);
  const unknown: string[] = [];
  for (const name of fields.rest()) {
    const values = implemented[name];
    const value = fields.json[name];
    if (values !== undefined) {
      fields.check(
        values.includes(value),
        `"${name}" ${JSON.stringify(value)} is not implemented; only ${values.map((v) => JSON.stringify(v)).join(', ')} is`,
      );
    } else if (!carried.has(name) && !allowed.has(name)) unknown.push(`"${name}"`);
  }
  fields.check(
    unknown.length === 0,
    `unknown field ${unknown.join(', ')}; let it pass by name with allowUnknown if it does not change the model`,
  );
  if (fields.problems.length > 0) throw new ConfigError(`config.json: ${fields.problems.join('; ')}`);
  return config;
}

/** Throws OptionError unless the depth is a whole number from 1 to 65536. */
export function checkRecurrences(who: string, recurrences: number): void {
  if (!Number.isInteger(recurrences) || recurrences < 1 || recurrences > mostRecurrences) {
    throw new OptionError(`${who}: recurrences (depth) must be a whole number from 1 to ${mostRecurrences}; got ${recurrences}`);
  }
}
