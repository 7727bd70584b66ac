requires packed_4x8_integer_dot_product;
struct Params { M: u32, N: u32, G: u32, B: u32, n0: u32, NC: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> steps: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<u32>;
@group(0) @binding(4) var<storage, read> scales: array<u32>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;
fn half_f(h: u32) -> f32 {
  let m = h & 0x3ffu;
  let e = (h >> 10u) & 0x1fu;
  // Subnormals become whole numbers times 2^-24: both are normal in f32, so a GPU that flushes subnormals gives them too.
  let small = bitcast<u32>(f32(m) * 5.9604644775390625e-8);
  return bitcast<f32>(((h & 0x8000u) << 16u) | select(((e + 112u) << 23u) | (m << 13u), small, e == 0u));
}
fn dot_i8(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }
var<workgroup> tile_a: array<u32, 576>;
var<workgroup> tile_b: array<u32, 576>;
var<workgroup> steps_a: array<f32, 64>;
var<workgroup> steps_b: array<f32, 64>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 256u + lane;
  let across = (p.B + 7u) / 8u;
  let m = (group / across) * 64u;
  let first = (group % across) * 8u;
  if (m >= p.M) { return; }
  let row = (lane / 16u) * 4u;
  let column = (lane % 16u) * 4u;
  var sum0 = vec4f();
  var sum1 = vec4f();
  var sum2 = vec4f();
  var sum3 = vec4f();
  for (var g = 0u; g < p.G; g++) {
    for (var i = lane; i < 512u; i += 256u) {
      let r = min(m + i / 8u, p.M - 1u);
      tile_a[(i / 8u) * 9u + i % 8u] = a[(r * p.G + g) * 8u + i % 8u];
    }
    for (var i = lane; i < 512u; i += 256u) {
      let cell = min(first + i / 64u, p.B - 1u) * p.G + g;
      tile_b[((i / 64u) * 8u + i % 8u) * 9u + (i % 64u) / 8u] = b[cell * 64u + i % 64u];
    }
    if (lane < 64u) {
      steps_a[lane] = steps[min(m + lane, p.M - 1u) * p.G + g];
    } else if (lane < 128u) {
      let n = lane - 64u;
      let cell = min(first + n / 8u, p.B - 1u) * p.G + g;
      steps_b[n] = half_f((scales[cell * 4u + (n % 8u) / 2u] >> (16u * (n % 2u))) & 0xffffu);
    }
    workgroupBarrier();
    var dots0 = vec4i();
  var dots1 = vec4i();
  var dots2 = vec4i();
  var dots3 = vec4i();
    for (var j = 0u; j < 8u; j++) {
      let w0 = tile_b[(column + 0u) * 9u + j];
  let w1 = tile_b[(column + 1u) * 9u + j];
  let w2 = tile_b[(column + 2u) * 9u + j];
  let w3 = tile_b[(column + 3u) * 9u + j];
      {
        let q = tile_a[(row + 0u) * 9u + j];
        dots0 += vec4i(dot_i8(w0, q), dot_i8(w1, q), dot_i8(w2, q), dot_i8(w3, q));
      }
  {
        let q = tile_a[(row + 1u) * 9u + j];
        dots1 += vec4i(dot_i8(w0, q), dot_i8(w1, q), dot_i8(w2, q), dot_i8(w3, q));
      }
  {
        let q = tile_a[(row + 2u) * 9u + j];
        dots2 += vec4i(dot_i8(w0, q), dot_i8(w1, q), dot_i8(w2, q), dot_i8(w3, q));
      }
  {
        let q = tile_a[(row + 3u) * 9u + j];
        dots3 += vec4i(dot_i8(w0, q), dot_i8(w1, q), dot_i8(w2, q), dot_i8(w3, q));
      }
    }
    let by = vec4f(steps_b[column + 0u], steps_b[column + 1u], steps_b[column + 2u], steps_b[column + 3u]);
    sum0 += vec4f(dots0) * (by * steps_a[row + 0u]);
  sum1 += vec4f(dots1) * (by * steps_a[row + 1u]);
  sum2 += vec4f(dots2) * (by * steps_a[row + 2u]);
  sum3 += vec4f(dots3) * (by * steps_a[row + 3u]);
    workgroupBarrier();
  }
  if (m + row + 0u < p.M) {
    let n = first * 8u + column;
    let to = (m + row + 0u) * p.NC + p.n0 + n;
    for (var j = 0u; j < 4u; j++) {
      if (n + j < p.N) { c[to + j] = sum0[j]; }
    }
  }
  if (m + row + 1u < p.M) {
    let n = first * 8u + column;
    let to = (m + row + 1u) * p.NC + p.n0 + n;
    for (var j = 0u; j < 4u; j++) {
      if (n + j < p.N) { c[to + j] = sum1[j]; }
    }
  }
  if (m + row + 2u < p.M) {
    let n = first * 8u + column;
    let to = (m + row + 2u) * p.NC + p.n0 + n;
    for (var j = 0u; j < 4u; j++) {
      if (n + j < p.N) { c[to + j] = sum2[j]; }
    }
  }
  if (m + row + 3u < p.M) {
    let n = first * 8u + column;
    let to = (m + row + 3u) * p.NC + p.n0 + n;
    for (var j = 0u; j < 4u; j++) {
      if (n + j < p.N) { c[to + j] = sum3[j]; }
    }
  }
}
