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
fn dot_i8(a: u32, b: u32) -> i32 {
  let x = vec4i(bitcast<i32>(a << 24u), bitcast<i32>(a << 16u), bitcast<i32>(a << 8u), bitcast<i32>(a)) >> vec4u(24u);
  let y = vec4i(bitcast<i32>(b << 24u), bitcast<i32>(b << 16u), bitcast<i32>(b << 8u), bitcast<i32>(b)) >> vec4u(24u);
  return dot(x, y);
}
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
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  let block = index % p.B;
  let m = (index / p.B) * 1u;
  if (m >= p.M) { return; }
  let K4 = (p.K + 3u) / 4u;
  
  let startA = 0u;
  let m0 = min(m + 0u, p.M - 1u);
  var low0 = vec4f(); var high0 = vec4f();
  for (var g = 0u; g < p.G; g += 1u) {
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
    {
      let cell = (block) * p.G + g;
      let s = scales[cell];
      let slow = vec4f(half_f(s.x & 0xffffu), half_f(s.x >> 16u), half_f(s.y & 0xffffu), half_f(s.y >> 16u));
      let shigh = vec4f(half_f(s.z & 0xffffu), half_f(s.z >> 16u), half_f(s.w & 0xffffu), half_f(s.w >> 16u));
      let at = cell * 32u;
      var lo0 = vec4i();
      var hi0 = vec4i();
      var all0 = 0;
      for (var j = 0u; j < 8u; j++) {
        let w0 = b[at + j * 4u + 0u];
  let w1 = b[at + j * 4u + 1u];
  let w2 = b[at + j * 4u + 2u];
  let w3 = b[at + j * 4u + 3u];
        {
          let q = q0[j];
          lo0 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
          hi0 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
          all0 += dot_i8(q, 0x01010101u);
        }
      }
      low0 += vec4f(lo0 - vec4i(8 * all0)) * (slow * scale0);
      high0 += vec4f(hi0 - vec4i(8 * all0)) * (shigh * scale0);
    }
    
  }
  if (m + 0u < p.M) {
    let low = low0;
  let high = high0;
    
    
    let low_sum = low;
  let high_sum = high;
    let to = (m + 0u) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j + 0u < p.N) { c[to + j + 0u] = low_sum[j]; }
  if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = high_sum[j]; }
    }
  }
}
