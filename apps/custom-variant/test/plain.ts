// Both variants in the plainest way and in float64, with their losses: no tensors, no kernels, no cache, nothing shared with src.

export interface PlainSizes {
  readonly C: number;
  readonly H: number;
  readonly I: number;
  readonly V: number;
  readonly eps: number;
  readonly ropeBase: number;
  readonly core: number;
  readonly coda: number;
}
/** By the names of a checkpoint. */
export type Weights = ReadonlyMap<string, Float64Array>;
export type Rows = number[][];

const times = (x: Rows, weight: Float64Array, out: number): Rows =>
  x.map((row) => Array.from({ length: out }, (_, n) => row.reduce((sum, value, k) => sum + value * weight[n * row.length + k]!, 0)));
const plus = (a: Rows, b: Rows): Rows => a.map((row, t) => row.map((value, c) => value + b[t]![c]!));
const rmsNorm = (x: Rows, weight: Float64Array, eps: number): Rows =>
  x.map((row) => {
    const size = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / row.length + eps);
    return row.map((value, c) => (value / size) * weight[c]!);
  });
export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** Turns pairs (2i, 2i + 1), or (i, i + D/2) where they are half-split. */
function turn(head: number[], position: number, half: boolean, base: number): number[] {
  const out = [...head];
  const pairs = head.length / 2;
  for (let i = 0; i < pairs; i++) {
    const [p, q] = half ? [i, i + pairs] : [2 * i, 2 * i + 1];
    const angle = position * base ** (-i / pairs);
    out[p] = head[p]! * Math.cos(angle) - head[q]! * Math.sin(angle);
    out[q] = head[q]! * Math.cos(angle) + head[p]! * Math.sin(angle);
  }
  return out;
}

function attention(x: Rows, name: string, w: Weights, { C, H, ropeBase }: PlainSizes, half: boolean): Rows {
  const D = C / H;
  const qkv = times(x, w.get(`${name}.Wqkv.weight`)!, 3 * C);
  const head = (t: number, start: number) => turn(qkv[t]!.slice(start, start + D), t, half, ropeBase);
  const mixed = x.map((_, t) =>
    Array.from({ length: H }, (_, h) => {
      const q = head(t, h * D);
      const scores = Array.from({ length: t + 1 }, (_, s) => {
        const k = head(s, C + h * D);
        return Math.exp(q.reduce((sum, value, d) => sum + value * k[d]!, 0) / Math.sqrt(D));
      });
      const total = scores.reduce((sum, score) => sum + score, 0);
      return Array.from({ length: D }, (_, d) => scores.reduce((sum, score, s) => sum + (score / total) * qkv[s]![2 * C + h * D + d]!, 0));
    }).flat(),
  );
  return times(mixed, w.get(`${name}.proj.weight`)!, C);
}

function mlp(x: Rows, name: string, w: Weights, { C, I }: PlainSizes): Rows {
  const both = times(x, w.get(`${name}.fc.weight`)!, 2 * I);
  const inner = both.map((row) => Array.from({ length: I }, (_, i) => row[i]! * sigmoid(row[i]!) * row[I + i]!));
  return times(inner, w.get(`${name}.proj.weight`)!, C);
}

const embed = (tokens: readonly number[], w: Weights, C: number): Rows =>
  tokens.map((token) => Array.from(w.get('transformer.wte.weight')!.subarray(token * C, (token + 1) * C), (x) => x * Math.sqrt(C)));

/** States s_1 ... s_r, logits behind each, and the gate's logit at each where there is one. */
export interface PlainRun {
  readonly states: Rows[];
  readonly logits: Rows[];
  readonly gates: number[][];
}

