import type { Tensor } from '../tensor.js';
import { type GpuDispatch, kernel, perGroup, perThread } from '../webgpu/kernel.js';
import { treeReduction } from '../webgpu/library.js';
import type { GpuTraits } from '../webgpu/traits.js';

const common = {
  params: { n: 'u32', T: 'u32', H: 'u32', Hk: 'u32', S: 'u32', R: 'i32', scale: 'f32' },
  uses: ['exp'],
  faults: true,
} as const;

/** One thread for a query head: no barriers, as suits adapters that compute on the CPU. */
const serial = (D: number) => {
  const wide = D % 4 === 0;
  const count = wide ? D / 4 : D;
  const type = wide ? 'vec4f' : 'f32';
  return kernel('attention.serial', [D], () => ({
    ...common,
    read: { q: type, k: type, v: type, keyRows: 'i32', visible: 'i32' },
    write: { y: type },
    body: `if (index >= p.n) { return; }
  let query = index / p.H;
  let kv = (index % p.H) / (p.H / p.Hk);
  let asked = visible[query];
  let limit = clamp(asked, 0, i32(p.S));
  if (limit != asked) { report(asked, query); }
  var result: array<${type}, ${count}>;
  var best = -3.4e38;
  var total = 0.0;
  for (var j = 0; j < limit; j++) {
    let row = keyRows[(query / p.T) * p.S + u32(j)];
    if (row < -1 || row >= p.R) { report(asked, query); }
    if (row < 0 || row >= p.R) { continue; }
    let at = (u32(row) * p.Hk + kv) * ${count}u;
    var score = 0.0;
    for (var d = 0u; d < ${count}u; d++) { score += ${wide ? 'dot(q[index * ' + count + 'u + d], k[at + d])' : 'q[index * ' + count + 'u + d] * k[at + d]'}; }
    score *= p.scale;
    let next = max(best, score);
    let keep = exp_f(best - next);
    let weight = exp_f(score - next);
    for (var d = 0u; d < ${count}u; d++) { result[d] = result[d] * keep + weight * v[at + d]; }
    total = total * keep + weight;
    best = next;
  }
  let inverse = select(0.0, 1.0 / total, total > 0.0);
  for (var d = 0u; d < ${count}u; d++) { y[index * ${count}u + d] = result[d] * inverse; }`,
  }));
};

const lanes = 64;

/** One workgroup for a query head: its lanes share out first the keys of a tile, then the channels. */
const tiled = (D: number) =>
  kernel('attention.tiled', [D], () => {
    const own = Math.ceil(D / lanes);
    return {
      ...common,
      read: { q: 'f32', k: 'f32', v: 'f32', keyRows: 'i32', visible: 'i32' },
      write: { y: 'f32' },
      workgroup: lanes,
      outside: `var<workgroup> query_values: array<f32, ${D}>;
var<workgroup> weights: array<f32, ${lanes}>;
var<workgroup> rows: array<i32, ${lanes}>;
var<workgroup> partial: array<f32, ${lanes}>;`,
      body: `if (group >= p.n) { return; }
  let query = group / p.H;
  let kv = (group % p.H) / (p.H / p.Hk);
  let asked = visible[query];
  let limit = clamp(asked, 0, i32(p.S));
  if (limit != asked && lane == 0u) { report(asked, query); }
  for (var d = lane; d < ${D}u; d += ${lanes}u) { query_values[d] = q[group * ${D}u + d]; }
  workgroupBarrier();
  var result: array<f32, ${own}>;
  var best = -3.4e38;
  var total = 0.0;
  for (var first = 0; first < limit; first += ${lanes}) {
    let j = first + i32(lane);
    var row = -1;
    if (j < limit) { row = keyRows[(query / p.T) * p.S + u32(j)]; }
    if (row < -1 || row >= p.R) {
      report(asked, query);
      row = -1;
    }
    var score = -3.4e38;
    if (row >= 0) {
      let at = (u32(row) * p.Hk + kv) * ${D}u;
      score = 0.0;
      for (var d = 0u; d < ${D}u; d++) { score += query_values[d] * k[at + d]; }
      score *= p.scale;
    }
    partial[lane] = score;
    ${treeReduction('partial', lanes, 'max(a, b)')}
    let next = max(best, partial[0]);
    workgroupBarrier();
    let weight = select(0.0, exp_f(score - next), row >= 0);
    weights[lane] = weight;
    rows[lane] = max(row, 0);
    partial[lane] = weight;
    ${treeReduction('partial', lanes, 'a + b')}
    let keep = exp_f(best - next);
    total = total * keep + partial[0];
    best = next;
    let count = min(limit - first, ${lanes});
    for (var o = 0u; o < ${own}u; o++) {
      let d = lane + o * ${lanes}u;
      if (d < ${D}u) {
        var sum = result[o] * keep;
        for (var i = 0; i < count; i++) { sum += weights[i] * v[(u32(rows[i]) * p.Hk + kv) * ${D}u + d]; }
        result[o] = sum;
      }
    }
    workgroupBarrier();
  }
  let inverse = select(0.0, 1.0 / total, total > 0.0);
  for (var o = 0u; o < ${own}u; o++) {
    let d = lane + o * ${lanes}u;
    if (d < ${D}u) { y[group * ${D}u + d] = result[o] * inverse; }
  }`,
    };
  });

/** Online softmax (Milakov & Gimelshein 2018) over the keys in their order: a query's result does not depend on T, B or S. */
export function attentionWgsl(
  inputs: readonly Tensor[],
  attrs: { readonly scale: number },
  outputs: readonly Tensor[],
  traits: GpuTraits,
): GpuDispatch[] {
  const [q, k, v, keyRows, visible] = inputs as [Tensor, Tensor, Tensor, Tensor, Tensor];
  const [B, T, H, D] = q.shape as [number, number, number, number];
  if (q.size === 0) return [];
  const S = keyRows.shape[1]!;
  const R = k.shape[0]!;
  const call = {
    bind: [q, k, v, keyRows, visible, outputs[0]!],
    params: { n: B * T * H, T, H, Hk: k.shape[1]!, S, R, scale: attrs.scale },
    fault: {
      key: `attention ${T} ${S} ${R}`,
      describe: (asked: number, query: number) =>
        `attention: query (${Math.floor(query / T)}, ${query % T}) has visible ${asked}; it must be in 0..${S}, and the keyRows that it sees in -1..${R - 1}`,
    },
  };
  return traits.software ? [perThread(serial(D), B * T * H, traits, call)] : [perGroup(tiled(D), B * T * H, traits, call)];
}
