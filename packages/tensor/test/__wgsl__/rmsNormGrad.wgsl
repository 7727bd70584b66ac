struct Params { rows: u32, C: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> g: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage, read_write> scales: array<f32>;
var<workgroup> sums: array<vec2f, 128>;
@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 128u + lane;
  if (group >= p.rows) { return; }
  let start = group * p.C;
  var sum = vec2f(0.0, 0.0);
  for (var c = lane; c < p.C; c += 128u) {
    let v = x[start + c];
    sum += vec2f(v * v, g[start + c] * w[c] * v);
  }
  sums[lane] = sum;
  for (var step = 64u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      let a = sums[lane];
      let b = sums[lane + step];
      sums[lane] = a + b;
    }
  }
  workgroupBarrier();
  let scale = inverseSqrt(sums[0].x / f32(p.C) + p.eps);
  let back = scale * scale * scale * sums[0].y / f32(p.C);
  for (var c = lane; c < p.C; c += 128u) { dx[start + c] = g[start + c] * w[c] * scale - x[start + c] * back; }
  if (lane == 0u) { scales[group] = scale; }
}
