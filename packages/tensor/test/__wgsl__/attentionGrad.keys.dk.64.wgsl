struct Params { n: u32, B: u32, T: u32, H: u32, Hk: u32, S: u32, R: i32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> keyRows: array<i32>;
@group(0) @binding(5) var<storage, read> visible: array<i32>;
@group(0) @binding(6) var<storage, read> g: array<f32>;
@group(0) @binding(7) var<storage, read> stats: array<vec2f>;
@group(0) @binding(8) var<storage, read_write> y: array<f32>;
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
  let row = i32(index / p.Hk);
  let kv = index % p.Hk;
  let group_size = p.H / p.Hk;
  let at = index * 64u;
  var result: array<f32, 64>;
  for (var b = 0u; b < p.B; b++) {
    for (var j = 0u; j < p.S; j++) {
      if (keyRows[b * p.S + j] != row) { continue; }
      for (var t = 0u; t < p.T; t++) {
        let query = b * p.T + t;
        if (visible[query] <= i32(j)) { continue; }
        for (var h = kv * group_size; h < (kv + 1u) * group_size; h++) {
          let head = query * p.H + h;
          var score = 0.0;
          for (var d = 0u; d < 64u; d++) { score += q[head * 64u + d] * k[at + d]; }
          var along = 0.0;
          for (var d = 0u; d < 64u; d++) { along += g[head * 64u + d] * v[at + d]; }
          let weight = exp_f(score * p.scale - stats[head].x) * (along - stats[head].y) * p.scale;
          for (var d = 0u; d < 64u; d++) { result[d] += weight * q[head * 64u + d]; }
        }
      }
    }
  }
  for (var d = 0u; d < 64u; d++) { y[at + d] = result[d]; }
}
