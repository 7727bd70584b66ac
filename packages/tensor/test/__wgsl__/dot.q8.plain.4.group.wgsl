requires packed_4x8_integer_dot_product;
struct Params { M: u32, N: u32, K: u32, K1: u32, G: u32, B: u32, up: u32, n0: u32, NC: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read> scales: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> c: array<f32>;
fn half_f(h: u32) -> f32 {
  let m = h & 0x3ffu;
  let e = (h >> 10u) & 0x1fu;
  // Subnormals become whole numbers times 2^-24: both are normal in f32, so a GPU that flushes subnormals gives them too.
  let small = bitcast<u32>(f32(m) * 5.9604644775390625e-8);
  return bitcast<f32>(((h & 0x8000u) << 16u) | select(((e + 112u) << 23u) | (m << 13u), small, e == 0u));
}
fn dot_i8(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }
fn largest(x: vec4f) -> u32 {
  let bits = bitcast<vec4u>(x) & vec4u(0x7fffffffu);
  return max(max(bits.x, bits.y), max(bits.z, bits.w));
}
fn inverse_of(most: u32) -> f32 { return select(127.0 / bitcast<f32>(most), 0.0, most == 0u); }
/** A group with NaN or infinity makes its row NaN. */
fn scale_of(most: u32) -> f32 {
  return bitcast<f32>(select(bitcast<u32>(bitcast<f32>(most) / 127.0), 0x7fc00000u, most >= 0x7f800000u));
}
fn rounded(x: vec4f) -> u32 {
  let q = vec4u(vec4i(round(x))) & vec4u(255u);
  return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u);
}
var<workgroup> partial: array<vec4f, 512>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  let block = group % p.B;
  let m = (group / p.B) * 4u;
  if (m >= p.M) { return; }
  let K4 = (p.K + 3u) / 4u;
  
  let startA = 0u;
  let m0 = min(m + 0u, p.M - 1u);
  var low0 = vec4f(); var high0 = vec4f();
  let m1 = min(m + 1u, p.M - 1u);
  var low1 = vec4f(); var high1 = vec4f();
  let m2 = min(m + 2u, p.M - 1u);
  var low2 = vec4f(); var high2 = vec4f();
  let m3 = min(m + 3u, p.M - 1u);
  var low3 = vec4f(); var high3 = vec4f();
  for (var g = lane; g < p.G; g += 64u) {
    var q0: array<u32, 8>;
    var most0 = 0u;
    {
      var xs: array<vec4f, 8>;
      for (var j = 0u; j < 8u; j++) {
        let k = g * 8u + j;
        if (k < K4) {
          let x = a[startA + m0 * K4 + k];
          xs[j] = x;
          most0 = max(most0, largest(x));
        }
      }
      let inverse = inverse_of(most0);
      for (var j = 0u; j < 8u; j++) { q0[j] = rounded(xs[j] * inverse); }
    }
    let scale0 = scale_of(most0);
  var q1: array<u32, 8>;
    var most1 = 0u;
    {
      var xs: array<vec4f, 8>;
      for (var j = 0u; j < 8u; j++) {
        let k = g * 8u + j;
        if (k < K4) {
          let x = a[startA + m1 * K4 + k];
          xs[j] = x;
          most1 = max(most1, largest(x));
        }
      }
      let inverse = inverse_of(most1);
      for (var j = 0u; j < 8u; j++) { q1[j] = rounded(xs[j] * inverse); }
    }
    let scale1 = scale_of(most1);
  var q2: array<u32, 8>;
    var most2 = 0u;
    {
      var xs: array<vec4f, 8>;
      for (var j = 0u; j < 8u; j++) {
        let k = g * 8u + j;
        if (k < K4) {
          let x = a[startA + m2 * K4 + k];
          xs[j] = x;
          most2 = max(most2, largest(x));
        }
      }
      let inverse = inverse_of(most2);
      for (var j = 0u; j < 8u; j++) { q2[j] = rounded(xs[j] * inverse); }
    }
    let scale2 = scale_of(most2);
  var q3: array<u32, 8>;
    var most3 = 0u;
    {
      var xs: array<vec4f, 8>;
      for (var j = 0u; j < 8u; j++) {
        let k = g * 8u + j;
        if (k < K4) {
          let x = a[startA + m3 * K4 + k];
          xs[j] = x;
          most3 = max(most3, largest(x));
        }
      }
      let inverse = inverse_of(most3);
      for (var j = 0u; j < 8u; j++) { q3[j] = rounded(xs[j] * inverse); }
    }
    let scale3 = scale_of(most3);
    {
      let cell = (block) * p.G + g;
      let s = scales[cell];
      let slow = vec4f(half_f(s.x & 0xffffu), half_f(s.x >> 16u), half_f(s.y & 0xffffu), half_f(s.y >> 16u));
      let shigh = vec4f(half_f(s.z & 0xffffu), half_f(s.z >> 16u), half_f(s.w & 0xffffu), half_f(s.w >> 16u));
      let at = cell * 64u;
      var lo0 = vec4i();
      var hi0 = vec4i();
  var lo1 = vec4i();
      var hi1 = vec4i();
  var lo2 = vec4i();
      var hi2 = vec4i();
  var lo3 = vec4i();
      var hi3 = vec4i();
      for (var j = 0u; j < 8u; j++) {
        let w0 = b[at + j * 8u + 0u];
  let w1 = b[at + j * 8u + 1u];
  let w2 = b[at + j * 8u + 2u];
  let w3 = b[at + j * 8u + 3u];
  let w4 = b[at + j * 8u + 4u];
  let w5 = b[at + j * 8u + 5u];
  let w6 = b[at + j * 8u + 6u];
  let w7 = b[at + j * 8u + 7u];
        {
          let q = q0[j];
          lo0 += vec4i(dot_i8(w0, q), dot_i8(w1, q), dot_i8(w2, q), dot_i8(w3, q));
          hi0 += vec4i(dot_i8(w4, q), dot_i8(w5, q), dot_i8(w6, q), dot_i8(w7, q));
        }
  {
          let q = q1[j];
          lo1 += vec4i(dot_i8(w0, q), dot_i8(w1, q), dot_i8(w2, q), dot_i8(w3, q));
          hi1 += vec4i(dot_i8(w4, q), dot_i8(w5, q), dot_i8(w6, q), dot_i8(w7, q));
        }
  {
          let q = q2[j];
          lo2 += vec4i(dot_i8(w0, q), dot_i8(w1, q), dot_i8(w2, q), dot_i8(w3, q));
          hi2 += vec4i(dot_i8(w4, q), dot_i8(w5, q), dot_i8(w6, q), dot_i8(w7, q));
        }
  {
          let q = q3[j];
          lo3 += vec4i(dot_i8(w0, q), dot_i8(w1, q), dot_i8(w2, q), dot_i8(w3, q));
          hi3 += vec4i(dot_i8(w4, q), dot_i8(w5, q), dot_i8(w6, q), dot_i8(w7, q));
        }
      }
      low0 += vec4f(lo0) * (slow * scale0);
      high0 += vec4f(hi0) * (shigh * scale0);
  low1 += vec4f(lo1) * (slow * scale1);
      high1 += vec4f(hi1) * (shigh * scale1);
  low2 += vec4f(lo2) * (slow * scale2);
      high2 += vec4f(hi2) * (shigh * scale2);
  low3 += vec4f(lo3) * (slow * scale3);
      high3 += vec4f(hi3) * (shigh * scale3);
    }
    
  }
  partial[lane * 8u + 0u] = low0; partial[lane * 8u + 4u] = high0;
  partial[lane * 8u + 1u] = low1; partial[lane * 8u + 5u] = high1;
  partial[lane * 8u + 2u] = low2; partial[lane * 8u + 6u] = high2;
  partial[lane * 8u + 3u] = low3; partial[lane * 8u + 7u] = high3;
  for (var step = 32u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      for (var i = 0u; i < 8u; i++) { partial[lane * 8u + i] += partial[(lane + step) * 8u + i]; }
    }
  }
  workgroupBarrier();
  if (lane < 4u && m + lane < p.M) {
    let low = partial[0u + lane];
  let high = partial[4u + lane];
    
    
    let low_sum = low;
  let high_sum = high;
    let to = (m + lane) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j + 0u < p.N) { c[to + j + 0u] = low_sum[j]; }
  if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high_sum[j]; }
    }
  }
}
