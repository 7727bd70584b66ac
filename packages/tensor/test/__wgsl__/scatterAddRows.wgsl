struct Params { n: u32, places: u32, width: u32, R: i32, first: i32, site: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> indices: array<i32>;
@group(0) @binding(2) var<storage, read> rows: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> fault: array<atomic<u32>, 3>;
fn report(value: i32, place: u32) {
  loop {
    let seen = atomicCompareExchangeWeak(&fault[0], 0u, p.site);
    if (seen.exchanged) {
      atomicStore(&fault[1], bitcast<u32>(value));
      atomicStore(&fault[2], place);
    }
    if (seen.exchanged || seen.old_value != 0u) { break; }
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.n) { return; }
  let row = i32(index / p.width) + p.first;
  let column = index % p.width;
  var sum = 0.0;
  for (var i = 0u; i < p.places; i++) {
    let here = indices[i];
    if (here == row) { sum += rows[i * p.width + column]; }
    if (index == 0u && (here < -1 || here >= p.R)) { report(here, i); }
  }
  y[index] = sum;
}
