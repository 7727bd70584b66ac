enable f16;
struct Params { M: u32, N: u32, K: u32, m0: u32, MA: u32, n0: u32, NC: u32, z0: u32, stepA: u32, stepB: u32, stepC: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4<f16>>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  let across = (p.N + 3u) / 4u;
  let m = (index / across) * 8u;
  let n = (index % across) * 4u;
  if (m >= p.M) { return; }
  let startA = (wg.z + p.z0) * p.stepA / 4u;
  let startB = (wg.z + p.z0) * p.stepB / 4u;
  let m0 = min(m + 0u, p.M - 1u);
  let m1 = min(m + 1u, p.M - 1u);
  let m2 = min(m + 2u, p.M - 1u);
  let m3 = min(m + 3u, p.M - 1u);
  let m4 = min(m + 4u, p.M - 1u);
  let m5 = min(m + 5u, p.M - 1u);
  let m6 = min(m + 6u, p.M - 1u);
  let m7 = min(m + 7u, p.M - 1u);
  let c0 = min(n + 0u, p.N - 1u);
  let c1 = min(n + 1u, p.N - 1u);
  let c2 = min(n + 2u, p.N - 1u);
  let c3 = min(n + 3u, p.N - 1u);
  var sum0 = vec4f();
  var sum1 = vec4f();
  var sum2 = vec4f();
  var sum3 = vec4f();
  var sum4 = vec4f();
  var sum5 = vec4f();
  var sum6 = vec4f();
  var sum7 = vec4f();
  let K4 = p.K / 4u;
  for (var k = 0u; k < K4; k++) {
    let r0 = vec4f(b[startB + c0 * K4 + k]);
  let r1 = vec4f(b[startB + c1 * K4 + k]);
  let r2 = vec4f(b[startB + c2 * K4 + k]);
  let r3 = vec4f(b[startB + c3 * K4 + k]);
  let b0 = vec4f(r0.x, r1.x, r2.x, r3.x);
  let b1 = vec4f(r0.y, r1.y, r2.y, r3.y);
  let b2 = vec4f(r0.z, r1.z, r2.z, r3.z);
  let b3 = vec4f(r0.w, r1.w, r2.w, r3.w);
    let a0 = a[startA + m0 * K4 + k];
  let a1 = a[startA + m1 * K4 + k];
  let a2 = a[startA + m2 * K4 + k];
  let a3 = a[startA + m3 * K4 + k];
  let a4 = a[startA + m4 * K4 + k];
  let a5 = a[startA + m5 * K4 + k];
  let a6 = a[startA + m6 * K4 + k];
  let a7 = a[startA + m7 * K4 + k];
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
  sum4 = sum4 + a4.x * b0;
  sum4 = sum4 + a4.y * b1;
  sum4 = sum4 + a4.z * b2;
  sum4 = sum4 + a4.w * b3;
  sum5 = sum5 + a5.x * b0;
  sum5 = sum5 + a5.y * b1;
  sum5 = sum5 + a5.z * b2;
  sum5 = sum5 + a5.w * b3;
  sum6 = sum6 + a6.x * b0;
  sum6 = sum6 + a6.y * b1;
  sum6 = sum6 + a6.z * b2;
  sum6 = sum6 + a6.w * b3;
  sum7 = sum7 + a7.x * b0;
  sum7 = sum7 + a7.y * b1;
  sum7 = sum7 + a7.z * b2;
  sum7 = sum7 + a7.w * b3;
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
  if (m + 4u < p.M) {
    c[to + 4u * p.NC] = sum4.x;
    if (n + 1u < p.N) { c[to + 4u * p.NC + 1u] = sum4.y; }
    if (n + 2u < p.N) { c[to + 4u * p.NC + 2u] = sum4.z; }
    if (n + 3u < p.N) { c[to + 4u * p.NC + 3u] = sum4.w; }
  }
  if (m + 5u < p.M) {
    c[to + 5u * p.NC] = sum5.x;
    if (n + 1u < p.N) { c[to + 5u * p.NC + 1u] = sum5.y; }
    if (n + 2u < p.N) { c[to + 5u * p.NC + 2u] = sum5.z; }
    if (n + 3u < p.N) { c[to + 5u * p.NC + 3u] = sum5.w; }
  }
  if (m + 6u < p.M) {
    c[to + 6u * p.NC] = sum6.x;
    if (n + 1u < p.N) { c[to + 6u * p.NC + 1u] = sum6.y; }
    if (n + 2u < p.N) { c[to + 6u * p.NC + 2u] = sum6.z; }
    if (n + 3u < p.N) { c[to + 6u * p.NC + 3u] = sum6.w; }
  }
  if (m + 7u < p.M) {
    c[to + 7u * p.NC] = sum7.x;
    if (n + 1u < p.N) { c[to + 7u * p.NC + 1u] = sum7.y; }
    if (n + 2u < p.N) { c[to + 7u * p.NC + 2u] = sum7.z; }
    if (n + 3u < p.N) { c[to + 7u * p.NC + 3u] = sum7.w; }
  }
}
