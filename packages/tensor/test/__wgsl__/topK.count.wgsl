struct Params { rows: u32, n: u32, k: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<u32>;
@group(0) @binding(3) var<storage, read_write> indices: array<i32>;
fn rank_of(b: u32) -> u32 {
  let magnitude = b & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0xffffffffu; }
  if (magnitude == 0u) { return 0x80000000u; }
  return select(b | 0x80000000u, ~b, (b >> 31u) != 0u);
}
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.rows * p.n) { return; }
  let start = (index / p.n) * p.n;
  let own = index - start;
  let bits = x[index];
  let rank = rank_of(bits);
  var before = 0u;
  for (var i = 0u; i < p.n && before < p.k; i++) {
    let other = rank_of(x[start + i]);
    before += select(0u, 1u, other > rank || (other == rank && i < own));
  }
  if (before < p.k) {
    let at = (index / p.n) * p.k + before;
    values[at] = bits;
    indices[at] = i32(own);
  }
}
