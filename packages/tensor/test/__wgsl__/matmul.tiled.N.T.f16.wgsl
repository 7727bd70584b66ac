struct Params { M: u32, N: u32, K: u32, m0: u32, MA: u32, n0: u32, NC: u32, z0: u32, stepA: u32, stepB: u32, stepC: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> c: array<f32>;
fn wide_f(h: u32) -> f32 {
  let sign = (h & 0x8000u) << 16u;
  let m = h & 0x3ffu;
  let e = (h >> 10u) & 0x1fu;
  // Subnormals become whole numbers times 2^-24: both are normal in f32, so a GPU that flushes subnormals gives them too.
  let small = bitcast<u32>(f32(m) * 5.9604644775390625e-8);
  let usual = ((e + 112u) << 23u) | (m << 13u);
  let bits = sign | select(select(usual, 0x7f800000u | (m << 13u), e == 31u), small, e == 0u);
  return bitcast<f32>(bits);
}
fn b_at(i: u32) -> f32 { return wide_f((b[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu); }
var<workgroup> tile_a: array<f32, 1040>;
var<workgroup> tile_b: array<f32, 1040>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 256u + lane;
  let across = (p.N + 63u) / 64u;
  let m = (group / across) * 64u;
  let n = (group % across) * 64u;
  if (m >= p.M) { return; }
  let startA = (wg.z + p.z0) * p.stepA;
  let startB = (wg.z + p.z0) * p.stepB;
  let row = (lane / 16u) * 4u;
  let column = (lane % 16u) * 4u;
  var sum0 = vec4f();
  var sum1 = vec4f();
  var sum2 = vec4f();
  var sum3 = vec4f();
  for (var first = 0u; first < p.K; first += 16u) {
    for (var i = lane; i < 1024u; i += 256u) {
      let k = first + i % 16u;
      let r = i / 16u;
      let at = m + r;
      var value = 0.0;
      if (k < p.K && at < p.M) { value = a[startA + at * p.K + k]; }
      tile_a[(k - first) * 65u + r] = value;
    }
    for (var i = lane; i < 1024u; i += 256u) {
      let k = first + i % 16u;
      let r = i / 16u;
      let at = n + r;
      var value = 0.0;
      if (k < p.K && at < p.N) { value = b_at(startB + at * p.K + k); }
      tile_b[(k - first) * 65u + r] = value;
    }
    workgroupBarrier();
    for (var k = 0u; k < 16u; k++) {
      let at = k * 65u + column;
      let bk = vec4f(tile_b[at], tile_b[at + 1u], tile_b[at + 2u], tile_b[at + 3u]);
      sum0 += tile_a[k * 65u + row + 0u] * bk;
  sum1 += tile_a[k * 65u + row + 1u] * bk;
  sum2 += tile_a[k * 65u + row + 2u] * bk;
  sum3 += tile_a[k * 65u + row + 3u] * bk;
    }
    workgroupBarrier();
  }
  if (m + row + 0u < p.M) {
    let to = (wg.z + p.z0) * p.stepC + (m + row + 0u) * p.NC + p.n0 + n + column;
    for (var j = 0u; j < 4u; j++) {
      if (n + column + j < p.N) { c[to + j] = sum0[j]; }
    }
  }
  if (m + row + 1u < p.M) {
    let to = (wg.z + p.z0) * p.stepC + (m + row + 1u) * p.NC + p.n0 + n + column;
    for (var j = 0u; j < 4u; j++) {
      if (n + column + j < p.N) { c[to + j] = sum1[j]; }
    }
  }
  if (m + row + 2u < p.M) {
    let to = (wg.z + p.z0) * p.stepC + (m + row + 2u) * p.NC + p.n0 + n + column;
    for (var j = 0u; j < 4u; j++) {
      if (n + column + j < p.N) { c[to + j] = sum2[j]; }
    }
  }
  if (m + row + 3u < p.M) {
    let to = (wg.z + p.z0) * p.stepC + (m + row + 3u) * p.NC + p.n0 + n + column;
    for (var j = 0u; j < 4u; j++) {
      if (n + column + j < p.N) { c[to + j] = sum3[j]; }
    }
  }
}
