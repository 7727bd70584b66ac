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
var<workgroup> counts: array<atomic<u32>, 256>;
var<workgroup> candidates: array<vec2u, 64>;
var<workgroup> found: atomic<u32>;
var<workgroup> state: vec4u;

fn place_of(b: u32, i: u32) -> vec2u { return vec2u(rank_of(b), ~i); }

/** Whether the bits above those of this pass equal the prefix. */
fn under(place: vec2u, prefix: vec2u, pass_number: u32) -> bool {
  if (pass_number == 0u) { return true; }
  if (pass_number < 4u) { return (place.x >> (32u - 8u * pass_number)) == (prefix.x >> (32u - 8u * pass_number)); }
  if (place.x != prefix.x) { return false; }
  return pass_number == 4u || (place.y >> (64u - 8u * pass_number)) == (prefix.y >> (64u - 8u * pass_number));
}

fn digit_of(place: vec2u, pass_number: u32) -> u32 {
  return (select(place.y, place.x, pass_number < 4u) >> (24u - 8u * (pass_number & 3u))) & 255u;
}
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 256u + lane;
  if (group >= p.rows) { return; }
  let start = group * p.n;
  var prefix = vec2u(0u);
  var wanted = p.k;
  for (var pass_number = 0u; pass_number < 8u; pass_number++) {
    atomicStore(&counts[lane], 0u);
    workgroupBarrier();
    for (var i = lane; i < p.n; i += 256u) {
      let place = place_of(x[start + i], i);
      if (under(place, prefix, pass_number)) { atomicAdd(&counts[digit_of(place, pass_number)], 1u); }
    }
    workgroupBarrier();
    if (lane == 0u) {
      var left = wanted;
      var digit = 255u;
      loop {
        let here = atomicLoad(&counts[digit]);
        if (here >= left || digit == 0u) {
          state = vec4u(digit, left, select(0u, 1u, here == left), 0u);
          break;
        }
        left -= here;
        digit--;
      }
    }
    let chosen = workgroupUniformLoad(&state);
    wanted = chosen.y;
    if (pass_number < 4u) { prefix.x |= chosen.x << (24u - 8u * pass_number); } else { prefix.y |= chosen.x << (56u - 8u * pass_number); }
    // All below this prefix are wanted: it is the smallest place of the selection.
    if (chosen.z == 1u) { break; }
  }
  for (var i = lane; i < 64u; i += 256u) { candidates[i] = vec2u(0u); }
  if (lane == 0u) { atomicStore(&found, 0u); }
  workgroupBarrier();
  for (var i = lane; i < p.n; i += 256u) {
    let place = place_of(x[start + i], i);
    if (place.x > prefix.x || (place.x == prefix.x && place.y >= prefix.y)) {
      let at = atomicAdd(&found, 1u);
      if (at < 64u) { candidates[at] = place; }
    }
  }
  for (var size = 2u; size <= 64u; size <<= 1u) {
    for (var step = size >> 1u; step > 0u; step >>= 1u) {
      workgroupBarrier();
      for (var i = lane; i < 64u; i += 256u) {
        let other = i ^ step;
        if (other > i) {
          let a = candidates[i];
          let b = candidates[other];
          let a_first = a.x > b.x || (a.x == b.x && a.y > b.y);
          if (a_first == ((i & size) != 0u)) {
            candidates[i] = b;
            candidates[other] = a;
          }
        }
      }
    }
  }
  workgroupBarrier();
  for (var i = lane; i < p.k; i += 256u) {
    let index_in_row = ~candidates[i].y;
    values[group * p.k + i] = x[start + index_in_row];
    indices[group * p.k + i] = i32(index_in_row);
  }
}
