struct Params { n: u32, width: u32, srcStart: u32, srcStep: u32, dstStart: u32, dstStep: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.n) { return; }
  let run = index / p.width;
  let at = index % p.width;
  y[p.dstStart + run * p.dstStep + at] = x[p.srcStart + run * p.srcStep + at];
}
