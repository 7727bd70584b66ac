struct Params { n: u32, T: u32, H: u32, Hk: u32, S: u32, R: i32, scale: f32, site: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> k: array<f32>;
@group(0) @binding(3) var<storage, read> v: array<f32>;
@group(0) @binding(4) var<storage, read> keyRows: array<i32>;
@group(0) @binding(5) var<storage, read> visible: array<i32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> fault: array<atomic<u32>, 3>;
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
var<workgroup> query_values: array<f32, 64>;
var<workgroup> weights: array<f32, 64>;
var<workgroup> rows: array<i32, 64>;
var<workgroup> partial: array<f32, 64>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (group >= p.n) { return; }
  let query = group / p.H;
  let kv = (group % p.H) / (p.H / p.Hk);
  let asked = visible[query];
  let limit = clamp(asked, 0, i32(p.S));
  if (limit != asked && lane == 0u) { report(asked, query); }
  for (var d = lane; d < 64u; d += 64u) { query_values[d] = q[group * 64u + d]; }
  workgroupBarrier();
  var result: array<f32, 1>;
  var best = -3.4e38;
  var total = 0.0;
  for (var first = 0; first < limit; first += 64) {
    let j = first + i32(lane);
    var row = -1;
    if (j < limit) { row = keyRows[(query / p.T) * p.S + u32(j)]; }
    if (row < -1 || row >= p.R) {
      report(asked, query);
      row = -1;
    }
    var score = -3.4e38;
    if (row >= 0) {
      let at = (u32(row) * p.Hk + kv) * 64u;
      score = 0.0;
      for (var d = 0u; d < 64u; d++) { score += query_values[d] * k[at + d]; }
      score *= p.scale;
    }
    partial[lane] = score;
    for (var step = 32u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      let a = partial[lane];
      let b = partial[lane + step];
      partial[lane] = max(a, b);
    }
  }
  workgroupBarrier();
    let next = max(best, partial[0]);
    workgroupBarrier();
    let weight = select(0.0, exp_f(score - next), row >= 0);
    weights[lane] = weight;
    rows[lane] = max(row, 0);
    partial[lane] = weight;
    for (var step = 32u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      let a = partial[lane];
      let b = partial[lane + step];
      partial[lane] = a + b;
    }
  }
  workgroupBarrier();
    let keep = exp_f(best - next);
    total = total * keep + partial[0];
    best = next;
    let count = min(limit - first, 64);
    for (var o = 0u; o < 1u; o++) {
      let d = lane + o * 64u;
      if (d < 64u) {
        var sum = result[o] * keep;
        for (var i = 0; i < count; i++) { sum += weights[i] * v[(u32(rows[i]) * p.Hk + kv) * 64u + d]; }
        result[o] = sum;
      }
    }
    workgroupBarrier();
  }
  let inverse = select(0.0, 1.0 / total, total > 0.0);
  for (var o = 0u; o < 1u; o++) {
    let d = lane + o * 64u;
    if (d < 64u) { y[group * 64u + d] = result[o] * inverse; }
  }
}
