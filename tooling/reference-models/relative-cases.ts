import type { PlainRelative } from './plain-relatives.js';

// The configurations as the public checkpoints have them, with small numbers. That of a retrofit is Huginn's, changed in places.
export const retrofitJson = {
  architecture_class_name: 'RecurrentGPT',
  block_class_name: 'SandwichBlock',
  model_type: 'huginn_raven',
  n_embd: 24,
  n_heads: 6,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  head_dim: 4,
  intermediate_size: 20,
  vocab_size: 23,
  padded_vocab_size: 23,
  block_size: 64,
  max_position_embeddings: 131072,
  n_layers: 6,
  n_layers_in_prelude: 2,
  n_layers_in_recurrent_block: 3,
  n_layers_in_coda: 1,
  mean_recurrence: 3,
  mean_backprop_depth: 8,
  norm_eps: 1e-5,
  rope_base: 500000,
  tie_embeddings: false,
  qk_bias: false,
  init_values: { std: 0.008703882797784892, out_proj: 0.0005, embedding: 0.0087, embed_scale: 1.0 },
};
export const ouroJson = {
  model_type: 'ouro',
  hidden_size: 24,
  num_attention_heads: 3,
  num_key_value_heads: 3,
  head_dim: 8,
  intermediate_size: 20,
  vocab_size: 23,
  num_hidden_layers: 3,
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  rope_scaling: null,
  hidden_act: 'silu',
  tie_word_embeddings: false,
  total_ut_steps: 4,
  early_exit_threshold: 1.0,
  layer_types: ['full_attention', 'full_attention', 'full_attention'],
};
export const llama3 = { rope_type: 'llama3', factor: 32, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32 };

export const sizes = { C: 24, I: 20, V: 23, layers: { prelude: 2, core_block: 3, coda: 1 } };
export const cases: [string, PlainRelative, Record<string, unknown>][] = [
  ['a retrofit of TinyLlama', { kind: 'llama', ...sizes, H: 6, Hk: 2, eps: 1e-5, ropeBase: 10000 }, { ...retrofitJson, rope_theta: 10000 }],
  [
    'a retrofit of Llama 3.2',
    { kind: 'llama', ...sizes, H: 6, Hk: 2, eps: 1e-5, ropeBase: 10, scaling: { factor: 32, low: 1, high: 4, original: 32 } },
    { ...retrofitJson, rope_theta: 10, rope_scaling: llama3 },
  ],
  [
    'a retrofit of OLMo-2',
    { kind: 'olmo2', ...sizes, H: 6, Hk: 6, eps: 1e-6, ropeBase: 500000 },
    { ...retrofitJson, num_key_value_heads: 6, norm_eps: 1e-6 },
  ],
  ['Ouro', { kind: 'ouro', ...sizes, H: 3, Hk: 3, eps: 1e-6, ropeBase: 1000000 }, ouroJson],
];

/** Uniform values in [0, 1), the same each time: a 32-bit Weyl sequence with the finaliser of murmur3. */
function uniform(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let x = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32;
  };
}

/** Random weights by the names of the checkpoint, norms and the gate random too, so that a forgotten one shows. */
export function randomWeights(c: PlainRelative): Map<string, { shape: number[]; data: Float32Array }> {
  const next = uniform(3);
  const values = (size: number, low: number, high: number) => Float32Array.from({ length: size }, () => low + (high - low) * next());
  const weights = new Map<string, { shape: number[]; data: Float32Array }>();
  const matrix = (name: string, rows: number, cols: number) =>
    weights.set(`${name}.weight`, {
      shape: [rows, cols],
      data: values(rows * cols, -Math.sqrt(3 / cols), Math.sqrt(3 / cols)),
    });
  const vector = (name: string, size: number, key = 'weight') =>
    weights.set(`${name}.${key}`, { shape: [size], data: values(size, 0.5, 1.5) });
  const { C, I, V, H, Hk } = c;
  const D = C / H;
  if (c.kind === 'ouro') {
    matrix('model.embed_tokens', V, C);
    for (let n = 0; n < c.layers.core_block; n++) {
      const at = `model.layers.${n}`;
      for (const [letter, rows] of [
        ['q', H * D],
        ['k', Hk * D],
        ['v', Hk * D],
      ] as const)
        matrix(`${at}.self_attn.${letter}_proj`, rows, C);
      matrix(`${at}.self_attn.o_proj`, C, C);
      matrix(`${at}.mlp.gate_proj`, I, C);
      matrix(`${at}.mlp.up_proj`, I, C);
      matrix(`${at}.mlp.down_proj`, C, I);
      for (const name of ['input_layernorm', 'input_layernorm_2', 'post_attention_layernorm', 'post_attention_layernorm_2'])
        vector(`${at}.${name}`, C);
    }
    vector('model.norm', C);
    matrix('model.early_exit_gate', 1, C);
    vector('model.early_exit_gate', 1, 'bias');
  } else {
    matrix('transformer.wte', V, C);
    for (const [part, count] of Object.entries(c.layers)) {
      for (let n = 0; n < count; n++) {
        const at = `transformer.${part}.${n}`;
        for (const name of ['norm_1', 'norm_2']) vector(`${at}.${name}`, C);
        matrix(`${at}.attn.Wqkv`, (H + 2 * Hk) * D, C);
        matrix(`${at}.attn.proj`, C, C);
        if (c.kind === 'olmo2') {
          vector(`${at}.attn.q_norm`, H * D);
          vector(`${at}.attn.k_norm`, Hk * D);
        }
        matrix(`${at}.mlp.fc`, 2 * I, C);
        matrix(`${at}.mlp.proj`, C, I);
      }
    }
    matrix('transformer.adapter', C, 2 * C);
    vector('transformer.ln_f', C);
  }
  matrix('lm_head', V, C);
  return weights;
}
