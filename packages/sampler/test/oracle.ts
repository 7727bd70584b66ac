import type { RecurrentModel } from '@unroll/recurrent';
import type { Tensor } from '@unroll/tensor';

// Decoding once more, in the plainest way and in float64: no tensors, no kernels, no passes. Keys and values lie in a map from slot numbers for each
// position, and the rules of the policies are written down as their table in the published code has them. Greedy, from zero states.

type Row = number[];
interface Kv {
  readonly k: Row;
  readonly v: Row;
}

export type OraclePolicy =
  | 'full'
  | 'latest'
  | 'always-last'
  | 'skip'
  | 'last-only'
  | 'compress-s2'
  | 'latest-compress-s4'
  | 'compress-r2'
  | 'compress-anchor';

export interface OracleOptions {
  readonly prompt: readonly number[];
  readonly newTokens: number;
  readonly depth: number;
  readonly policy: OraclePolicy;
  /** latent-diff, with one decision for each call. */
  readonly exitBelow?: number | undefined;
  readonly warmStart?: 'norm-state' | 'state' | undefined;
}

export interface OracleToken {
  readonly token: number;
  readonly logprob: number;
  readonly recurrences: number;
  /** How far from another decision: the gap of the best two logits, and the least distance of a value from the threshold. */
  readonly gap: number;
  readonly margin: number;
}

async function readWeights(tree: unknown, path: string, into: Map<string, Float32Array>): Promise<void> {
  if (typeof tree !== 'object' || tree === null) return;
  if ('storage' in tree) into.set(path, (await (tree as Tensor).data()) as Float32Array);
  else for (const [key, value] of Object.entries(tree)) await readWeights(value, path === '' ? key : `${path}.${key}`, into);
}

const times = (x: Row, weight: Float32Array): Row =>
  Array.from({ length: weight.length / x.length }, (_, n) => x.reduce((sum, value, k) => sum + value * weight[n * x.length + k]!, 0));
const length = (x: Row): number => Math.hypot(...x);
const minus = (a: Row, b: Row): Row => a.map((value, c) => value - b[c]!);

