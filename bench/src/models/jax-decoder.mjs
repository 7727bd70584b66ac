// A Llama-like decoder in jax-js: one jitted function for a token and one for the prompt, over a cache of fixed size. The row of the
// embedding is taken on the host.
import { transposed } from '../numbers.mjs';
import { argmax, decoders, EPS, PROMPT, ropeTables } from './shapes.mjs';
import { blockWeights, openWeights } from './weights.mjs';

const SLOTS = PROMPT + 64;

export async function openJaxDecoder(jax, { model }) {
  const { numpy: np, nn, tree } = jax;
  const shape = decoders[model];
  const { C, L, H, Hk, D, V, tied } = shape;
  const G = H / Hk;
  const read = await openWeights(model);
  const array = (data, dims) => np.array(data).reshape(dims);
  const matrix = ([data, [rows, cols]]) => array(transposed(data, rows, cols), [cols, rows]);
  const wte = read('transformer.wte.weight');
  const weights = {
    layers: Array.from({ length: L }, (_, n) => {
      const w = blockWeights(read, shape, n);
      return {
        ...Object.fromEntries(['q', 'k', 'v', 'o', 'gate', 'up', 'down'].map((name) => [name, matrix(w[name])])),
        norm1: array(w.norm1, [C]),
        norm2: array(w.norm2, [C]),
      };
    }),
    final: array(read('transformer.ln_f.weight'), [C]),
    head: matrix([tied ? wte : read('lm_head.weight'), [V, C]]),
  };
  const { cos, sin } = ropeTables(D);

  const norm = (x, weight) => {
    const scale = np.mean(np.square(x.ref), -1, { keepdims: true }).add(EPS);
    return x.div(np.sqrt(scale)).mul(weight);
  };
  // x (T, heads, D); c, s (T, 1, D / 2)
  const rope = (x, c, s) => {
    const [a, b] = np.split(x, 2, -1);
    const first = a.ref.mul(c.ref).sub(b.ref.mul(s.ref));
    return np.concatenate([first, b.mul(c).add(a.mul(s))], -1);
  };

  /** x (T, C); c, s (T, D / 2); `place` (SLOTS, T) puts the new keys where they belong; mask (T, SLOTS). */
  const forward = (T) =>
    jax.jit(({ layers, final, head }, x, c, s, place, mask, cache) => {
      const grown = [];
      const [c3, s3] = [c, s].map((table) => table.reshape([T, 1, D / 2]));
      layers.forEach((w, n) => {
        const y = norm(x.ref, w.norm1);
        const q = rope(np.matmul(y.ref, w.q).reshape([T, H, D]), c3.ref, s3.ref);
        const k = rope(np.matmul(y.ref, w.k).reshape([T, Hk, D]), c3.ref, s3.ref);
        const v = np.matmul(y, w.v).reshape([T, Hk, D]);
        // (SLOTS, Hk D)
        const keys = cache[n].keys.add(np.matmul(place.ref, k.reshape([T, Hk * D])));
        const values = cache[n].values.add(np.matmul(place.ref, v.reshape([T, Hk * D])));
        grown.push({ keys: keys.ref, values: values.ref });
        const byHead = (t) => np.transpose(t.reshape([SLOTS, Hk, D]), [1, 0, 2]);
        const groups = np.transpose(q.reshape([T, Hk, G, D]), [1, 2, 0, 3]).reshape([Hk, G * T, D]);
        const scores = np.matmul(groups, np.transpose(byHead(keys), [0, 2, 1])).mul(1 / Math.sqrt(D));
        const weighted = nn.softmax(scores.reshape([Hk, G, T, SLOTS]).add(mask.ref), -1).reshape([Hk, G * T, SLOTS]);
        const mixed = np.matmul(weighted, byHead(values)).reshape([Hk, G, T, D]);
        x = x.add(np.matmul(np.transpose(mixed, [2, 0, 1, 3]).reshape([T, H * D]), w.o));
        const z = norm(x.ref, w.norm2);
        x = x.add(np.matmul(nn.silu(np.matmul(z.ref, w.gate)).mul(np.matmul(z, w.up)), w.down));
      });
      for (const one of [c3, s3, place, mask]) one.dispose();
      const last = T === 1 ? x : x.slice([T - 1, T]);
      return { logits: np.matmul(norm(last, final), head), cache: grown };
    });
  const steps = new Map();

  return {
    async run(prompt, count) {
      let cache = Array.from({ length: L }, () => ({ keys: np.zeros([SLOTS, Hk * D]), values: np.zeros([SLOTS, Hk * D]) }));
      let past = 0;
      const step = async (ids) => {
        const T = ids.length;
        if (!steps.has(T)) steps.set(T, forward(T));
        const x = new Float32Array(T * C);
        ids.forEach((id, i) => void x.set(wte.subarray(id * C, (id + 1) * C), i * C));
        const rows = (table) => array(table.slice((past * D) / 2, ((past + T) * D) / 2), [T, D / 2]);
        const start = past;
        const place = Float32Array.from({ length: SLOTS * T }, (_, i) => Number(Math.floor(i / T) === start + (i % T)));
        const mask = Float32Array.from({ length: T * SLOTS }, (_, i) => (i % SLOTS > start + Math.floor(i / SLOTS) ? -1e9 : 0));
        const result = steps.get(T)(
          tree.ref(weights),
          array(x, [T, C]),
          rows(cos),
          rows(sin),
          array(place, [SLOTS, T]),
          array(mask, [T, SLOTS]),
          cache,
        );
        cache = result.cache;
        past += T;
        return argmax(await result.logits.data());
      };
      const started = performance.now();
      const tokens = [await step(prompt)];
      const first = performance.now();
      while (tokens.length < count) tokens.push(await step(tokens.slice(-1)));
      const ended = performance.now();
      tree.dispose(cache);
      return { tokens, prefillMs: first - started, decodeMs: ended - first };
    },
    close: () => tree.dispose(weights),
  };
}
