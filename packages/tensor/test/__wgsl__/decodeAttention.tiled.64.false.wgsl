struct Params { n: u32, B: u32, H: u32, Hk: u32, S: u32, R: i32, P: i32, call: u32, scale: f32, site: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read> keyRows: array<i32>;
@group(0) @binding(4) var<storage, read> visible: array<i32>;
@group(0) @binding(5) var<storage, read_write> k: array<f32>;
@group(0) @binding(6) var<storage, read_write> v: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read_write> fault: array<atomic<u32>, 3>;
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
var<workgroup> query: array<f32, 64>;
var<workgroup> key: array<f32, 64>;
var<workgroup> weights: array<f32, 64>;
var<workgroup> rows: array<i32, 64>;
var<workgroup> partial: array<f32, 64>;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (group >= p.n) { return; }
  let b = group / p.H;
  let h = group % p.H;
  let per = p.H / p.Hk;
  let kv = h / per;
  let asked = visible[b];
  let limit = clamp(asked, 0, i32(p.S));
  let names = (p.call * p.B + b) * p.S;
  let last = limit - 1;
  var own = -1;
  if (last >= 0) { own = keyRows[names + u32(last)]; }
  if (lane == 0u && (limit != asked || own < -1 || own >= p.R)) { report(asked, b); }
  if (own >= p.R) { own = -1; }
  let turned = last >= 0 && last < p.P;
  let start = b * (p.H + 2u * p.Hk);
  for (var i = lane * 2u; i < 64u; i += 128u) {
    var c = 1.0;
    var s = 0.0;
    if (turned) {
      c = table[u32(last) * 64u + i];
      s = table[u32(last) * 64u + i + 1u];
    }
    let q0 = qkv[(start + h) * 64u + i];
    let q1 = qkv[(start + h) * 64u + i + 1u];
    let k0 = qkv[(start + p.H + kv) * 64u + i];
    let k1 = qkv[(start + p.H + kv) * 64u + i + 1u];
    query[i] = q0 * c - q1 * s;
    query[i + 1u] = q0 * s + q1 * c;
    key[i] = k0 * c - k1 * s;
    key[i + 1u] = k0 * s + k1 * c;
  }
  workgroupBarrier();
  let values = (start + p.H + p.Hk + kv) * 64u;
  if (own >= 0 && h % per == 0u) {
    for (var d = lane; d < 64u; d += 64u) {
      k[(u32(own) * p.Hk + kv) * 64u + d] = key[d];
      v[(u32(own) * p.Hk + kv) * 64u + d] = qkv[values + d];
    }
  }
  var result: array<f32, 1>;
  var best = -3.4e38;
  var total = 0.0;
  for (var first = 0; first < limit; first += 64) {
    let j = first + i32(lane);
    var row = -1;
    if (j < last) { row = keyRows[names + u32(j)]; }
    if (j == last) { row = own; }
    if (row < -1 || row >= p.R) {
      report(asked, b);
      row = -1;
    }
    var score = -3.4e38;
    if (row >= 0) {
      let at = (u32(row) * p.Hk + kv) * 64u;
      score = 0.0;
      if (j < last) {
        for (var d = 0u; d < 64u; d++) { score += query[d] * k[at + d]; }
      } else {
        for (var d = 0u; d < 64u; d++) { score += query[d] * key[d]; }
      }
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
    let count = min(last - first, 64);
    for (var o = 0u; o < 1u; o++) {
      let d = lane + o * 64u;
      if (d < 64u) {
        var sum = result[o] * keep;
        for (var i = 0; i < count; i++) { sum += weights[i] * v[(u32(rows[i]) * p.Hk + kv) * 64u + d]; }
        if (count >= 0 && count < 64) { sum += weights[count] * qkv[values + d]; }
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
