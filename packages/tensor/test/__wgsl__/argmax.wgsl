struct Params { rows: u32, n: u32, mark: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<i32>;
fn rank_of(b: u32) -> u32 {
  let magnitude = b & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0xffffffffu; }
  if (magnitude == 0u) { return 0x80000000u; }
  return select(b | 0x80000000u, ~b, (b >> 31u) != 0u);
}
var<workgroup> firsts: array<vec2u, 256>;
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 256u + lane;
  if (group >= p.rows) { return; }
  var best = vec2u(0u, 0xffffffffu);
  for (var i = lane; i < p.n; i += 256u) {
    let rank = rank_of(x[group * p.n + i]);
    if (rank > best.x) { best = vec2u(rank, i); }
  }
  firsts[lane] = best;
  for (var step = 128u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      let a = firsts[lane];
      let b = firsts[lane + step];
      firsts[lane] = select(a, b, b.x > a.x || (b.x == a.x && b.y < a.y));
    }
  }
  workgroupBarrier();
  if (lane == 0u) {
    let at = i32(firsts[0].y);
    y[group] = select(at, ~at, p.mark == 1u && firsts[0].x == 0xffffffffu);
  }
}
