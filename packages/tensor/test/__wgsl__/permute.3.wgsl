struct Params { n: u32, d2: u32, s2: u32, d1: u32, s1: u32, d0: u32, s0: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.n) { return; }
  var rest = index;
  var source = 0u;
  source += (rest % p.d2) * p.s2; rest /= p.d2;
  source += (rest % p.d1) * p.s1; rest /= p.d1;
  source += (rest % p.d0) * p.s0; rest /= p.d0;
  y[index] = x[source];
}
