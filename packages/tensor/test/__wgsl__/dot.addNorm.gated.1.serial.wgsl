struct Params { M: u32, N: u32, K: u32, K1: u32, n0: u32, NC: u32, z0: u32, stepA: u32, stepB: u32, stepC: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> a2: array<vec4f>;
@group(0) @binding(3) var<storage, read> w0: array<vec4f>;
@group(0) @binding(4) var<storage, read> w: array<vec4f>;
@group(0) @binding(5) var<storage, read> b: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> c: array<f32>;
@group(0) @binding(7) var<storage, read_write> z: array<vec4f>;
fn of_bits(b: u32) -> f32 { return bitcast<f32>(b); }
fn is_nan(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }
fn exp_f(v: f32) -> f32 {
  let x = clamp(v, -104.0, 89.0);
  let n = round(x * 1.4426950408889634);
  let r = (x - n * 0.693359375) + n * 2.12194440e-4;
  var p = 1.9875691500e-4;
  p = p * r + 1.3981999507e-3;
  p = p * r + 8.3334519073e-3;
  p = p * r + 4.1665795894e-2;
  p = p * r + 1.6666665459e-1;
  p = p * r + 5.0000001201e-1;
  p = (p * (r * r) + r) + 1.0;
  let i = i32(n);
  let h = i >> 1u;
  let y = (p * bitcast<f32>(u32(h + 127) << 23u)) * bitcast<f32>(u32(i - h + 127) << 23u);
  return select(y, v, is_nan(v));
}
fn sigmoid_f(v: f32) -> f32 {
  let t = exp_f(-abs(v));
  return select(1.0, t, v < 0.0) / (1.0 + t);
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  let n = index * 4u;
  if (n >= p.N) { return; }
  let K4 = p.K / 4u;
  
  
  let startB = (wg.z + p.z0) * p.stepB / 4u;
  let c0 = startB + min(n + 0u, p.N - 1u) * K4;
  let c1 = startB + min(n + 1u, p.N - 1u) * K4;
  let c2 = startB + min(n + 2u, p.N - 1u) * K4;
  let c3 = startB + min(n + 3u, p.N - 1u) * K4;
  let m0 = min(0u, p.M - 1u);
  var sum0 = vec4f(); var up0 = vec4f(); var square0 = vec4f();
  for (var k = 0u; k < K4; k += 1u) {
    let b0 = b[c0 + k];
  let b1 = b[c1 + k];
  let b2 = b[c2 + k];
  let b3 = b[c3 + k];
    let g0 = b[c0 + p.N * K4 + k];
  let g1 = b[c1 + p.N * K4 + k];
  let g2 = b[c2 + p.N * K4 + k];
  let g3 = b[c3 + p.N * K4 + k];
    let wk = w[k];
    {
      let v = a[m0 * K4 + k] + a2[m0 * K4 + k];
      let scaled = v * w0[k];
      square0 += vec4f(dot(v, v), dot(scaled, scaled), 0.0, 0.0);
      let x = scaled * wk;
      sum0 += vec4f(dot(x, b0), dot(x, b1), dot(x, b2), dot(x, b3));
      up0 += vec4f(dot(x, g0), dot(x, g1), dot(x, g2), dot(x, g3));
    }
  }
  if (0u < p.M) {
    let sum = sum0;
  let up = up0;
  let square = square0;
    let inner = inverseSqrt(square.x / f32(p.K) + p.eps);
    let scale = inner * inverseSqrt(inner * inner * square.y / f32(p.K) + p.eps);
    for (var k = index; k < K4; k += (p.N + 3u) / 4u) { z[0u * K4 + k] = (a[0u * K4 + k] + a2[0u * K4 + k]) * inner * w0[k]; }
    let dots = sum * scale;
    let ups = up * scale;
    let to = (wg.z + p.z0) * p.stepC + 0u * p.NC + p.n0 + n;
    for (var j = 0u; j < 4u; j++) {
      if (n + j < p.N) { c[to + j] = dots[j] * sigmoid_f(dots[j]) * ups[j]; }
    }
  }
}
