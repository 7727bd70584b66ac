struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
fn atan_f(v: f32) -> f32 {
  let a = abs(v);
  let large = a > 2.414213562373095;
  let middle = a > 0.414213562373095 && !large;
  let z = select(select(a, (a - 1.0) / (a + 1.0), middle), -1.0 / a, large);
  let start = select(select(0.0, 0.7853981633974483, middle), 1.5707963267948966, large);
  let w = z * z;
  var p = 8.05374449538e-2;
  p = p * w - 1.38776856032e-1;
  p = p * w + 1.99777106478e-1;
  p = p * w - 3.33329491539e-1;
  let y = start + (p * w * z + z);
  return bitcast<f32>(bitcast<u32>(y) | (bitcast<u32>(v) & 0x80000000u));
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.n) { return; }
  let v = x[index];
  y[index] = atan_f(v);
}
