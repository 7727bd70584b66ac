import type { Tensor } from '../tensor.js';
import { type GpuDispatch, kernel, type Operand, perGroup, perThread, Scratch } from '../webgpu/kernel.js';
import { treeReduction } from '../webgpu/library.js';
import type { GpuTraits } from '../webgpu/traits.js';

const params = {
  n: 'u32',
  B: 'u32',
  H: 'u32',
  Hk: 'u32',
  S: 'u32',
  R: 'i32',
  P: 'i32',
  call: 'u32',
  scale: 'f32',
} as const;

const lanes = 64;

// What every thread of a query head knows: its sequence b and key head kv, where its keys are named, and the pool row of the newest token.
// Nobody reads that row from the pool: who writes it is another thread of the same dispatch.
const begin = (head: string, reports: string) => `let b = ${head} / p.H;
  let h = ${head} % p.H;
  let per = p.H / p.Hk;
  let kv = h / per;
  let asked = visible[b];
  let limit = clamp(asked, 0, i32(p.S));
  let names = (p.call * p.B + b) * p.S;
  let last = limit - 1;
  var own = -1;
  if (last >= 0) { own = keyRows[names + u32(last)]; }
  if (${reports}(limit != asked || own < -1 || own >= p.R)) { report(asked, b); }
  if (own >= p.R) { own = -1; }
  let turned = last >= 0 && last < p.P;
  let start = b * (p.H + 2u * p.Hk);`;

/** One thread for a query head, in vectors of W values: no barriers, as suits adapters that compute on the CPU. */
const serial = (D: number, biased: boolean) => {
  const W = D % 4 === 0 ? 4 : 2;
  const count = D / W;
  const type = `vec${W}f`;
  const rotated = (v: string) =>
    W === 4
      ? `vec4f(${v}.x * cs.x - ${v}.y * cs.y, ${v}.x * cs.y + ${v}.y * cs.x, ${v}.z * cs.z - ${v}.w * cs.w, ${v}.z * cs.w + ${v}.w * cs.z)`
      : `vec2f(${v}.x * cs.x - ${v}.y * cs.y, ${v}.x * cs.y + ${v}.y * cs.x)`;
  const bias = (head: string) => (biased ? ` + bias[${head} * ${count}u + d]` : '');
  return kernel('decodeAttention.serial', [D, biased], () => ({
    params,
    uses: ['exp'],
    faults: true,
    read: { qkv: type, table: type, keyRows: 'i32', visible: 'i32', ...(biased ? { bias: type } : {}) },
    write: { k: type, v: type, y: type },
    body: `if (index >= p.n) { return; }
  ${begin('index', '')}
  var query: array<${type}, ${count}>;
  var key: array<${type}, ${count}>;
  for (var d = 0u; d < ${count}u; d++) {
    var cs = ${W === 4 ? 'vec4f(1.0, 0.0, 1.0, 0.0)' : 'vec2f(1.0, 0.0)'};
    if (turned) { cs = table[u32(last) * ${count}u + d]; }
    let q0 = qkv[(start + h) * ${count}u + d]${bias('h')};
    let k0 = qkv[(start + p.H + kv) * ${count}u + d]${bias('(p.H + kv)')};
    query[d] = ${rotated('q0')};
    key[d] = ${rotated('k0')};
  }
  let values = (start + p.H + p.Hk + kv) * ${count}u;
  if (own >= 0 && h % per == 0u) {
    for (var d = 0u; d < ${count}u; d++) {
      k[(u32(own) * p.Hk + kv) * ${count}u + d] = key[d];
      v[(u32(own) * p.Hk + kv) * ${count}u + d] = qkv[values + d];
    }
  }
  var result: array<${type}, ${count}>;
  var best = -3.4e38;
  var total = 0.0;
  for (var j = 0; j < limit; j++) {
    var row = own;
    if (j < last) { row = keyRows[names + u32(j)]; }
    if (row < -1 || row >= p.R) { report(asked, b); }
    if (row < 0 || row >= p.R) { continue; }
    let at = (u32(row) * p.Hk + kv) * ${count}u;
    var score = 0.0;
    if (j < last) {
      for (var d = 0u; d < ${count}u; d++) { score += dot(query[d], k[at + d]); }
    } else {
      for (var d = 0u; d < ${count}u; d++) { score += dot(query[d], key[d]); }
    }
    score *= p.scale;
    let next = max(best, score);
    let keep = exp_f(best - next);
    let weight = exp_f(score - next);
    if (j < last) {
      for (var d = 0u; d < ${count}u; d++) { result[d] = result[d] * keep + weight * v[at + d]; }
    } else {
      for (var d = 0u; d < ${count}u; d++) { result[d] = result[d] * keep + weight * qkv[values + d]; }
    }
    total = total * keep + weight;
    best = next;
  }
  let inverse = select(0.0, 1.0 / total, total > 0.0);
  for (var d = 0u; d < ${count}u; d++) { y[index * ${count}u + d] = result[d] * inverse; }`,
  }));
};

