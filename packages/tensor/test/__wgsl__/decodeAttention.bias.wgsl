struct Params { n: u32, row: u32, biased: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.n) { return; }
  let at = index % p.row;
  var value = x[index];
  if (at < p.biased) { value += bias[at]; }
  y[index] = value;
}
