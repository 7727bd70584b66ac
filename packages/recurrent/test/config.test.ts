import { describe, expect, it } from 'vitest';
import { parseRecurrentConfig } from '../src/index.js';
import { configJson, tinyConfig } from './helpers.js';

const base = configJson(tinyConfig);
const parse = (change: Record<string, unknown>, options = {}) => parseRecurrentConfig({ ...base, ...change }, options);
const without = (...names: string[]) => Object.fromEntries(Object.entries(base).filter(([name]) => !names.includes(name)));

describe('config.json', () => {
  it('gives the numbers of the model', () => {
    expect(parse({})).toEqual(tinyConfig);
  });

  it('reads the upload as well as the repository: n_heads, padded_vocab_size, tie_word_embeddings', () => {
    const upload = {
      ...without('num_attention_heads', 'num_key_value_heads', 'tie_embeddings', 'rope_base'),
      n_heads: 3,
      padded_vocab_size: 23,
      tie_word_embeddings: true,
    };
    expect(parseRecurrentConfig(upload)).toEqual(tinyConfig);
  });

  it('accepts every field of the public list', () => {
    const listed = {
      name: 'x',
      hf_config: {},
      architectures: ['RavenForCausalLM'],
      auto_map: {},
      model_type: 'huginn_raven',
      torch_dtype: 'float32',
      dtype: 'float32',
      transformers_version: '4',
      padding_multiple: 32,
      activation_checkpoint_impl: 'per-iteration',
      effective_expected_depth: 132,
      init_values: {},
      _name_or_path: 'x',
      use_cache: true,
      bos_token_id: 1,
      eos_token_id: 2,
      pad_token_id: 3,
      architecture_class_name: 'RecurrentGPT',
      block_class_name: 'SandwichBlock',
      norm_class_name: 'RMSNorm_llama',
      mlp_class_name: 'GatedMLP',
      nonlin_name: 'SiLU',
      injection_type: 'linear',
      state_init: 'like-init',
      init_strategy: 'takase',
      init_orthogonal: false,
      sampling_scheme: 'poisson-lognormal-filling',
      test_time_noise: 0,
      test_time_noise_type: 'fixed',
      bias: false,
      head_dim: 8,
      n_layers: 4,
    };
    expect(parse(listed)).toEqual(tinyConfig);
  });

  it.each([
    [{ n_embed: 5 }, /unknown field "n_embed"/],
    [{ injection_type: 'add' }, /"injection_type" "add" is not implemented; only "linear" is/],
    [{ bias: true }, /"bias" true is not implemented/],
    [{ test_time_noise: 0.1 }, /"test_time_noise" 0.1 is not implemented/],
    [{ n_heads: 4 }, /"n_heads" is 4 and "num_attention_heads" is 3; they must be equal/],
    [{ tie_word_embeddings: false }, /"tie_embeddings" is true and "tie_word_embeddings" is false/],
    [{ n_layers: 9 }, /"n_layers" must be the sum of prelude, core and coda, 4; got 9/],
    [{ head_dim: 6 }, /"head_dim" must be n_embd \/ heads = 8; got 6/],
    [{ n_embd: 25 }, /"n_embd" 25 must be a multiple of the 3 heads/],
    [{ n_embd: 27 }, /head size 9 must be even/],
    [{ n_embd: -24 }, /"n_embd" must be a whole number from 1 to 16777216; got -24/],
    [{ vocab_size: '23' }, /"vocab_size" must be a whole number from 1 to 16777216; got "23"/],
    [{ n_layers_in_recurrent_block: 0 }, /must be a whole number from 1 to 4096; got 0/],
    [{ n_layers_in_prelude: 2147483648 }, /"n_layers_in_prelude" must be a whole number from 0 to 4096; got 2147483648/],
    [{ block_size: 100000000 }, /"block_size" must be a whole number from 1 to 262144; got 100000000/],
    [{ mean_recurrence: 100000 }, /"mean_recurrence" must be a whole number from 1 to 65536; got 100000/],
    [{ norm_eps: 0 }, /"norm_eps" must be a number above 0; got 0/],
    [{ num_key_value_heads: 2 }, /3 heads must be a multiple of "num_key_value_heads" 2/],
    [{ num_key_value_heads: 1 }, /"qk_bias" needs as many key heads/],
  ])('refuses %j', (change, message) => {
    expect(() => parse(change)).toThrow(message);
  });

  it('lists every problem at once, missing fields included', () => {
    expect(() => parseRecurrentConfig({ ...without('n_embd'), nonlin_name: 'ReLU', depth: 2 })).toThrow(
      /"n_embd" is missing.*"nonlin_name".*unknown field "depth"/s,
    );
  });

  it('reports a missing field once, and nothing that follows from it', () => {
    const problemsWithout = (...names: string[]) => {
      try {
        parseRecurrentConfig(without(...names));
      } catch (error) {
        return (error as Error).message
          .replace('config.json: ', '')
          .split('; ')
          .filter((part) => !part.startsWith('it must be'));
      }
      return [];
    };
    expect(problemsWithout('n_embd')).toEqual(['"n_embd" is missing']);
    expect(problemsWithout('num_attention_heads', 'num_key_value_heads')).toEqual(['"n_heads" or "num_attention_heads" is missing']);
    expect(problemsWithout('num_attention_heads')).toEqual(['"n_heads" or "num_attention_heads" is missing']);
    expect(problemsWithout('n_layers_in_coda')).toEqual(['"n_layers_in_coda" is missing']);
  });

  it('says of a model without recurrence that it is none', () => {
    const llama = { model_type: 'llama', hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, vocab_size: 100 };
    expect(() => parseRecurrentConfig(llama)).toThrow(
      /no recurrent-depth model, but one of model_type "llama": it has none of .*huginn_raven.*ouro/,
    );
    expect(() => parseRecurrentConfig({})).toThrow(/no recurrent-depth model: it has none of "n_layers_in_prelude"/);
  });

  it('lets a field pass by name', () => {
    expect(parse({ note: 1 }, { allowUnknown: ['note'] })).toEqual(tinyConfig);
  });

  it.each([null, 3, [], 'x'])('refuses %j in place of an object', (json) => {
    expect(() => parseRecurrentConfig(json)).toThrow(/one JSON object/);
  });
});
