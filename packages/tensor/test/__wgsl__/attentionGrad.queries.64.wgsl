struct Params { n: u32, B: u32, T: u32, H: u32, Hk: u32, S: u32, R: i32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> keyRows: array<i32>;
@group(0) @binding(5) var<storage, read> visible: array<i32>;
@group(0) @binding(6) var<storage, read> g: array<f32>;
@group(0) @binding(7) var<storage, read_write> dq: array<f32>;
@group(0) @binding(8) var<storage, read_write> stats: array<vec2f>;
fn of_bits(b: u32) -> f32 { return bitcast<f32>(b); }
fn is_nan(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }
fn exp_f(v: f32) -> f32 {
  let x = clamp(v, -104.0, 89.0);
  let n = round(x * 1.4426950408889634);
  let r = (x - n * 0.693359375) + n * 2.12194440e-4;
  var p = 1.9875691500e-4;
  p = p * r + 1.3981999507e-3;
  p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2;
  p = p * r + 1.6666665459e-1;
  p = p * r + 5.0000001201e-1;
  p = (p * (r * r) + r) + 1.0;
  let i = i32(n);
  let h = i >> 1u;
  let y = (p * bitcast<f32>(u32(h + 127) << 23u)) * bitcast<f32>(u32(i - h + 127) << 23u);
  return select(y, v, is_nan(v));
}
fn log_f(v: f32) -> f32 {
  let b = bitcast<u32>(v);
  let zero = (b & 0x7fffffffu) < 0x00800000u;
  var e = f32(i32(b >> 23u) - 126);
  var m = bitcast<f32>((b & 0x007fffffu) | 0x3f000000u);
  if (m < 0.70710678) { e -= 1.0; m = m + m - 1.0; } else { m = m - 1.0; }
  let z = m * m;
  var p = 7.0376836292e-2;
  p = p * m - 1.1514610310e-1;
  p = p * m + 1.1676998740e-1;
  p = p * m - 1.2420140846e-1;
  p = p * m + 1.4249322787e-1;
  p = p * m - 1.6668057665e-1;
  p = p * m + 2.0000714765e-1;
  p = p * m - 2.4999993993e-1;
  p = p * m + 3.3333331174e-1;
  p = p * m * z;
  p = p - e * 2.12194440e-4;
  p = p - z * 0.5;
  var y = (m + p) + e * 0.693359375;
  // Subnormals count as 0: a GPU may flush them anyway.
  y = select(y, of_bits(0xff800000u), zero);
  y = select(y, of_bits(0x7fc00000u), (b >> 31u) != 0u && !zero);
  return select(y, v, b == 0x7f800000u || is_nan(v));
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.n) { return; }
  let query = index / p.H;
  let kv = (index % p.H) / (p.H / p.Hk);
  let limit = clamp(visible[query], 0, i32(p.S));
  var best = -3.4e38;
  var total = 0.0;
  var mean = 0.0;
  for (var j = 0; j < limit; j++) {
    let row = keyRows[(query / p.T) * p.S + u32(j)];
    if (row < 0 || row >= p.R) { continue; }
    let at = (u32(row) * p.Hk + kv) * 64u;
    var score = 0.0;
    var along = 0.0;
    for (var d = 0u; d < 64u; d++) {
      score += q[index * 64u + d] * k[at + d];
      along += g[index * 64u + d] * v[at + d];
    }
    score *= p.scale;
    let next = max(best, score);
    let keep = exp_f(best - next);
    let weight = exp_f(score - next);
    total = total * keep + weight;
    mean = mean * keep + weight * along;
    best = next;
  }
  mean = select(0.0, mean / total, total > 0.0);
  let shift = select(0.0, best + log_f(total), total > 0.0);
  stats[index] = vec2f(shift, mean);
  var result: array<f32, 64>;
  for (var j = 0; j < limit; j++) {
    let row = keyRows[(query / p.T) * p.S + u32(j)];
    if (row < 0 || row >= p.R) { continue; }
    let at = (u32(row) * p.Hk + kv) * 64u;
    var score = 0.0;
    var along = 0.0;
    for (var d = 0u; d < 64u; d++) {
      score += q[index * 64u + d] * k[at + d];
      along += g[index * 64u + d] * v[at + d];
    }
    score *= p.scale;
    let weight = exp_f(score - shift) * (along - mean) * p.scale;
    for (var d = 0u; d < 64u; d++) { result[d] += weight * k[at + d]; }
  }
  for (var d = 0u; d < 64u; d++) { dq[index * 64u + d] = result[d]; }
}
