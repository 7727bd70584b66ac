// The model of Geiping et al. 2025 once more, in the plainest way and in float64: no tensors, no kernels, no cache, nothing shared with src.

export interface PlainConfig {
  readonly C: number;
  readonly H: number;
  readonly Hk: number;
  readonly I: number;
  readonly V: number;
  readonly eps: number;
  readonly ropeBase: number;
  readonly layers: { readonly prelude: number; readonly core_block: number; readonly coda: number };
}

export type Weights = ReadonlyMap<string, Float32Array>;
export type Rows = number[][];

export const matmul = (x: Rows, weight: Float32Array, out: number): Rows =>
  x.map((row) => Array.from({ length: out }, (_, n) => row.reduce((sum, value, k) => sum + value * weight[n * row.length + k]!, 0)));

export const norm = (x: Rows, weight: Float32Array, eps: number): Rows =>
  x.map((row) => {
    const scale = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / row.length + eps);
    return row.map((v, c) => v * scale * weight[c]!);
  });

export const plus = (a: Rows, b: Rows): Rows => a.map((row, i) => row.map((v, j) => v + b[i]![j]!));

function rotate(head: number[], position: number, base: number): number[] {
  const out = [...head];
  for (let i = 0; i < head.length / 2; i++) {
    const angle = position * base ** ((-2 * i) / head.length);
    const [a, b] = [head[2 * i]!, head[2 * i + 1]!];
    out[2 * i] = a * Math.cos(angle) - b * Math.sin(angle);
    out[2 * i + 1] = a * Math.sin(angle) + b * Math.cos(angle);
  }
  return out;
}

function attention(x: Rows, name: string, w: Weights, { C, H, Hk, ropeBase }: PlainConfig): Rows {
  const D = C / H;
  const qkv = matmul(x, w.get(`${name}.Wqkv.weight`)!, (H + 2 * Hk) * D);
  const bias = w.get(`${name}.qk_bias`);
  const head = (t: number, h: number, kind: 0 | 1) => {
    const start = kind === 0 ? h * D : (H + h) * D;
    const values = qkv[t]!.slice(start, start + D).map((v, d) => v + (bias?.[kind * H * D + h * D + d] ?? 0));
    return rotate(values, t, ropeBase);
  };
  const mixed = x.map((_, t) => {
    const row: number[] = [];
    for (let h = 0; h < H; h++) {
      const kh = Math.floor(h / (H / Hk));
      const q = head(t, h, 0);
      const scores = Array.from({ length: t + 1 }, (_, s) => head(s, kh, 1).reduce((sum, v, d) => sum + v * q[d]!, 0) / Math.sqrt(D));
      const most = Math.max(...scores);
      const weights = scores.map((score) => Math.exp(score - most));
      const total = weights.reduce((sum, v) => sum + v, 0);
      for (let d = 0; d < D; d++) row.push(weights.reduce((sum, v, s) => sum + (v / total) * qkv[s]![(H + Hk + kh) * D + d]!, 0));
    }
    return row;
  });
  return matmul(mixed, w.get(`${name}.proj.weight`)!, C);
}

export function mlp(x: Rows, name: string, w: Weights, { C, I }: PlainConfig): Rows {
  const both = matmul(x, w.get(`${name}.fc.weight`)!, 2 * I);
  const gated = both.map((row) => Array.from({ length: I }, (_, i) => (row[i]! / (1 + Math.exp(-row[i]!))) * row[I + i]!));
  return matmul(gated, w.get(`${name}.proj.weight`)!, C);
}

function block(x: Rows, name: string, w: Weights, config: PlainConfig): Rows {
  const n = (i: number, rows: Rows) => norm(rows, w.get(`${name}.norm_${i}.weight`)!, config.eps);
  const y = n(2, plus(x, attention(n(1, x), `${name}.attn`, w, config)));
  return n(4, plus(y, mlp(n(3, y), `${name}.mlp`, w, config)));
}

function part(x: Rows, name: 'prelude' | 'core_block' | 'coda', w: Weights, config: PlainConfig): Rows {
  let rows = x;
  for (let n = 0; n < config.layers[name]; n++) rows = block(rows, `transformer.${name}.${n}`, w, config);
  return rows;
}

/** Every stage for one sequence: e, s_0 to s_r, and logits (T, V). */
export function plainForward(
  tokens: readonly number[],
  s0: Rows,
  r: number,
  w: Weights,
  config: PlainConfig,
): { e: Rows; states: Rows[]; logits: Rows } {
  const { C, V, eps } = config;
  const wte = w.get('transformer.wte.weight')!;
  const embedded = tokens.map((token) => Array.from(wte.subarray(token * C, (token + 1) * C), (v) => v * Math.sqrt(C)));
  const e = part(embedded, 'prelude', w, config);
  const states = [s0];
  for (let i = 0; i < r; i++) {
    const joined = states[i]!.map((row, t) => [...row, ...e[t]!]);
    states.push(part(matmul(joined, w.get('transformer.adapter.weight')!, C), 'core_block', w, config));
  }
  const lnf = w.get('transformer.ln_f.weight')!;
  const out = norm(part(norm(states[r]!, lnf, eps), 'coda', w, config), lnf, eps);
  return { e, states, logits: matmul(out, w.get('lm_head.weight') ?? wte, V) };
}
