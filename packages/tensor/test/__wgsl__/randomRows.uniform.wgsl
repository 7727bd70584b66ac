struct Params { n: u32, width: u32, deviation: f32, edge: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> keys: array<u32>;
@group(0) @binding(2) var<storage, read> positions: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
fn of_bits(b: u32) -> f32 { return bitcast<f32>(b); }
fn is_nan(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }
fn log_f(v: f32) -> f32 {
  let b = bitcast<u32>(v);
  let zero = (b & 0x7fffffffu) < 0x00800000u;
  var e = f32(i32(b >> 23u) - 126);
  var m = bitcast<f32>((b & 0x007fffffu) | 0x3f000000u);
  if (m < 0.70710678) { e -= 1.0; m = m + m - 1.0; } else { m = m - 1.0; }
  let z = m * m;
  var p = 7.0376836292e-2;
  p = p * m - 1.1514610310e-1;
  p = p * m + 1.1676998740e-1;
  p = p * m - 1.2420140846e-1;
  p = p * m + 1.4249322787e-1;
  p = p * m - 1.6668057665e-1;
  p = p * m + 2.0000714765e-1;
  p = p * m - 2.4999993993e-1;
  p = p * m + 3.3333331174e-1;
  p = p * m * z;
  p = p - e * 2.12194440e-4;
  p = p - z * 0.5;
  var y = (m + p) + e * 0.693359375;
  // Subnormals count as 0: a GPU may flush them anyway.
  y = select(y, of_bits(0xff800000u), zero);
  y = select(y, of_bits(0x7fc00000u), (b >> 31u) != 0u && !zero);
  return select(y, v, b == 0x7f800000u || is_nan(v));
}
fn turn(x: vec2u, r: u32) -> vec2u {
  let sum = x.x + x.y;
  return vec2u(sum, ((x.y << r) | (x.y >> (32u - r))) ^ sum);
}

fn threefry(k0: u32, k1: u32, c0: u32, c1: u32) -> vec2u {
  let k2 = k0 ^ k1 ^ 0x1bd11bdau;
  var x = vec2u(c0 + k0, c1 + k1);
  x = turn(turn(turn(turn(x, 13u), 15u), 26u), 6u) + vec2u(k1, k2 + 1u);
  x = turn(turn(turn(turn(x, 17u), 29u), 16u), 24u) + vec2u(k2, k0 + 2u);
  x = turn(turn(turn(turn(x, 13u), 15u), 26u), 6u) + vec2u(k0, k1 + 3u);
  x = turn(turn(turn(turn(x, 17u), 29u), 16u), 24u) + vec2u(k1, k2 + 4u);
  return turn(turn(turn(turn(x, 13u), 15u), 26u), 6u) + vec2u(k2, k0 + 5u);
}

fn uniform_of(bits: u32) -> f32 { return (f32(bits >> 9u) + 0.5) * 1.1920928955078125e-7; }

fn draw(bits: u32) -> f32 { return uniform_of(bits); }
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = wg.x + wg.y * groups.x;
  let index = group * 64u + lane;
  if (index >= p.n) { return; }
  let pairs = (p.width + 1u) / 2u;
  let row = index / pairs;
  let pair = index % pairs;
  let words = threefry(keys[2u * row], keys[2u * row + 1u], pair, positions[row]);
  let at = row * p.width + 2u * pair;
  y[at] = draw(words.x);
  if (2u * pair + 1u < p.width) { y[at + 1u] = draw(words.y); }
}
