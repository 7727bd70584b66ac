// Weight matrices rounded to 4 bits by groups of 32 and kept as f32: what the two ways of rounding cost, apart from rounded activations.
const GROUP = 32;
/** Ranges that are tried for each group, from the whole one down. */
const SHRINK = [1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];

const view = new DataView(new ArrayBuffer(4));

/** The nearest f16 to a number, as a number. */
function half(x) {
  if (x === 0) return 0;
  view.setFloat32(0, x);
  const exponent = Math.max(((view.getUint32(0) >>> 23) & 255) - 127, -14);
  const unit = 2 ** (exponent - 10);
  return Math.round(x / unit) * unit;
}

/** 16 steps between the least and the greatest value of a group, both in f16, with the range of least squared error: 5 bits a weight. */
function withZeroPoints(group) {
  const low = Math.min(...group);
  const high = Math.max(...group);
  const middle = (low + high) / 2;
  let best;
  for (const part of SHRINK) {
    const base = half(middle + (low - middle) * part);
    const step = half(((high - low) * part) / 15);
    const rounded = group.map((x) => base + step * (step === 0 ? 0 : Math.min(15, Math.max(0, Math.round((x - base) / step)))));
    const error = rounded.reduce((sum, x, i) => sum + (x - group[i]) ** 2, 0);
    if (best === undefined || error < best.error) best = { error, rounded };
  }
  return best.rounded;
}

/** Values (N, K), each row in groups of 32 of its own. */
export function roundWithZeroPoints(values, [N, K]) {
  const out = new Float32Array(values.length);
  for (let n = 0; n < N; n++) {
    for (let k = 0; k < K; k += GROUP) {
      const at = n * K + k;
      const group = [...values.subarray(at, at + Math.min(GROUP, K - k))];
      out.set(withZeroPoints(group), at);
    }
  }
  return out;
}

/** The same in the library's q4, symmetric: 4.5 bits a weight. */
export async function roundSymmetric(device, values, shape) {
  const rounded = device.tensor(values, shape, { dtype: 'q4' });
  const out = await rounded.data();
  rounded.dispose();
  return out;
}
