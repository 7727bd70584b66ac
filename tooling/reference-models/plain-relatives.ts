// Retrofits and Ouro in the plainest way and in float64, by the names of their own checkpoints: nothing shared with src.

import { matmul, norm, plus, type Rows, type Weights } from './plain-model.js';

export interface PlainRelative {
  readonly kind: 'llama' | 'olmo2' | 'ouro';
  readonly C: number;
  readonly H: number;
  readonly Hk: number;
  readonly I: number;
  readonly V: number;
  readonly eps: number;
  readonly ropeBase: number;
  readonly scaling?: { readonly factor: number; readonly low: number; readonly high: number; readonly original: number };
  readonly layers: { readonly prelude: number; readonly core_block: number; readonly coda: number };
}

/** Half-split rotary pairs (i, i + D/2), with the frequencies of Llama 3 where they are scaled. */
function rotate(head: number[], position: number, { ropeBase, scaling }: PlainRelative): number[] {
  const half = head.length / 2;
  const out = [...head];
  for (let i = 0; i < half; i++) {
    let frequency = ropeBase ** (-i / half);
    if (scaling !== undefined) {
      const wavelength = (2 * Math.PI) / frequency;
      if (wavelength > scaling.original / scaling.low) frequency /= scaling.factor;
      else if (wavelength >= scaling.original / scaling.high) {
        const smooth = (scaling.original / wavelength - scaling.low) / (scaling.high - scaling.low);
        frequency = ((1 - smooth) * frequency) / scaling.factor + smooth * frequency;
      }
    }
    const angle = position * frequency;
    out[i] = head[i]! * Math.cos(angle) - head[i + half]! * Math.sin(angle);
    out[i + half] = head[i + half]! * Math.cos(angle) + head[i]! * Math.sin(angle);
  }
  return out;
}

function attend(q: Rows, k: Rows, v: Rows, c: PlainRelative): Rows {
  const D = c.C / c.H;
  const turned = (rows: Rows, t: number, h: number) => rotate(rows[t]!.slice(h * D, (h + 1) * D), t, c);
  return q.map((_, t) => {
    const row: number[] = [];
    for (let h = 0; h < c.H; h++) {
      const kv = Math.floor(h / (c.H / c.Hk));
      const query = turned(q, t, h);
      const scores = Array.from({ length: t + 1 }, (_, s) => turned(k, s, kv).reduce((sum, x, d) => sum + x * query[d]!, 0) / Math.sqrt(D));
      const weights = scores.map((score) => Math.exp(score - Math.max(...scores)));
      const total = weights.reduce((sum, w) => sum + w, 0);
      for (let d = 0; d < D; d++) row.push(weights.reduce((sum, w, s) => sum + (w / total) * v[s]![kv * D + d]!, 0));
    }
    return row;
  });
}

const silu = (x: number) => x / (1 + Math.exp(-x));
const gated = (gate: Rows, up: Rows): Rows => gate.map((row, t) => row.map((x, i) => silu(x) * up[t]![i]!));
const columns = (x: Rows, from: number, to: number): Rows => x.map((row) => row.slice(from, to));

function retrofitBlock(x: Rows, name: string, w: Weights, c: PlainRelative): Rows {
  const { C, H, Hk, I, eps } = c;
  const D = C / H;
  const get = (key: string) => w.get(`${name}.${key}.weight`)!;
  const attention = (input: Rows) => {
    const qkv = matmul(input, get('attn.Wqkv'), (H + 2 * Hk) * D);
    let [q, k] = [columns(qkv, 0, H * D), columns(qkv, H * D, (H + Hk) * D)];
    if (c.kind === 'olmo2') [q, k] = [norm(q, get('attn.q_norm'), eps), norm(k, get('attn.k_norm'), eps)];
    return matmul(attend(q, k, columns(qkv, (H + Hk) * D, (H + 2 * Hk) * D), c), get('attn.proj'), C);
  };
  const mlp = (input: Rows) => {
    const both = matmul(input, get('mlp.fc'), 2 * I);
    return matmul(gated(columns(both, 0, I), columns(both, I, 2 * I)), get('mlp.proj'), C);
  };
  if (c.kind === 'olmo2') {
    const y = plus(x, norm(attention(x), get('norm_1'), eps));
    return plus(y, norm(mlp(y), get('norm_2'), eps));
  }
  const y = plus(x, attention(norm(x, get('norm_1'), eps)));
  return plus(y, mlp(norm(y, get('norm_2'), eps)));
}

function ouroLayer(x: Rows, n: number, w: Weights, c: PlainRelative): Rows {
  const { C, H, Hk, I, eps } = c;
  const D = C / H;
  const get = (key: string) => w.get(`model.layers.${n}.${key}.weight`)!;
  const normed = norm(x, get('input_layernorm'), eps);
  const [q, k, v] = (['q', 'k', 'v'] as const).map((letter) =>
    matmul(normed, get(`self_attn.${letter}_proj`), (letter === 'q' ? H : Hk) * D),
  ) as [Rows, Rows, Rows];
  const y = plus(x, norm(matmul(attend(q, k, v, c), get('self_attn.o_proj'), C), get('input_layernorm_2'), eps));
  const inner = norm(y, get('post_attention_layernorm'), eps);
  const mlp = matmul(gated(matmul(inner, get('mlp.gate_proj'), I), matmul(inner, get('mlp.up_proj'), I)), get('mlp.down_proj'), C);
  return plus(y, norm(mlp, get('post_attention_layernorm_2'), eps));
}

const lookup = (tokens: readonly number[], table: Float32Array, C: number): Rows =>
  tokens.map((token) => Array.from(table.subarray(token * C, (token + 1) * C)));

/** States s_1 .. s_r (T, C), logits (T, V) after each, and the gate's logits where there is one. */
export function plainRelative(
  tokens: readonly number[],
  s0: Rows,
  r: number,
  w: Weights,
  c: PlainRelative,
): { states: Rows[]; logits: Rows[]; gates: number[][] } {
  const states: Rows[] = [];
  const logits: Rows[] = [];
  const gates: number[][] = [];
  if (c.kind === 'ouro') {
    let h = lookup(tokens, w.get('model.embed_tokens.weight')!, c.C);
    for (let loop = 0; loop < r; loop++) {
      for (let n = 0; n < c.layers.core_block; n++) h = ouroLayer(h, n, w, c);
      h = norm(h, w.get('model.norm.weight')!, c.eps);
      states.push(h);
      logits.push(matmul(h, w.get('lm_head.weight')!, c.V));
      const bias = w.get('model.early_exit_gate.bias')![0]!;
      gates.push(matmul(h, w.get('model.early_exit_gate.weight')!, 1).map(([gate]) => gate! + bias));
    }
    return { states, logits, gates };
  }
  const part = (x: Rows, name: 'prelude' | 'core_block' | 'coda') => {
    let rows = x;
    for (let n = 0; n < c.layers[name]; n++) rows = retrofitBlock(rows, `transformer.${name}.${n}`, w, c);
    return rows;
  };
  const e = part(lookup(tokens, w.get('transformer.wte.weight')!, c.C), 'prelude');
  let s = s0;
  for (let loop = 0; loop < r; loop++) {
    const joined = s.map((row, t) => [...row, ...e[t]!]);
    s = part(matmul(joined, w.get('transformer.adapter.weight')!, c.C), 'core_block');
    states.push(s);
    logits.push(matmul(norm(part(s, 'coda'), w.get('transformer.ln_f.weight')!, c.eps), w.get('lm_head.weight')!, c.V));
  }
  return { states, logits, gates };
}
