struct Params { n: u32, H: u32, half: u32, P: u32, turn: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read> positions: array<i32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.n) { return; }
  let i = index % p.half;
  let head = index / p.half;
  let position = positions[head / p.H];
  var c = 1.0;
  var s = 0.0;
  if (position >= 0 && position < i32(p.P)) {
    let at = 2u * (u32(position) * p.half + i);
    c = table[at];
    s = p.turn * table[at + 1u];
  }
  let first = head * p.half * 2u + i;
  let second = first + p.half;
  let u = x[first];
  let v = x[second];
  y[first] = u * c - v * s;
  y[second] = u * s + v * c;
}
