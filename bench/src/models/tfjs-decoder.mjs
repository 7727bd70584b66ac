// A Llama-like decoder in tfjs: eager, weights turned to (K, N) and keys kept as (Hk, D, S), since a transposed operand leaves XNNPACK.
import { transposed } from '../numbers.mjs';
import { argmax, decoders, EPS, ropeTables } from './shapes.mjs';
import { blockWeights, openWeights } from './weights.mjs';

export async function openTfjsDecoder(tf, { model }) {
  const shape = decoders[model];
  const { C, L, H, Hk, D, V, tied } = shape;
  const G = H / Hk;
  const read = await openWeights(model);
  const matrix = ([data, [rows, cols]]) => tf.tensor2d(transposed(data, rows, cols), [cols, rows]);
  const wte = read('transformer.wte.weight');
  const embedding = tf.tensor2d(wte, [V, C]);
  const layers = Array.from({ length: L }, (_, n) => {
    const w = blockWeights(read, shape, n);
    return {
      ...Object.fromEntries(['qkv', 'o', 'gate', 'up', 'down'].map((name) => [name, matrix(w[name])])),
      norm1: tf.tensor1d(w.norm1),
      norm2: tf.tensor1d(w.norm2),
    };
  });
  const final = tf.tensor1d(read('transformer.ln_f.weight'));
  const head = matrix([tied ? wte : read('lm_head.weight'), [V, C]]);
  const { cos, sin } = ropeTables(D);
  const tables = [cos, sin].map((table) => tf.tensor2d(table, [table.length / (D / 2), D / 2]));

  const norm = (x, weight) => tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), EPS))), weight);
  // x (heads, T, D)
  const rope = (x, c, s) => {
    const [a, b] = tf.split(x, 2, -1);
    return tf.concat([tf.sub(tf.mul(a, c), tf.mul(b, s)), tf.add(tf.mul(b, c), tf.mul(a, s))], -1);
  };

  /** Logits of the last token (1, V) and the grown cache; positions from `past` on. */
  function forward(ids, past, cache) {
    const T = ids.length;
    const [c, s] = tables.map((table) => tf.slice(table, [past, 0], [T, D / 2]));
    const S = past + T;
    const mask =
      T === 1
        ? undefined
        : tf.tensor2d(
            Float32Array.from({ length: T * S }, (_, i) => (i % S > past + Math.floor(i / S) ? -1e9 : 0)),
            [T, S],
          );
    let x = tf.gather(embedding, tf.tensor1d(ids, 'int32'));
    const grown = layers.map((w, n) => {
      const byHead = tf.transpose(tf.reshape(tf.matMul(norm(x, w.norm1), w.qkv), [T, H + 2 * Hk, D]), [1, 0, 2]);
      const [qk, v] = tf.split(byHead, [H + Hk, Hk], 0);
      const [q, k] = tf.split(rope(qk, c, s), [H, Hk], 0);
      const turned = tf.transpose(k, [0, 2, 1]);
      const keys = cache ? tf.concat([cache[n].keys, turned], 2) : turned;
      const values = cache ? tf.concat([cache[n].values, v], 1) : v;
      let scores = tf.reshape(tf.mul(tf.matMul(tf.reshape(q, [Hk, G * T, D]), keys), 1 / Math.sqrt(D)), [H, T, S]);
      if (mask !== undefined) scores = tf.add(scores, mask);
      const mixed = tf.matMul(tf.reshape(tf.softmax(scores), [Hk, G * T, S]), values);
      const rows = tf.reshape(tf.transpose(tf.reshape(mixed, [H, T, D]), [1, 0, 2]), [T, H * D]);
      x = tf.add(x, tf.matMul(rows, w.o));
      const y = norm(x, w.norm2);
      const gate = tf.matMul(y, w.gate);
      x = tf.add(x, tf.matMul(tf.mul(tf.mul(gate, tf.sigmoid(gate)), tf.matMul(y, w.up)), w.down));
      return { keys: cache ? keys : keys.clone(), values: cache ? values : values.clone() };
    });
    return { logits: tf.matMul(norm(tf.slice(x, [T - 1, 0], [1, C]), final), head), cache: grown };
  }

  return {
    async run(prompt, count) {
      let cache;
      let past = 0;
      const step = async (ids) => {
        const result = tf.tidy(() => forward(ids, past, cache));
        past += ids.length;
        if (cache !== undefined) tf.dispose(cache);
        cache = result.cache;
        const token = argmax(result.logits.dataSync());
        result.logits.dispose();
        return token;
      };
      const started = performance.now();
      const tokens = [await step(prompt)];
      const first = performance.now();
      while (tokens.length < count) tokens.push(await step(tokens.slice(-1)));
      const ended = performance.now();
      tf.dispose(cache);
      return { tokens, prefillMs: first - started, decodeMs: ended - first };
    },
    close: () => tf.disposeVariables(),
  };
}
