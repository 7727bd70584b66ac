struct Params { rows: u32, V: u32, ignore: i32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<i32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
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
fn max_f(a: f32, b: f32) -> f32 { return select(select(max(a, b), b, is_nan(b)), a, is_nan(a)); }
fn min_f(a: f32, b: f32) -> f32 { return select(select(min(a, b), b, is_nan(b)), a, is_nan(a)); }
var<workgroup> shared_values: array<f32, 128>;
@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 128u + lane;
  if (group >= p.rows) { return; }
  let target_id = targets[group];
  let start = group * p.V;
  if (target_id == p.ignore || target_id < 0 || target_id >= i32(p.V)) {
    for (var i = lane; i < p.V; i += 128u) { y[start + i] = 0.0; }
    return;
  }
  var best = of_bits(0xff800000u);
  for (var i = lane; i < p.V; i += 128u) { best = max_f(best, logits[start + i]); }
  shared_values[lane] = best;
  for (var step = 64u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      let a = shared_values[lane];
      let b = shared_values[lane + step];
      shared_values[lane] = max_f(a, b);
    }
  }
  workgroupBarrier();
  let shift = shared_values[0];
  workgroupBarrier();
  var sum = 0.0;
  for (var i = lane; i < p.V; i += 128u) { sum += exp_f(logits[start + i] - shift); }
  shared_values[lane] = sum;
  for (var step = 64u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      let a = shared_values[lane];
      let b = shared_values[lane + step];
      shared_values[lane] = a + b;
    }
  }
  workgroupBarrier();
  let total = shared_values[0];
  for (var i = lane; i < p.V; i += 128u) {
    let share = exp_f(logits[start + i] - shift) / total;
    y[start + i] = g[group] * (share - select(0.0, 1.0, i == u32(target_id)));
  }
}