/** One workgroup for a query head: its lanes share out first the keys of a tile, then the channels. */
const tiled = (D: number, biased: boolean) =>
  kernel('decodeAttention.tiled', [D, biased], () => {
    const share = Math.ceil(D / lanes);
    const bias = (head: string, at: string) => (biased ? ` + bias[${head} * ${D}u + ${at}]` : '');
    return {
      params,
      uses: ['exp'],
      faults: true,
      read: { qkv: 'f32', table: 'f32', keyRows: 'i32', visible: 'i32', ...(biased ? { bias: 'f32' } : {}) },
      write: { k: 'f32', v: 'f32', y: 'f32' },
      workgroup: lanes,
      outside: `var<workgroup> query: array<f32, ${D}>;
var<workgroup> key: array<f32, ${D}>;
var<workgroup> weights: array<f32, ${lanes}>;
var<workgroup> rows: array<i32, ${lanes}>;
var<workgroup> partial: array<f32, ${lanes}>;`,
      body: `if (group >= p.n) { return; }
  ${begin('group', 'lane == 0u && ')}
  for (var i = lane * 2u; i < ${D}u; i += ${lanes * 2}u) {
    var c = 1.0;
    var s = 0.0;
    if (turned) {
      c = table[u32(last) * ${D}u + i];
      s = table[u32(last) * ${D}u + i + 1u];
    }
    let q0 = qkv[(start + h) * ${D}u + i]${bias('h', 'i')};
    let q1 = qkv[(start + h) * ${D}u + i + 1u]${bias('h', 'i + 1u')};
    let k0 = qkv[(start + p.H + kv) * ${D}u + i]${bias('(p.H + kv)', 'i')};
    let k1 = qkv[(start + p.H + kv) * ${D}u + i + 1u]${bias('(p.H + kv)', 'i + 1u')};
    query[i] = q0 * c - q1 * s;
    query[i + 1u] = q0 * s + q1 * c;
    key[i] = k0 * c - k1 * s;
    key[i + 1u] = k0 * s + k1 * c;
  }
  workgroupBarrier();
  let values = (start + p.H + p.Hk + kv) * ${D}u;
  if (own >= 0 && h % per == 0u) {
    for (var d = lane; d < ${D}u; d += ${lanes}u) {
      k[(u32(own) * p.Hk + kv) * ${D}u + d] = key[d];
      v[(u32(own) * p.Hk + kv) * ${D}u + d] = qkv[values + d];
    }
  }
  var result: array<f32, ${share}>;
  var best = -3.4e38;
  var total = 0.0;
  for (var first = 0; first < limit; first += ${lanes}) {
    let j = first + i32(lane);
    var row = -1;
    if (j < last) { row = keyRows[names + u32(j)]; }
    if (j == last) { row = own; }
    if (row < -1 || row >= p.R) {
      report(asked, b);
      row = -1;
    }
    var score = -3.4e38;
    if (row >= 0) {
      let at = (u32(row) * p.Hk + kv) * ${D}u;
      score = 0.0;
      if (j < last) {
        for (var d = 0u; d < ${D}u; d++) { score += query[d] * k[at + d]; }
      } else {
        for (var d = 0u; d < ${D}u; d++) { score += query[d] * key[d]; }
      }
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
    let count = min(last - first, ${lanes});
    for (var o = 0u; o < ${share}u; o++) {
      let d = lane + o * ${lanes}u;
      if (d < ${D}u) {
        var sum = result[o] * keep;
        for (var i = 0; i < count; i++) { sum += weights[i] * v[(u32(rows[i]) * p.Hk + kv) * ${D}u + d]; }
        if (count >= 0 && count < ${lanes}) { sum += weights[count] * qkv[values + d]; }
        result[o] = sum;
      }
    }
    workgroupBarrier();
  }
  let inverse = select(0.0, 1.0 / total, total > 0.0);
  for (var o = 0u; o < ${share}u; o++) {
    let d = lane + o * ${lanes}u;
    if (d < ${D}u) { y[group * ${D}u + d] = result[o] * inverse; }
  }`,
    };
  });

const biasKernel = () =>
  kernel('decodeAttention.bias', [], () => ({
    params: { n: 'u32', row: 'u32', biased: 'u32' },
    read: { x: 'f32', bias: 'f32' },
    write: { y: 'f32' },
    body: `if (index >= p.n) { return; }
  let at = index % p.row;
  var value = x[index];
  if (at < p.biased) { value += bias[at]; }
  y[index] = value;`,
  }));

/** What is wrong with a sequence's numbers. */
export const badStep = (visible: number, sequence: number, S: number, R: number): string =>
  `decodeAttention: sequence ${sequence} has visible ${visible}; it must be in 0..${S}, and the keyRows that it sees in -1..${R - 1}`;

/** The sums run over the keys in their order, the newest last, as those of `attention` do. */
export function decodeAttentionWgsl(
  [qkv, table, k, v, keyRows, visible, bias]: readonly Tensor[],
  sizes: { B: number; H: number; Hk: number; D: number; S: number; R: number; P: number; call: number; scale: number },
  y: Tensor,
  traits: GpuTraits,
): GpuDispatch[] {
  const { B, H, Hk, D, S, R, P, call, scale } = sizes;
  if (y.size === 0) return [];
  const dispatches: GpuDispatch[] = [];
  let from: Operand = qkv!;
  // Nine arrays with the bias and the fault record; WebGPU promises eight.
  const biased = bias !== undefined && traits.storageBuffers >= 9;
  if (bias !== undefined && !biased) {
    from = new Scratch(qkv!.storage.bytes);
    const row = (H + 2 * Hk) * D;
    const params = { n: B * row, row, biased: (H + Hk) * D };
    dispatches.push(perThread(biasKernel(), B * row, traits, { bind: [qkv!, bias, from], params }));
  }
  const given = {
    bind: [from, table!, keyRows!, visible!, ...(biased ? [bias] : []), k!, v!, y],
    params: { n: B * H, B, H, Hk, S, R, P, call, scale },
    fault: {
      key: `decodeAttention ${S} ${R}`,
      describe: (asked: number, sequence: number) => badStep(asked, sequence, S, R),
    },
  };
  dispatches.push(traits.software ? perThread(serial(D, biased), B * H, traits, given) : perGroup(tiled(D, biased), B * H, traits, given));
  return dispatches;
}
