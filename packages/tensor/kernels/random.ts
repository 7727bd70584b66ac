import { log1 } from './math';

@inline
function round(x0: u32, x1: u32, r: i32): u32 {
  return rotl<u32>(x1, r) ^ x0;
}

// Threefry-2x32, 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Returns word 0 in the low half.
@inline
function threefry(k0: u32, k1: u32, c0: u32, c1: u32): u64 {
  const k2 = k0 ^ k1 ^ 0x1bd11bda;
  let x0 = c0 + k0, x1 = c1 + k1;
  x0 += x1; x1 = round(x0, x1, 13); x0 += x1; x1 = round(x0, x1, 15); x0 += x1; x1 = round(x0, x1, 26); x0 += x1; x1 = round(x0, x1, 6);
  x0 += k1; x1 += k2 + 1;
  x0 += x1; x1 = round(x0, x1, 17); x0 += x1; x1 = round(x0, x1, 29); x0 += x1; x1 = round(x0, x1, 16); x0 += x1; x1 = round(x0, x1, 24);
  x0 += k2; x1 += k0 + 2;
  x0 += x1; x1 = round(x0, x1, 13); x0 += x1; x1 = round(x0, x1, 15); x0 += x1; x1 = round(x0, x1, 26); x0 += x1; x1 = round(x0, x1, 6);
  x0 += k0; x1 += k1 + 3;
  x0 += x1; x1 = round(x0, x1, 17); x0 += x1; x1 = round(x0, x1, 29); x0 += x1; x1 = round(x0, x1, 16); x0 += x1; x1 = round(x0, x1, 24);
  x0 += k1; x1 += k2 + 4;
  x0 += x1; x1 = round(x0, x1, 13); x0 += x1; x1 = round(x0, x1, 15); x0 += x1; x1 = round(x0, x1, 26); x0 += x1; x1 = round(x0, x1, 6);
  x0 += k2; x1 += k0 + 5;
  return (<u64>x1 << 32) | <u64>x0;
}

// 23 bits, centred: k + 0.5 is exact in f32 below 2^23, so the value is never 0 nor 1.
@inline
function uniform(bits: u32): f32 {
  return (<f32>(bits >> 9) + 0.5) * 1.1920928955078125e-7;
}

// Giles 2012, "Approximating the erfinv function", single precision.
@inline
function erfinv(x: f32): f32 {
  let w = -log1((<f32>1 - x) * (<f32>1 + x));
  let p: f32;
  if (w < 5) {
    w -= 2.5;
    p = 2.81022636e-8;
    p = 3.43273939e-7 + p * w;
    p = -3.5233877e-6 + p * w;
    p = -4.39150654e-6 + p * w;
    p = 0.00021858087 + p * w;
    p = -0.00125372503 + p * w;
    p = -0.00417768164 + p * w;
    p = 0.246640727 + p * w;
    p = 1.50140941 + p * w;
  } else {
    w = sqrt<f32>(w) - 3;
    p = -0.000200214257;
    p = 0.000100950558 + p * w;
    p = 0.00134934322 + p * w;
    p = -0.00367342844 + p * w;
    p = 0.00573950773 + p * w;
    p = -0.0076224613 + p * w;
    p = 0.00943887047 + p * w;
    p = 1.00167406 + p * w;
    p = 2.83297682 + p * w;
  }
  return p * x;
}

// -log(E) with E exponential. Small E decides who wins a Gumbel race: it keeps all 32 bits near 0, where 1 - u would lose them.
@inline
function gumbel(bits: u32): f32 {
  let e: f32;
  if (bits < 0x80000000) {
    const v = -(<f32>bits + 0.5) * 2.3283064365386963e-10;
    const u = <f32>1 + v;
    e = u == 1 ? -v : -log1(u) * (v / (u - 1));
  } else {
    e = -log1((<f32>~bits + 0.5) * 2.3283064365386963e-10);
  }
  return -log1(e);
}

/**
 * y (N, width): row n is drawn with key (keys[n, 0], keys[n, 1]) and counter (channel / 2, positions[n]), so a value depends on nothing else.
 * Codes: 0 uniform in (0, 1); 1 normal cut at +-bound, as scale * sqrt(2) * erfinv((2u - 1) * edge), edge = erf(bound / sqrt 2); 2 Gumbel.
 */
export function random(code: i32, keys: usize, positions: usize, y: usize, N: i32, width: i32, scale: f32, edge: f32): void {
  for (let n = 0; n < N; n++) {
    const k0 = load<u32>(keys + ((<usize>n) << 3));
    const k1 = load<u32>(keys + ((<usize>n) << 3), 4);
    const position = load<u32>(positions + ((<usize>n) << 2));
    let words: u64 = 0;
    for (let c = 0; c < width; c++) {
      if ((c & 1) == 0) words = threefry(k0, k1, <u32>(c >> 1), position);
      const bits = c & 1 ? <u32>(words >> 32) : <u32>words;
      let v: f32;
      if (code == 0) v = uniform(bits);
      else if (code == 1) v = scale * (<f32>1.4142135623730951 * erfinv((<f32>2 * uniform(bits) - 1) * edge));
      else v = gumbel(bits);
      f32.store(y + ((<usize>(n * width + c)) << 2), v);
    }
  }
}
