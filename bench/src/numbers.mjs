/** Numbers from -1 to 1 by seed: xorshift, the same on every machine. */
export function uniform(size, seed, scale = 1) {
  const out = new Float32Array(size);
  let x = Math.imul(seed + 1, 0x9e3779b1) | 1;
  const factor = scale / 2147483648;
  for (let i = 0; i < size; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    out[i] = x * factor;
  }
  return out;
}

/** (rows, cols) -> (cols, rows) */
export function transposed(data, rows, cols) {
  const out = new Float32Array(data.length);
  const tile = 32;
  for (let r0 = 0; r0 < rows; r0 += tile) {
    for (let c0 = 0; c0 < cols; c0 += tile) {
      for (let r = r0; r < Math.min(rows, r0 + tile); r++) {
        for (let c = c0; c < Math.min(cols, c0 + tile); c++) out[c * rows + r] = data[r * cols + c];
      }
    }
  }
  return out;
}

const word = new Uint32Array(1);
const real = new Float32Array(word.buffer);

/** The bits of the f16 nearest to a number, ties to even. */
export function toHalf(value) {
  real[0] = value;
  const bits = word[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x7f800000) return sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00);
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: the value in units of 2^-24.
    const units = Math.abs(value) * 16777216;
    const floor = Math.floor(units);
    const rest = units - floor;
    return sign | (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor);
  }
  const half = (magnitude - 0x38000000) >>> 13;
  const rest = magnitude & 0x1fff;
  return sign | (rest > 0x1000 || (rest === 0x1000 && half % 2 === 1) ? half + 1 : half);
}

/** The value of f16 bits. */
export function fromHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

/** Outputs that `productError` looks at: the corners, and some in between. */
function chosenOutputs(M, N, count = 512) {
  if (M * N <= count) return Array.from({ length: M * N }, (_, i) => i);
  const chosen = new Set([0, N - 1, (M - 1) * N, M * N - 1]);
  for (let i = 0; i < count; i++) chosen.add((i * 7919 + 13 * Math.floor(i / M)) % (M * N));
  return chosen;
}

/**
 * How far C (M, N) is from A (M, K) times B (N, K) transposed in f64, over some outputs: max |difference| / sum |a||b|.
 * Infinity when C has another size or holds NaN.
 */
export function productError({ M, K, N }, a, b, c) {
  if (c.length !== M * N) return Number.POSITIVE_INFINITY;
  let worst = 0;
  for (const at of chosenOutputs(M, N)) {
    const m = Math.floor(at / N);
    const n = at % N;
    let sum = 0;
    let size = 0;
    for (let k = 0; k < K; k++) {
      const product = a[m * K + k] * b[n * K + k];
      sum += product;
      size += Math.abs(product);
    }
    const error = Math.abs(c[at] - sum) / size;
    if (!(error <= worst)) worst = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
  }
  return worst;
}

/** The most that `productError` may be for weights of a kind. */
export const allowedError = { f32: 1e-6, f16: 1e-3, q8: 2e-3, dynq8: 5e-3, q4: 1e-2 };
