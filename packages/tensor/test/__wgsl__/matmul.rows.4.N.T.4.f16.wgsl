struct Params { M: u32, N: u32, K: u32, m0: u32, MA: u32, n0: u32, NC: u32, z0: u32, stepA: u32, stepB: u32, stepC: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec2u>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
fn wide_f(h: vec4u) -> vec4f {
  let m = h & vec4u(0x3ffu);
  let e = (h >> vec4u(10u)) & vec4u(0x1fu);
  let small = bitcast<vec4u>(vec4f(m) * 5.9604644775390625e-8);
  let usual = ((e + 112u) << vec4u(23u)) | (m << vec4u(13u));
  return bitcast<vec4f>(((h & vec4u(0x8000u)) << vec4u(16u)) | select(usual, small, e == vec4u()));
}
fn b_at(i: u32) -> vec4f { let h = b[i]; return wide_f(vec4u(h.x & 0xffffu, h.x >> 16u, h.y & 0xffffu, h.y >> 16u)); }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  let across = (p.N + 3u) / 4u;
  let m = (index / across) * 4u;
  let n = (index % across) * 4u;
  if (m >= p.M) { return; }
  let startA = (wg.z + p.z0) * p.stepA / 4u;
  let startB = (wg.z + p.z0) * p.stepB / 4u;
  let m0 = min(m + 0u, p.M - 1u);
  let m1 = min(m + 1u, p.M - 1u);
  let m2 = min(m + 2u, p.M - 1u);
  let m3 = min(m + 3u, p.M - 1u);
  let c0 = min(n + 0u, p.N - 1u);
  let c1 = min(n + 1u, p.N - 1u);
  let c2 = min(n + 2u, p.N - 1u);
  let c3 = min(n + 3u, p.N - 1u);
  var sum0 = vec4f();
  var sum1 = vec4f();
  var sum2 = vec4f();
  var sum3 = vec4f();
  let K4 = p.K / 4u;
  for (var k = 0u; k < K4; k++) {
    let r0 = b_at(startB + c0 * K4 + k);
  let r1 = b_at(startB + c1 * K4 + k);
  let r2 = b_at(startB + c2 * K4 + k);
  let r3 = b_at(startB + c3 * K4 + k);
  let b0 = vec4f(r0.x, r1.x, r2.x, r3.x);
  let b1 = vec4f(r0.y, r1.y, r2.y, r3.y);
  let b2 = vec4f(r0.z, r1.z, r2.z, r3.z);
  let b3 = vec4f(r0.w, r1.w, r2.w, r3.w);
    let a0 = a[startA + m0 * K4 + k];
  let a1 = a[startA + m1 * K4 + k];
  let a2 = a[startA + m2 * K4 + k];
  let a3 = a[startA + m3 * K4 + k];
    sum0 = sum0 + a0.x * b0;
  sum0 = sum0 + a0.y * b1;
  sum0 = sum0 + a0.z * b2;
  sum0 = sum0 + a0.w * b3;
  sum1 = sum1 + a1.x * b0;
  sum1 = sum1 + a1.y * b1;
  sum1 = sum1 + a1.z * b2;
  sum1 = sum1 + a1.w * b3;
  sum2 = sum2 + a2.x * b0;
  sum2 = sum2 + a2.y * b1;
  sum2 = sum2 + a2.z * b2;
  sum2 = sum2 + a2.w * b3;
  sum3 = sum3 + a3.x * b0;
  sum3 = sum3 + a3.y * b1;
  sum3 = sum3 + a3.z * b2;
  sum3 = sum3 + a3.w * b3;
  }
  let to = (wg.z + p.z0) * p.stepC + m * p.NC + p.n0 + n;
  if (m + 0u < p.M) {
    c[to + 0u * p.NC] = sum0.x;
    if (n + 1u < p.N) { c[to + 0u * p.NC + 1u] = sum0.y; }
    if (n + 2u < p.N) { c[to + 0u * p.NC + 2u] = sum0.z; }
    if (n + 3u < p.N) { c[to + 0u * p.NC + 3u] = sum0.w; }
  }
  if (m + 1u < p.M) {
    c[to + 1u * p.NC] = sum1.x;
    if (n + 1u < p.N) { c[to + 1u * p.NC + 1u] = sum1.y; }
    if (n + 2u < p.N) { c[to + 1u * p.NC + 2u] = sum1.z; }
    if (n + 3u < p.N) { c[to + 1u * p.NC + 3u] = sum1.w; }
  }
  if (m + 2u < p.M) {
    c[to + 2u * p.NC] = sum2.x;
    if (n + 1u < p.N) { c[to + 2u * p.NC + 1u] = sum2.y; }
    if (n + 2u < p.N) { c[to + 2u * p.NC + 2u] = sum2.z; }
    if (n + 3u < p.N) { c[to + 2u * p.NC + 3u] = sum2.w; }
  }
  if (m + 3u < p.M) {
    c[to + 3u * p.NC] = sum3.x;
    if (n + 1u < p.N) { c[to + 3u * p.NC + 1u] = sum3.y; }
    if (n + 2u < p.N) { c[to + 3u * p.NC + 2u] = sum3.z; }
    if (n + 3u < p.N) { c[to + 3u * p.NC + 3u] = sum3.w; }
  }
}
