struct Params { rows: u32, C: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> w: array<f32>;
@group(0) @binding(4) var<storage, read> w2: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> y2: array<f32>;
var<workgroup> sums: array<vec2f, 128>;
@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 128u + lane;
  if (group >= p.rows) { return; }
  let start = group * p.C;
  // The second norm is over the first one's output: its sum of squares is gathered without the factor that is not known yet.
  var sum = vec2f();
  for (var c = lane; c < p.C; c += 128u) {
    let v = a[start + c] + b[start + c];
    let scaled = v * w[c];
    sum += vec2f(v * v, scaled * scaled);
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
  let scale2 = inverseSqrt(scale * scale * sums[0].y / f32(p.C) + p.eps);
  for (var c = lane; c < p.C; c += 128u) {
    let v = (a[start + c] + b[start + c]) * scale * w[c];
    y[start + c] = v;
    y2[start + c] = v * scale2 * w2[c];
  }
}