/** Pre-norm blocks, s + e or a gate between them, one norm for the end of a loop and for the head. */
export function plainPreNorm(tokens: readonly number[], s0: Rows, r: number, w: Weights, c: PlainSizes, gated: boolean): PlainRun {
  const { C, V, eps } = c;
  const block = (x: Rows, name: string): Rows => {
    const at = (key: string) => w.get(`transformer.${name}.${key}.weight`)!;
    const y = plus(x, attention(rmsNorm(x, at('norm_1'), eps), `transformer.${name}.attn`, w, c, false));
    return plus(y, mlp(rmsNorm(y, at('norm_2'), eps), `transformer.${name}.mlp`, w, c));
  };
  const lnf = w.get('transformer.ln_f.weight')!;
  const e = embed(tokens, w, C);
  const inject = (s: Rows): Rows => {
    if (!gated) return plus(s, e);
    const bias = w.get('transformer.own.gate.bias')!;
    const opened = times(
      s.map((row, t) => [...row, ...e[t]!]),
      w.get('transformer.own.gate.weight')!,
      C,
    );
    return s.map((row, t) =>
      row.map((value, i) => {
        const g = sigmoid(opened[t]![i]! + bias[i]!);
        return g * value + (1 - g) * e[t]![i]!;
      }),
    );
  };
  const run: PlainRun = { states: [], logits: [], gates: [] };
  let s = s0;
  for (let loop = 0; loop < r; loop++) {
    let x = inject(s);
    for (let n = 0; n < c.core; n++) x = block(x, `core_block.${n}`);
    s = rmsNorm(x, lnf, eps);
    run.states.push(s);
    let y = s;
    for (let n = 0; n < c.coda; n++) y = block(y, `coda.${n}`);
    run.logits.push(times(rmsNorm(y, lnf, eps), w.get('transformer.wte.weight')!, V));
  }
  return run;
}

/** All layers in the loop, norms before and behind each branch, the last norm at the end of every loop. */
export function plainWholeStack(tokens: readonly number[], r: number, w: Weights, c: PlainSizes): PlainRun {
  const { C, V, eps } = c;
  const run: PlainRun = { states: [], logits: [], gates: [] };
  let h = embed(tokens, w, C);
  for (let loop = 0; loop < r; loop++) {
    for (let n = 0; n < c.core; n++) {
      const name = `transformer.core_block.${n}`;
      const at = (key: string) => w.get(`${name}.${key}.weight`)!;
      const y = plus(h, rmsNorm(attention(rmsNorm(h, at('norm_1'), eps), `${name}.attn`, w, c, true), at('norm_2'), eps));
      h = plus(y, rmsNorm(mlp(rmsNorm(y, at('norm_3'), eps), `${name}.mlp`, w, c), at('norm_4'), eps));
    }
    h = rmsNorm(h, w.get('transformer.ln_f.weight')!, eps);
    run.states.push(h);
    run.logits.push(times(h, w.get('transformer.wte.weight')!, V));
    const [weight, bias] = [w.get('transformer.exit_gate.weight')!, w.get('transformer.exit_gate.bias')!];
    run.gates.push(h.map((row) => row.reduce((sum, value, i) => sum + value * weight[i]!, bias[0]!)));
  }
  return run;
}

export function plainEntropy(logits: readonly number[], target: number): number {
  const most = Math.max(...logits);
  return Math.log(logits.reduce((sum, x) => sum + Math.exp(x - most), 0)) + most - logits[target]!;
}

/** p_1 ... p_r of ending at each loop, from the probabilities of stopping, as the paper writes it: products. */
export function plainExits(stops: readonly number[]): number[] {
  let left = 1;
  return stops.map((stop, t) => {
    const p = t === stops.length - 1 ? left : stop * left;
    left *= 1 - stop;
    return p;
  });
}

/** sum_t p_t CE_t - beta H(p). */
export function plainElbo(entropies: readonly number[], stops: readonly number[], beta: number): number {
  const p = plainExits(stops);
  const H = -p.reduce((sum, x) => sum + (x === 0 ? 0 : x * Math.log(x)), 0);
  return p.reduce((sum, x, t) => sum + x * entropies[t]!, 0) - beta * H;
}
