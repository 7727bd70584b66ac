// Llama-like decoders: pre-norm blocks, grouped queries, rotary positions on half-split pairs, SwiGLU. Random weights by seed: speed does
// not depend on their values, and equal weights let peers be checked against each other token by token.

/** C width, L layers, H heads of queries, Hk of keys, D head size, I MLP width, V vocabulary. */
export const decoders = {
  tiny: { C: 128, L: 2, H: 4, Hk: 2, D: 32, I: 352, V: 512, tied: false },
  '25m': { C: 512, L: 6, H: 8, Hk: 4, D: 64, I: 1408, V: 8192, tied: false },
  '110m': { C: 768, L: 12, H: 12, Hk: 12, D: 64, I: 2048, V: 32000, tied: true },
};

export const CONTEXT = 256;
export const ROPE_BASE = 10000;
export const EPS = 1e-5;
export const PROMPT = 128;

/** The prompt that every peer gets. */
export const promptFor = ({ V }) => Array.from({ length: PROMPT }, (_, i) => (i * 7919 + 11) % V);

/** Names and shapes as a checkpoint of a retrofitted Llama has them, without adapter. */
export function parameters({ C, L, H, Hk, D, I, V, tied }) {
  const list = [['transformer.wte.weight', [V, C]]];
  for (let n = 0; n < L; n++) {
    const block = `transformer.core_block.${n}`;
    list.push(
      [`${block}.norm_1.weight`, [C]],
      [`${block}.attn.Wqkv.weight`, [(H + 2 * Hk) * D, C]],
      [`${block}.attn.proj.weight`, [C, H * D]],
      [`${block}.norm_2.weight`, [C]],
      [`${block}.mlp.fc.weight`, [2 * I, C]],
      [`${block}.mlp.proj.weight`, [C, I]],
    );
  }
  list.push(['transformer.ln_f.weight', [C]]);
  if (!tied) list.push(['lm_head.weight', [V, C]]);
  return list;
}

const sizeOf = (shape) => shape.reduce((a, b) => a * b, 1);

export const parameterCount = (shape) => parameters(shape).reduce((sum, [, dims]) => sum + sizeOf(dims), 0);

/** Weights read for a token: all, but for the rows of an untied embedding. */
export const weightsPerToken = (shape) => parameterCount(shape) - (shape.tied ? 0 : shape.V * shape.C);

/** cos and sin (CONTEXT, D / 2) each. */
export function ropeTables(D) {
  const half = D / 2;
  const cos = new Float32Array(CONTEXT * half);
  const sin = new Float32Array(CONTEXT * half);
  for (let p = 0; p < CONTEXT; p++) {
    for (let i = 0; i < half; i++) {
      const angle = p * ROPE_BASE ** (-i / half);
      cos[p * half + i] = Math.cos(angle);
      sin[p * half + i] = Math.sin(angle);
    }
  }
  return { cos, sin };
}

/** The position of the largest logit. */
export function argmax(logits, from = 0, to = logits.length) {
  let best = from;
  for (let i = from + 1; i < to; i++) if (logits[i] > logits[best]) best = i;
  return best - from;
}
