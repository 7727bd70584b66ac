struct Params { M: u32, N: u32, K: u32, K1: u32, n0: u32, NC: u32, z0: u32, stepA: u32, stepB: u32, stepC: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec2u>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
fn wide_f(h: vec4u) -> vec4f { return bitcast<vec4f>(h << vec4u(16u)); }
fn b_at(i: u32) -> vec4f { let h = b[i]; return wide_f(vec4u(h.x & 0xffffu, h.x >> 16u, h.y & 0xffffu, h.y >> 16u)); }
var<workgroup> partial: array<vec4f, 256>;
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
  let m1 = min(1u, p.M - 1u);
  let m2 = min(2u, p.M - 1u);
  let m3 = min(3u, p.M - 1u);
  var sum0 = vec4f();
  var sum1 = vec4f();
  var sum2 = vec4f();
  var sum3 = vec4f();
  for (var k = lane; k < K4; k += 64u) {
    let b0 = b_at(c0 + k);
  let b1 = b_at(c1 + k);
  let b2 = b_at(c2 + k);
  let b3 = b_at(c3 + k);
    
    
    {
      let x = a[startA + m0 * K4 + k];
      sum0 += vec4f(dot(x, b0), dot(x, b1), dot(x, b2), dot(x, b3));
    }
  {
      let x = a[startA + m1 * K4 + k];
      sum1 += vec4f(dot(x, b0), dot(x, b1), dot(x, b2), dot(x, b3));
    }
  {
      let x = a[startA + m2 * K4 + k];
      sum2 += vec4f(dot(x, b0), dot(x, b1), dot(x, b2), dot(x, b3));
    }
  {
      let x = a[startA + m3 * K4 + k];
      sum3 += vec4f(dot(x, b0), dot(x, b1), dot(x, b2), dot(x, b3));
    }
  }
  partial[lane * 4u + 0u] = sum0;
  partial[lane * 4u + 1u] = sum1;
  partial[lane * 4u + 2u] = sum2;
  partial[lane * 4u + 3u] = sum3;
  for (var step = 32u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      for (var i = 0u; i < 4u; i++) { partial[lane * 4u + i] += partial[(lane + step) * 4u + i]; }
    }
  }
  workgroupBarrier();
  if (lane < 4u && lane < p.M) {
    var sum = partial[0u + 0u + lane];
    
    
    let dots = sum;
    let to = (wg.z + p.z0) * p.stepC + lane * p.NC + p.n0 + n;
    for (var j = 0u; j < 4u; j++) {
      if (n + j < p.N) { c[to + j] = dots[j]; }
    }
  }
}