/** The model of `tinyModel`: 1 layer in prelude and coda, 2 in the core, 2 heads. */
export async function oracle(model: RecurrentModel, options: OracleOptions): Promise<OracleToken[]> {
  const { prompt, newTokens, depth, policy, exitBelow, warmStart } = options;
  const weights = new Map<string, Float32Array>();
  await readWeights(model.params, '', weights);
  const { width: C, heads: H, mlpWidth: I, normEps, ropeBase, coreLayers: L } = model.config;
  const D = C / H;
  const w = (name: string) => weights.get(`transformer.${name}`)!;
  const norm = (x: Row, name: string): Row => {
    const scale = 1 / Math.sqrt(x.reduce((sum, value) => sum + value * value, 0) / C + normEps);
    return x.map((value, c) => value * scale * w(`${name}.weight`)[c]!);
  };
  const rotate = (x: Row, position: number): Row =>
    x.map((value, c) => {
      const d = c % D;
      const angle = position * ropeBase ** (-(d - (d % 2)) / D);
      return d % 2 === 0 ? value * Math.cos(angle) - x[c + 1]! * Math.sin(angle) : x[c - 1]! * Math.sin(angle) + value * Math.cos(angle);
    });

  // Slot names: p0, c0, and for the core `loop`-like numbers for each layer.
  const stored: Map<string, Kv>[] = [];
  const core = (layer: number, slot: number) => `core ${layer} ${slot}`;
  const writes = (loop: number, decoded: boolean): number => {
    if (policy === 'last-only') return decoded ? 0 : loop;
    if (policy === 'compress-s2') return 0;
    if (policy === 'latest-compress-s4') return loop % 2;
    if (policy === 'compress-anchor') return Math.min(loop, 8);
    return loop;
  };
  const read = (position: number, layer: number, loop: number): Kv | undefined => {
    const own = stored[position]!;
    if (policy === 'compress-r2') return own.get(core(0, loop));
    const has = Array.from({ length: depth + 1 }, (_, slot) => slot).filter((slot) => own.has(core(layer, slot)));
    const x = policy === 'last-only' ? loop : writes(loop, false);
    const below = has.filter((slot) => slot <= x);
    const named: Record<string, number | undefined> = {
      'always-last': has[has.length - 1],
      latest: below[below.length - 1],
      'latest-compress-s4': below[below.length - 1],
      'last-only': has.includes(x) ? x : has[has.length - 1],
    };
    const slot = policy in named ? named[policy] : x;
    return slot === undefined ? undefined : own.get(core(layer, slot));
  };

  /** One layer over some positions at once: all store their keys, then all look. */
  function layerOver(
    xs: Row[],
    positions: number[],
    name: string,
    slot: (position: number) => string,
    look: (position: number) => Kv | undefined,
  ): Row[] {
    const qs = xs.map((x, i) => {
      const qkv = times(norm(x, `${name}.norm_1`), w(`${name}.attn.Wqkv.weight`));
      const bias = w(`${name}.attn.qk_bias`);
      const part = (which: 0 | 1) =>
        rotate(
          qkv.slice(which * C, (which + 1) * C).map((value, c) => value + bias[which * C + c]!),
          positions[i]!,
        );
      stored[positions[i]!] ??= new Map();
      stored[positions[i]!]!.set(slot(positions[i]!), { k: part(1), v: qkv.slice(2 * C) });
      return part(0);
    });
    return xs.map((x, i) => {
      const seen = Array.from({ length: positions[i]! + 1 }, (_, p) => look(p)).filter((kv) => kv !== undefined);
      const mixed: Row = [];
      for (let h = 0; h < H; h++) {
        const head = (row: Row) => row.slice(h * D, (h + 1) * D);
        const scores = seen.map(({ k }) => Math.exp(head(k).reduce((sum, value, d) => sum + value * head(qs[i]!)[d]!, 0) / Math.sqrt(D)));
        const total = scores.reduce((a, b) => a + b, 0);
        for (let d = 0; d < D; d++) mixed.push(seen.reduce((sum, { v }, s) => sum + (scores[s]! / total) * head(v)[d]!, 0));
      }
      const attended = times(mixed, w(`${name}.attn.proj.weight`));
      const y = norm(
        x.map((value, c) => value + attended[c]!),
        `${name}.norm_2`,
      );
      const both = times(norm(y, `${name}.norm_3`), w(`${name}.mlp.fc.weight`));
      const gated = Array.from({ length: I }, (_, n) => (both[n]! / (1 + Math.exp(-both[n]!))) * both[I + n]!);
      const out = times(gated, w(`${name}.mlp.proj.weight`));
      return norm(
        y.map((value, c) => value + out[c]!),
        `${name}.norm_4`,
      );
    });
  }

  const wte = w('wte.weight');
  function call(
    tokens: readonly number[],
    first: number,
    start: Row | undefined,
  ): { logits: Row; state: Row; recurrences: number; margin: number } {
    const positions = tokens.map((_, i) => first + i);
    const decoded = first >= prompt.length;
    const embedded = tokens.map((token) => Array.from(wte.subarray(token * C, (token + 1) * C), (value) => value * Math.sqrt(C)));
    const e = layerOver(
      embedded,
      positions,
      'prelude.0',
      () => 'p',
      (p) => stored[p]!.get('p'),
    );
    let states = positions.map(() => start ?? new Array<number>(C).fill(0));
    let recurrences = 0;
    let margin = Number.POSITIVE_INFINITY;
    while (recurrences < depth) {
      const loop = recurrences++;
      let xs = states.map((state, i) => times([...state, ...e[i]!], w('adapter.weight')));
      for (let layer = 0; layer < L; layer++) {
        // r2: two consecutive layer calls share, which are one loop of both layers here.
        const place = policy === 'compress-r2' ? core(0, loop) : core(layer, writes(loop, decoded));
        xs = layerOver(
          xs,
          positions,
          `core_block.${layer}`,
          () => place,
          (p) => read(p, layer, loop),
        );
      }
      const value = xs.reduce((sum, x, i) => sum + length(minus(x, states[i]!)) / length(x), 0) / xs.length;
      states = xs;
      if (exitBelow === undefined) continue;
      margin = Math.min(margin, Math.abs(value - exitBelow));
      if (value < exitBelow) break;
    }
    const out = layerOver(
      states.map((state) => norm(state, 'ln_f')),
      positions,
      'coda.0',
      () => 'c',
      (p) => stored[p]!.get('c'),
    );
    const state = states[states.length - 1]!;
    return { logits: times(norm(out[out.length - 1]!, 'ln_f'), wte), state, recurrences, margin };
  }

  const result: OracleToken[] = [];
  let last = call(prompt, 0, undefined);
  for (let n = 0; n < newTokens; n++) {
    const sorted = [...last.logits].sort((a, b) => b - a);
    const token = last.logits.indexOf(sorted[0]!);
    const logprob = -Math.log(last.logits.reduce((sum, value) => sum + Math.exp(value - sorted[0]!), 0));
    result.push({ token, logprob, recurrences: last.recurrences, gap: sorted[0]! - sorted[1]!, margin: last.margin });
    if (n === newTokens - 1) break;
    const start = warmStart === undefined ? undefined : warmStart === 'state' ? last.state : norm(last.state, 'ln_f');
    last = call([token], prompt.length + n, start);
  }
  return result;
}
