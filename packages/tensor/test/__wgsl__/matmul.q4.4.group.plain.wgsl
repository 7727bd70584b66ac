struct Params { M: u32, N: u32, K: u32, G: u32, B: u32, n0: u32, NC: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<u32>;
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
fn value(row: u32, k: u32) -> f32 {
  if (k < p.K) { return a[row * p.K + k]; }
  return 0.0;
}
/** The largest magnitude of a group, as bits: NaN counts as the largest. */
fn largest(row: u32, g: u32) -> u32 {
  var most = 0u;
  for (var k = g * 32u; k < min(g * 32u + 32u, p.K); k++) { most = max(most, bitcast<u32>(a[row * p.K + k]) & 0x7fffffffu); }
  return most;
}
fn rounded(row: u32, k: u32, inverse: f32) -> u32 {
  let x = vec4f(value(row, k), value(row, k + 1u), value(row, k + 2u), value(row, k + 3u));
  let q = vec4u(vec4i(round(x * inverse))) & vec4u(255u);
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
  let m0 = min(m + 0u, p.M - 1u);
  var low0 = vec4f();
  var high0 = vec4f();
  let m1 = min(m + 1u, p.M - 1u);
  var low1 = vec4f();
  var high1 = vec4f();
  let m2 = min(m + 2u, p.M - 1u);
  var low2 = vec4f();
  var high2 = vec4f();
  let m3 = min(m + 3u, p.M - 1u);
  var low3 = vec4f();
  var high3 = vec4f();
  for (var g = lane; g < p.G; g += 64u) {
    let s = scales[block * p.G + g];
    let slow = vec4f(half_f(s.x & 0xffffu), half_f(s.x >> 16u), half_f(s.y & 0xffffu), half_f(s.y >> 16u));
    let shigh = vec4f(half_f(s.z & 0xffffu), half_f(s.z >> 16u), half_f(s.w & 0xffffu), half_f(s.w >> 16u));
    let at = (block * p.G + g) * 32u;
    let most0 = largest(m0, g);
    let inverse0 = select(127.0 / bitcast<f32>(most0), 0.0, most0 == 0u);
    var lo0 = vec4i();
    var hi0 = vec4i();
    var all0 = 0;
  let most1 = largest(m1, g);
    let inverse1 = select(127.0 / bitcast<f32>(most1), 0.0, most1 == 0u);
    var lo1 = vec4i();
    var hi1 = vec4i();
    var all1 = 0;
  let most2 = largest(m2, g);
    let inverse2 = select(127.0 / bitcast<f32>(most2), 0.0, most2 == 0u);
    var lo2 = vec4i();
    var hi2 = vec4i();
    var all2 = 0;
  let most3 = largest(m3, g);
    let inverse3 = select(127.0 / bitcast<f32>(most3), 0.0, most3 == 0u);
    var lo3 = vec4i();
    var hi3 = vec4i();
    var all3 = 0;
    for (var j = 0u; j < 8u; j++) {
      let w0 = w[at + j * 4u + 0u];
  let w1 = w[at + j * 4u + 1u];
  let w2 = w[at + j * 4u + 2u];
  let w3 = w[at + j * 4u + 3u];
      {
        let q = rounded(m0, g * 32u + j * 4u, inverse0);
        lo0 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
        hi0 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
        all0 += dot_i8(q, 0x01010101u);
      }
  {
        let q = rounded(m1, g * 32u + j * 4u, inverse1);
        lo1 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
        hi1 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
        all1 += dot_i8(q, 0x01010101u);
      }
  {
        let q = rounded(m2, g * 32u + j * 4u, inverse2);
        lo2 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
        hi2 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
        all2 += dot_i8(q, 0x01010101u);
      }
  {
        let q = rounded(m3, g * 32u + j * 4u, inverse3);
        lo3 += vec4i(dot_i8(w0 & 0x0f0f0f0fu, q), dot_i8(w1 & 0x0f0f0f0fu, q), dot_i8(w2 & 0x0f0f0f0fu, q), dot_i8(w3 & 0x0f0f0f0fu, q));
        hi3 += vec4i(dot_i8((w0 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w1 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w2 >> 4u) & 0x0f0f0f0fu, q), dot_i8((w3 >> 4u) & 0x0f0f0f0fu, q));
        all3 += dot_i8(q, 0x01010101u);
      }
    }
    {
      // A group with NaN or infinity makes its row NaN.
      let bad = most0 >= 0x7f800000u;
      let scale = bitcast<f32>(select(bitcast<u32>(bitcast<f32>(most0) / 127.0), 0x7fc00000u, bad));
      low0 += vec4f(lo0 - vec4i(8 * all0)) * (slow * scale);
      high0 += vec4f(hi0 - vec4i(8 * all0)) * (shigh * scale);
    }
  {
      // A group with NaN or infinity makes its row NaN.
      let bad = most1 >= 0x7f800000u;
      let scale = bitcast<f32>(select(bitcast<u32>(bitcast<f32>(most1) / 127.0), 0x7fc00000u, bad));
      low1 += vec4f(lo1 - vec4i(8 * all1)) * (slow * scale);
      high1 += vec4f(hi1 - vec4i(8 * all1)) * (shigh * scale);
    }
  {
      // A group with NaN or infinity makes its row NaN.
      let bad = most2 >= 0x7f800000u;
      let scale = bitcast<f32>(select(bitcast<u32>(bitcast<f32>(most2) / 127.0), 0x7fc00000u, bad));
      low2 += vec4f(lo2 - vec4i(8 * all2)) * (slow * scale);
      high2 += vec4f(hi2 - vec4i(8 * all2)) * (shigh * scale);
    }
  {
      // A group with NaN or infinity makes its row NaN.
      let bad = most3 >= 0x7f800000u;
      let scale = bitcast<f32>(select(bitcast<u32>(bitcast<f32>(most3) / 127.0), 0x7fc00000u, bad));
      low3 += vec4f(lo3 - vec4i(8 * all3)) * (slow * scale);
      high3 += vec4f(hi3 - vec4i(8 * all3)) * (shigh * scale);
    }
  }
  partial[lane * 8u + 0u] = low0;
  partial[lane * 8u + 1u] = high0;
  partial[lane * 8u + 2u] = low1;
  partial[lane * 8u + 3u] = high1;
  partial[lane * 8u + 4u] = low2;
  partial[lane * 8u + 5u] = high2;
  partial[lane * 8u + 6u] = low3;
  partial[lane * 8u + 7u] = high3;
  for (var step = 32u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      for (var i = 0u; i < 8u; i++) { partial[lane * 8u + i] += partial[(lane + step) * 8u + i]; }
    }
  }
  workgroupBarrier();
  if (lane < 4u && m + lane < p.M) {
    let to = (m + lane) * p.NC + p.n0 + block * 8u;
    for (var j = 0u; j < 4u; j++) {
      if (block * 8u + j < p.N) { c[to + j] = partial[2u * lane][j]; }
      if (block * 8u + j + 4u < p.N) { c[to + j + 4u] = partial[2u * lane + 1u][j]; }
    }
  }
}
