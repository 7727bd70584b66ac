// A Llama-like decoder as a GGUF file.
import { ggufPieces } from '../formats/gguf.mjs';
import { CONTEXT, decoders, EPS, ROPE_BASE } from './shapes.mjs';
import { blockWeights, cached, neighbouringPairs, openWeights, writePieces } from './weights.mjs';

/** Kinds of weights and the tensor types that llama.cpp calls them by. */
export const ggufTypes = { f32: 'f32', q8: 'q8_0', q4: 'q4_0' };

const turned = ([data], rows, D) => neighbouringPairs(data, rows, D);

function vocabulary(V) {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  const tokens = ['<unk>', '<s>', '</s>', ...bytes].slice(0, V);
  const types = tokens.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : 6));
  while (tokens.length < V) {
    types.push(1);
    tokens.push(`t${tokens.length}`);
  }
  return {
    'tokenizer.ggml.model': { string: 'llama' },
    'tokenizer.ggml.tokens': { strings: tokens },
    'tokenizer.ggml.scores': { float32s: tokens.map((_, i) => -i) },
    'tokenizer.ggml.token_type': { int32s: types },
    'tokenizer.ggml.bos_token_id': { uint32: 1 },
    'tokenizer.ggml.eos_token_id': { uint32: 2 },
    'tokenizer.ggml.add_bos_token': { bool: false },
  };
}

export const ggufFile = (model, kind) =>
  cached(`decoder-${model}-${kind}.gguf`, async (path) => {
    const shape = decoders[model];
    const { C, L, H, Hk, D, I, V, tied } = shape;
    const type = ggufTypes[kind];
    const read = await openWeights(model);
    const keys = {
      'general.architecture': { string: 'llama' },
      'general.name': { string: `decoder ${model}` },
      'llama.context_length': { uint32: CONTEXT },
      'llama.embedding_length': { uint32: C },
      'llama.block_count': { uint32: L },
      'llama.feed_forward_length': { uint32: I },
      'llama.attention.head_count': { uint32: H },
      'llama.attention.head_count_kv': { uint32: Hk },
      'llama.rope.dimension_count': { uint32: D },
      'llama.rope.freq_base': { float32: ROPE_BASE },
      'llama.attention.layer_norm_rms_epsilon': { float32: EPS },
      'llama.vocab_size': { uint32: V },
      ...vocabulary(V),
    };
    const matrix = (name, dims, values) => ({ name: `${name}.weight`, shape: dims, type, values });
    const vector = (name, values) => ({ name: `${name}.weight`, shape: [C], type: 'f32', values });
    const tensors = [matrix('token_embd', [V, C], () => read('transformer.wte.weight'))];
    for (let n = 0; n < L; n++) {
      const w = () => blockWeights(read, shape, n);
      const plain = (name) => () => w()[name][0];
      tensors.push(
        vector(`blk.${n}.attn_norm`, () => w().norm1),
        matrix(`blk.${n}.attn_q`, [H * D, C], () => turned(w().q, H * D, D)),
        matrix(`blk.${n}.attn_k`, [Hk * D, C], () => turned(w().k, Hk * D, D)),
        matrix(`blk.${n}.attn_v`, [Hk * D, C], plain('v')),
        matrix(`blk.${n}.attn_output`, [C, H * D], plain('o')),
        vector(`blk.${n}.ffn_norm`, () => w().norm2),
        matrix(`blk.${n}.ffn_gate`, [I, C], plain('gate')),
        matrix(`blk.${n}.ffn_up`, [I, C], plain('up')),
        matrix(`blk.${n}.ffn_down`, [C, I], plain('down')),
      );
    }
    tensors.push(vector('output_norm', () => read('transformer.ln_f.weight')));
    if (!tied) tensors.push(matrix('output', [V, C], () => read('lm_head.weight')));
    await writePieces(path, ggufPieces(keys, tensors));
  });
