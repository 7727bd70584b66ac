struct Params { n: u32, K: u32, G: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> words: array<u32>;
@group(0) @binding(3) var<storage, read_write> steps: array<f32>;
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
  if (index >= p.n) { return; }
  let row = index / p.G;
  let k = (index % p.G) * 32u;
  var xs: array<vec4f, 8>;
  var most = 0u;
  for (var i = 0u; i < min(32u, p.K - k); i++) { xs[i / 4u][i % 4u] = a[row * p.K + k + i]; }
  for (var j = 0u; j < 8u; j++) { most = max(most, largest(xs[j])); }
  let inverse = inverse_of(most);
  for (var j = 0u; j < 8u; j++) { words[index * 8u + j] = rounded(xs[j] * inverse); }
  steps[index] = scale_of(most);
}
