struct Params { n: u32, half: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
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
fn sigmoid_f(v: f32) -> f32 {
  let t = exp_f(-abs(v));
  return select(1.0, t, v < 0.0) / (1.0 + t);
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.n) { return; }
  let at = index + (index / p.half) * p.half;
  let gate = x[at];
  let s = sigmoid_f(gate);
  let silu = gate * s;
  dx[at] = g[index] * x[at + p.half] * (s + silu * (1.0 - s));
  dx[at + p.half] = g[index] * silu;
}
