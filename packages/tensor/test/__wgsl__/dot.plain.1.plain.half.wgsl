enable f16;
struct Params { M: u32, N: u32, K: u32, K1: u32, n0: u32, NC: u32, z0: u32, stepA: u32, stepB: u32, stepC: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
var<workgroup> partial: array<vec4f, 64>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  let n = group * 4u;
  if (n >= p.N) { return; }
  let K4 = p.K / 4u;
  
  let startA = (wg.z + p.z0) * p.stepA / 4u;
  let startB = (wg.z + p.z0) * p.stepB / 4u;
  let c0 = startB + min(n + 0u, p.N - 1u) * K4;
  let c1 = startB + min(n + 1u, p.N - 1u) * K4;
  let c2 = startB + min(n + 2u, p.N - 1u) * K4;
  let c3 = startB + min(n + 3u, p.N - 1u) * K4;
  let m0 = min(0u, p.M - 1u);
  var sum0 = vec4f();
  for (var k = lane; k < K4; k += 64u) {
    let b0 = vec4f(b[c0 + k]);
  let b1 = vec4f(b[c1 + k]);
  let b2 = vec4f(b[c2 + k]);
  let b3 = vec4f(b[c3 + k]);
    
    
    {
      let x = a[startA + m0 * K4 + k];
      sum0 += vec4f(dot(x, b0), dot(x, b1), dot(x, b2), dot(x, b3));
    }
  }
  partial[lane * 1u + 0u] = sum0;
  for (var step = 32u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      for (var i = 0u; i < 1u; i++) { partial[lane * 1u + i] += partial[(lane + step) * 1u + i]; }
    }
  }
  workgroupBarrier();
  if (lane < 1u && lane < p.M) {
    var sum = partial[0u + 0u + lane];
    
    
    let dots = sum;
    let to = (wg.z + p.z0) * p.stepC + lane * p.NC + p.n0 + n;
    for (var j = 0u; j < 4u; j++) {
      if (n + j < p.N) { c[to + j] = dots[j]; }
    }
  }
}
