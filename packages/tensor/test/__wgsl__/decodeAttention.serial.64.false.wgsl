struct Params { n: u32, B: u32, H: u32, Hk: u32, S: u32, R: i32, P: i32, call: u32, scale: f32, site: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4f>;
@group(0) @binding(2) var<storage, read> table: array<vec4f>;
@group(0) @binding(3) var<storage, read> keyRows: array<i32>;
@group(0) @binding(4) var<storage, read> visible: array<i32>;
@group(0) @binding(5) var<storage, read_write> k: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> y: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> fault: array<atomic<u32>, 3>;
fn report(value: i32, place: u32) {
  loop {
    let seen = atomicCompareExchangeWeak(&fault[0], 0u, p.site);
    if (seen.exchanged) {
      atomicStore(&fault[1], bitcast<u32>(value));
      atomicStore(&fault[2], place);
    }
    if (seen.exchanged || seen.old_value != 0u) { break; }
  }
}

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
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.n) { return; }
  let b = index / p.H;
  let h = index % p.H;
  let per = p.H / p.Hk;
  let kv = h / per;
  let asked = visible[b];
  let limit = clamp(asked, 0, i32(p.S));
  let names = (p.call * p.B + b) * p.S;
  let last = limit - 1;
  var own = -1;
  if (last >= 0) { own = keyRows[names + u32(last)]; }
  if ((limit != asked || own < -1 || own >= p.R)) { report(asked, b); }
  if (own >= p.R) { own = -1; }
  let turned = last >= 0 && last < p.P;
  let start = b * (p.H + 2u * p.Hk);
  var query: array<vec4f, 16>;
  var key: array<vec4f, 16>;
  for (var d = 0u; d < 16u; d++) {
    var cs = vec4f(1.0, 0.0, 1.0, 0.0);
    if (turned) { cs = table[u32(last) * 16u + d]; }
    let q0 = qkv[(start + h) * 16u + d];
    let k0 = qkv[(start + p.H + kv) * 16u + d];
    query[d] = vec4f(q0.x * cs.x - q0.y * cs.y, q0.x * cs.y + q0.y * cs.x, q0.z * cs.z - q0.w * cs.w, q0.z * cs.w + q0.w * cs.z);
    key[d] = vec4f(k0.x * cs.x - k0.y * cs.y, k0.x * cs.y + k0.y * cs.x, k0.z * cs.z - k0.w * cs.w, k0.z * cs.w + k0.w * cs.z);
  }
  let values = (start + p.H + p.Hk + kv) * 16u;
  if (own >= 0 && h % per == 0u) {
    for (var d = 0u; d < 16u; d++) {
      k[(u32(own) * p.Hk + kv) * 16u + d] = key[d];
      v[(u32(own) * p.Hk + kv) * 16u + d] = qkv[values + d];
    }
  }
  var result: array<vec4f, 16>;
  var best = -3.4e38;
  var total = 0.0;
  for (var j = 0; j < limit; j++) {
    var row = own;
    if (j < last) { row = keyRows[names + u32(j)]; }
    if (row < -1 || row >= p.R) { report(asked, b); }
    if (row < 0 || row >= p.R) { continue; }
    let at = (u32(row) * p.Hk + kv) * 16u;
    var score = 0.0;
    if (j < last) {
      for (var d = 0u; d < 16u; d++) { score += dot(query[d], k[at + d]); }
    } else {
      for (var d = 0u; d < 16u; d++) { score += dot(query[d], key[d]); }
    }
    score *= p.scale;
    let next = max(best, score);
    let keep = exp_f(best - next);
    let weight = exp_f(score - next);
    if (j < last) {
      for (var d = 0u; d < 16u; d++) { result[d] = result[d] * keep + weight * v[at + d]; }
    } else {
      for (var d = 0u; d < 16u; d++) { result[d] = result[d] * keep + weight * qkv[values + d]; }
    }
    total = total * keep + weight;
    best = next;
  }
  let inverse = select(0.0, 1.0 / total, total > 0.0);
  for (var d = 0u; d < 16u; d++) { y[index * 16u + d] = result[d] * inverse; }
}
