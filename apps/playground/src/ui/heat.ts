/** Bounds of the colours: the data's own, at least a decade apart. */
export function heatRange(change: Float32Array): readonly [number, number] {
  let [low, high] = [Number.POSITIVE_INFINITY, 0];
  for (const value of change) {
    if (!(value > 0) || !Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (high === 0) return [1e-3, 1];
  return [Math.max(low, high * 1e-6), Math.max(high, low * 10)];
}

/** Place of a change on the logarithmic scale of colours, 0 to 1. */
export const heatPlace = (value: number, [low, high]: readonly [number, number]): number =>
  value <= low ? 0 : Math.min(1, Math.log(value / low) / Math.log(high / low));
