// WGSL functions that kernels ask for by name.
//
// Largest errors (SwiftShader 5.0.0 in Chromium 156 / lavapipe of Mesa 25.0.7); `scripts/builtins.mjs` measures those of an adapter in Node:
//   exp, -10..0         6.3e-7 / 6.6e-7 relative       exp, -87..88     3.9e-6 / 3.9e-6 relative
//   inverseSqrt         1.5 / 1.5 ulp                  3 / x, sqrt      0.5 / 0.5 ulp
//   sin, -pi..pi        1.9e-4 / 6.4e-8 absolute       log, 0.5..2      1.8e-7 / 1.4e-7 absolute (6e-4 relative near 1)
//   tanh, |x| < 0.5     1.4e-3 / 3.7e-3 relative       tanh(80)         NaN / 1
//   log(0), log(-1)     -88, 0 / -Infinity, NaN        v != v for NaN   false on both
// So division and inverseSqrt are used as they are, sin is not used, exp, log and tanh are computed here by the polynomials of the CPU
// kernels (Cephes), and NaN is recognised by its bits: drivers take `v != v` for false.

interface Part {
  readonly source: string;
  readonly needs?: readonly string[];
}

const parts: Record<string, Part> = {
  bits: {
    source: `fn of_bits(b: u32) -> f32 { return bitcast<f32>(b); }
fn is_nan(v: f32) -> bool { return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u; }`,
  },
  exp: {
    needs: ['bits'],
    source: `fn exp_f(v: f32) -> f32 {
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
}`,
  },
  log: {
    needs: ['bits'],
    source: `fn log_f(v: f32) -> f32 {
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
}`,
  },
  sigmoid: {
    needs: ['exp'],
    source: `fn sigmoid_f(v: f32) -> f32 {
  let t = exp_f(-abs(v));
  return select(1.0, t, v < 0.0) / (1.0 + t);
}`,
  },
  tanh: {
    needs: ['exp'],
    source: `fn tanh_f(v: f32) -> f32 {
  let a = abs(v);
  let z = v * v;
  var p = -5.70498872745e-3;
  p = p * z + 2.06390887954e-2;
  p = p * z - 5.37397155531e-2;
  p = p * z + 1.33314422036e-1;
  p = p * z - 3.33332819422e-1;
  let small = p * z * a + a;
  let big = 1.0 - 2.0 / (exp_f(a + a) + 1.0);
  let y = select(big, small, a < 0.625);
  return bitcast<f32>(bitcast<u32>(y) | (bitcast<u32>(v) & 0x80000000u));
}`,
  },
  atan: {
    source: `fn atan_f(v: f32) -> f32 {
  let a = abs(v);
  let large = a > 2.414213562373095;
  let middle = a > 0.414213562373095 && !large;
  let z = select(select(a, (a - 1.0) / (a + 1.0), middle), -1.0 / a, large);
  let start = select(select(0.0, 0.7853981633974483, middle), 1.5707963267948966, large);
  let w = z * z;
  var p = 8.05374449538e-2;
  p = p * w - 1.38776856032e-1;
  p = p * w + 1.99777106478e-1;
  p = p * w - 3.33329491539e-1;
  let y = start + (p * w * z + z);
  return bitcast<f32>(bitcast<u32>(y) | (bitcast<u32>(v) & 0x80000000u));
}`,
  },
  extrema: {
    needs: ['bits'],
    source: `fn max_f(a: f32, b: f32) -> f32 { return select(select(max(a, b), b, is_nan(b)), a, is_nan(a)); }
fn min_f(a: f32, b: f32) -> f32 { return select(select(min(a, b), b, is_nan(b)), a, is_nan(a)); }`,
  },
  // Values as whole numbers in the order of topK and argmax: NaN before all, -0 equal to 0. 0 is below every value.
  rank: {
    source: `fn rank_of(b: u32) -> u32 {
  let magnitude = b & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0xffffffffu; }
  if (magnitude == 0u) { return 0x80000000u; }
  return select(b | 0x80000000u, ~b, (b >> 31u) != 0u);
}`,
  },
};

/** The named functions and what they rest on, each once. */
export function librarySource(names: readonly string[]): string {
  const chosen = new Set<string>();
  const add = (name: string) => {
    for (const need of parts[name]!.needs ?? []) add(need);
    chosen.add(name);
  };
  for (const name of names) add(name);
  return [...chosen].map((name) => parts[name]!.source).join('\n');
}

/** Ends a reduction over `width` lanes in the workgroup array `name`: the result lies in its first entry. `combine` joins a and b. */
export function treeReduction(name: string, width: number, combine: string): string {
  return `for (var step = ${width / 2}u; step > 0u; step >>= 1u) {
    workgroupBarrier();
    if (lane < step) {
      let a = ${name}[lane];
      let b = ${name}[lane + step];
      ${name}[lane] = ${combine};
    }
  }
  workgroupBarrier();`;
}
