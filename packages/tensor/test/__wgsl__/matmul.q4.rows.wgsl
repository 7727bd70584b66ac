requires packed_4x8_integer_dot_product;
struct Params { M: u32, N: u32, G: u32, B: u32, n0: u32, NC: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> steps: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<u32>;
@group(0) @binding(4) var<storage, read> scales: array<vec4u>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;
fn half_f(h: u32) -> f32 {
  let m = h & 0x3ffu;
  let e = (h >> 10u) & 0x1fu;
  // Subnormals become whole numbers times 2^-24: both are normal in f32, so a GPU that flushes subnormals gives them too.
  let small = bitcast<u32>(f32(m) * 5.9604644775390625e-8);
  return bitcast<f32>(((h & 0x8000u) << 16u) | select(((e + 112u) << 23u) | (m << 13u), small, e == 0u));
}
fn dot_i8(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  let block = index % p.B;
  let m = (index / p.B) * 8u;
  if (m >= p.M) { return; }
  let m0 = min(m + 0u, p.M - 1u) * p.G;
  var low0 = vec4f();
  var high0 = vec4f();
  let m1 = min(m + 1u, p.M - 1u) * p.G;
  var low1 = vec4f();
  var high1 = vec4f();
  let m2 = min(m + 2u, p.M - 1u) * p.G;
  var low2 = vec4f();
  var high2 = vec4f();
  let m3 = min(m + 3u, p.M - 1u) * p.G;
  var low3 = vec4f();
  var high3 = vec4f();
  let m4 = min(m + 4u, p.M - 1u) * p.G;
  var low4 = vec4f();
  var high4 = vec4f();
  let m5 = min(m + 5u, p.M - 1u) * p.G;
  var low5 = vec4f();
  var high5 = vec4f();
  let m6 = min(m + 6u, p.M - 1u) * p.G;
  var low6 = vec4f();
  var high6 = vec4f();
  let m7 = min(m + 7u, p.M - 1u) * p.G;
  var low7 = vec4f();
  var high7 = vec4f();
  for (var g = 0u; g < p.G; g++) {
    let cell = block * p.G + g;
    let s = scales[cell];
    let slow = vec4f(half_f(s.x & 0xffffu), half_f(s.x >> 16u), half_f(s.y & 0xffffu), half_f(s.y >> 16u));
    let shigh = vec4f(half_f(s.z & 0xffffu), half_f(s.z >> 16u), half_f(s.w & 0xffffu), half_f(s.w >> 16u));
    let at = cell * 32u;
    var lo0 = vec4i();
      var hi0 = vec4i();
      var all0 = 0;
  var lo1 = vec4i();
      var hi1 = vec4i();
      var all1 = 0;
  var lo2 = vec4i();
      var hi2 = vec4i();
      var all2 = 0;
  var lo3 = vec4i();
      var hi3 = vec4i();
      var all3 = 0;
  var lo4 = vec4i();
      var hi4 = vec4i();
      var all4 = 0;
  var lo5 = vec4i();
      var hi5 = vec4i();
      var all5 = 0;
  var lo6 = vec4i();
      var hi6 = vec4i();
      var all6 = 0;
  var lo7 = vec4i();
      var hi7 = vec4i();
      var all7 = 0;
    for (var j = 0u; j < 8u; j++) {
      let w0 = b[at + j * 4u + 0u];
  let w1 = b[at + j * 4u + 1u];
  let w2 = b[at + j * 4u + 2u];
  let w3 = b[at + j * 4u + 3u];
      {
        let q = a[(m0 + g) * 8u + j];
        lo0 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
          hi0 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
          all0 += dot_i8(q, 0x01010101u);
      }
  {
        let q = a[(m1 + g) * 8u + j];
        lo1 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
          hi1 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
          all1 += dot_i8(q, 0x01010101u);
      }
  {
        let q = a[(m2 + g) * 8u + j];
        lo2 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
          hi2 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
          all2 += dot_i8(q, 0x01010101u);
      }
  {
        let q = a[(m3 + g) * 8u + j];
        lo3 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
          hi3 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
          all3 += dot_i8(q, 0x01010101u);
      }
  {
        let q = a[(m4 + g) * 8u + j];
        lo4 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
          hi4 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
          all4 += dot_i8(q, 0x01010101u);
      }
  {
        let q = a[(m5 + g) * 8u + j];
        lo5 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
          hi5 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
          all5 += dot_i8(q, 0x01010101u);
      }
  {
        let q = a[(m6 + g) * 8u + j];
        lo6 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
          hi6 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
          all6 += dot_i8(q, 0x01010101u);
      }
  {
        let q = a[(m7 + g) * 8u + j];
        lo7 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
          hi7 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
          all7 += dot_i8(q, 0x01010101u);
      }
    }
    {
      let step = steps[m0 + g];
      low0 += vec4f(lo0 - vec4i(8 * all0)) * (slow * step);
      high0 += vec4f(hi0 - vec4i(8 * all0)) * (shigh * step);
    }
  {
      let step = steps[m1 + g];
      low1 += vec4f(lo1 - vec4i(8 * all1)) * (slow * step);
      high1 += vec4f(hi1 - vec4i(8 * all1)) * (shigh * step);
    }
  {
      let step = steps[m2 + g];
      low2 += vec4f(lo2 - vec4i(8 * all2)) * (slow * step);
      high2 += vec4f(hi2 - vec4i(8 * all2)) * (shigh * step);
    }
  {
      let step = steps[m3 + g];
      low3 += vec4f(lo3 - vec4i(8 * all3)) * (slow * step);
      high3 += vec4f(hi3 - vec4i(8 * all3)) * (shigh * step);
    }
  {
      let step = steps[m4 + g];
      low4 += vec4f(lo4 - vec4i(8 * all4)) * (slow * step);
      high4 += vec4f(hi4 - vec4i(8 * all4)) * (shigh * step);
    }
  {
      let step = steps[m5 + g];
      low5 += vec4f(lo5 - vec4i(8 * all5)) * (slow * step);
      high5 += vec4f(hi5 - vec4i(8 * all5)) * (shigh * step);
    }
  {
      let step = steps[m6 + g];
      low6 += vec4f(lo6 - vec4i(8 * all6)) * (slow * step);
      high6 += vec4f(hi6 - vec4i(8 * all6)) * (shigh * step);
    }
  {
      let step = steps[m7 + g];
      low7 += vec4f(lo7 - vec4i(8 * all7)) * (slow * step);
      high7 += vec4f(hi7 - vec4i(8 * all7)) * (shigh * step);
    }
  }
  if (m + 0u < p.M) {
    let to = (m + 0u) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = low0[j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high0[j]; }
    }
  }
  if (m + 1u < p.M) {
    let to = (m + 1u) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = low1[j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high1[j]; }
    }
  }
  if (m + 2u < p.M) {
    let to = (m + 2u) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = low2[j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high2[j]; }
    }
  }
  if (m + 3u < p.M) {
    let to = (m + 3u) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = low3[j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high3[j]; }
    }
  }
  if (m + 4u < p.M) {
    let to = (m + 4u) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = low4[j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high4[j]; }
    }
  }
  if (m + 5u < p.M) {
    let to = (m + 5u) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = low5[j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high5[j]; }
    }
  }
  if (m + 6u < p.M) {
    let to = (m + 6u) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = low6[j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high6[j]; }
    }
  }
  if (m + 7u < p.M) {
    let to = (m + 7u) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = low7[j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high7[j]; }
    }
  }
}
