import type { Tensor } from '../tensor.js';
import { type GpuDispatch, kernel, perThread, Scratch } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';

const params = { n: 'u32', B: 'u32', T: 'u32', H: 'u32', Hk: 'u32', S: 'u32', R: 'i32', scale: 'f32' } as const;

/** A thread for a query head: dq, and what the other kernel needs of the softmax: log of its sum, and the mean of g . v. */
const queries = (D: number) =>
  kernel('attentionGrad.queries', [D], () => {
    const walk = (body: string) => `for (var j = 0; j < limit; j++) {
    let row = keyRows[(query / p.T) * p.S + u32(j)];
    if (row < 0 || row >= p.R) { continue; }
    let at = (u32(row) * p.Hk + kv) * ${D}u;
    var score = 0.0;
    var along = 0.0;
    for (var d = 0u; d < ${D}u; d++) {
      score += q[index * ${D}u + d] * k[at + d];
      along += g[index * ${D}u + d] * v[at + d];
    }
    score *= p.scale;
    ${body}
  }`;
    return {
      params,
      uses: ['exp', 'log'],
      read: { q: 'f32', k: 'f32', v: 'f32', keyRows: 'i32', visible: 'i32', g: 'f32' },
      write: { dq: 'f32', stats: 'vec2f' },
      body: `if (index >= p.n) { return; }
  let query = index / p.H;
  let kv = (index % p.H) / (p.H / p.Hk);
  let limit = clamp(visible[query], 0, i32(p.S));
  var best = -3.4e38;
  var total = 0.0;
  var mean = 0.0;
  ${walk(`let next = max(best, score);
    let keep = exp_f(best - next);
    let weight = exp_f(score - next);
    total = total * keep + weight;
    mean = mean * keep + weight * along;
    best = next;`)}
  mean = select(0.0, mean / total, total > 0.0);
  let shift = select(0.0, best + log_f(total), total > 0.0);
  stats[index] = vec2f(shift, mean);
  var result: array<f32, ${D}>;
  ${walk(`let weight = exp_f(score - shift) * (along - mean) * p.scale;
    for (var d = 0u; d < ${D}u; d++) { result[d] += weight * k[at + d]; }`)}
  for (var d = 0u; d < ${D}u; d++) { dq[index * ${D}u + d] = result[d]; }`,
    };
  });

/** A thread for a pool row and key head looks for the queries that see it: dk or dv. */
const keys = (D: number, of: 'dk' | 'dv') =>
  kernel('attentionGrad.keys', [of, D], () => ({
    params,
    uses: ['exp'],
    read: { q: 'f32', k: 'f32', ...(of === 'dk' ? { v: 'f32' } : {}), keyRows: 'i32', visible: 'i32', g: 'f32', stats: 'vec2f' },
    write: { y: 'f32' },
    body: `if (index >= p.n) { return; }
  let row = i32(index / p.Hk);
  let kv = index % p.Hk;
  let group_size = p.H / p.Hk;
  let at = index * ${D}u;
  var result: array<f32, ${D}>;
  for (var b = 0u; b < p.B; b++) {
    for (var j = 0u; j < p.S; j++) {
      if (keyRows[b * p.S + j] != row) { continue; }
      for (var t = 0u; t < p.T; t++) {
        let query = b * p.T + t;
        if (visible[query] <= i32(j)) { continue; }
        for (var h = kv * group_size; h < (kv + 1u) * group_size; h++) {
          let head = query * p.H + h;
          var score = 0.0;
          for (var d = 0u; d < ${D}u; d++) { score += q[head * ${D}u + d] * k[at + d]; }
          ${
            of === 'dk'
              ? `var along = 0.0;
          for (var d = 0u; d < ${D}u; d++) { along += g[head * ${D}u + d] * v[at + d]; }
          let weight = exp_f(score * p.scale - stats[head].x) * (along - stats[head].y) * p.scale;
          for (var d = 0u; d < ${D}u; d++) { result[d] += weight * q[head * ${D}u + d]; }`
              : `let weight = exp_f(score * p.scale - stats[head].x);
          for (var d = 0u; d < ${D}u; d++) { result[d] += weight * g[head * ${D}u + d]; }`
          }
        }
      }
    }
  }
  for (var d = 0u; d < ${D}u; d++) { y[at + d] = result[d]; }`,
  }));

export function attentionGradWgsl(
  inputs: readonly Tensor[],
  attrs: { readonly scale: number },
  outputs: readonly Tensor[],
  traits: GpuTraits,
): GpuDispatch[] {
  const [q, k, v, keyRows, visible, g] = inputs as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  const [dq, dk, dv] = outputs as [Tensor, Tensor, Tensor];
  const [B, T, H, D] = q.shape as [number, number, number, number];
  const [R, Hk] = k.shape as [number, number];
  const heads = B * T * H;
  const stats = new Scratch(Math.max(1, heads) * 8);
  const common = { B, T, H, Hk, S: keyRows.shape[1]!, R, scale: attrs.scale };
  const dispatches: GpuDispatch[] = [];
  if (heads > 0 && D > 0)
    dispatches.push(
      perThread(queries(D), heads, traits, { bind: [q, k, v, keyRows, visible, g, dq, stats], params: { ...common, n: heads } }),
    );
  if (k.size === 0) return dispatches;
  // Without queries the loops find nothing, and the operands that are empty are not read.
  dispatches.push(
    perThread(keys(D, 'dk'), R * Hk, traits, { bind: [q, k, v, keyRows, visible, g, stats, dk], params: { ...common, n: R * Hk } }),
  );
  dispatches.push(
    perThread(keys(D, 'dv'), R * Hk, traits, { bind: [q, k, keyRows, visible, g, stats, dv], params: { ...common, n: R * Hk } }),
  );
  return dispatches;
}
