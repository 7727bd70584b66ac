struct Params { n: u32, width: u32, R: i32, first: i32, count: i32, site: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> indices: array<i32>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> table: array<u32>;
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

var<workgroup> later: atomic<u32>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (group >= p.n) { return; }
  let row = indices[group];
  if (row < 0 || row >= p.R) {
    if (lane == 0u && row != -1) { report(row, group); }
    return;
  }
  for (var i = group + 1u + lane; i < p.n; i += 64u) {
    if (indices[i] == row) { atomicStore(&later, 1u); }
  }
  workgroupBarrier();
  if (atomicLoad(&later) == 1u || row < p.first || row >= p.first + p.count) { return; }
  for (var c = lane; c < p.width; c += 64u) { table[u32(row - p.first) * p.width + c] = rows[group * p.width + c]; }
}
