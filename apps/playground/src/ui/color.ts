type Rgb = readonly [number, number, number];

/** From shallow to deep: cool to warm. */
const DEPTH: readonly Rgb[] = [
  [38, 178, 190],
  [76, 132, 255],
  [170, 98, 240],
  [255, 112, 67],
];

/** From still to moving (inferno, resampled). */
const HEAT: readonly Rgb[] = [
  [0, 0, 4],
  [40, 11, 84],
  [101, 21, 110],
  [159, 42, 99],
  [212, 72, 66],
  [245, 125, 21],
  [250, 193, 39],
  [252, 255, 164],
];

function along(stops: readonly Rgb[], t: number): Rgb {
  const x = Math.min(1, Math.max(0, t)) * (stops.length - 1);
  const i = Math.min(stops.length - 2, Math.floor(x));
  const mix = (c: 0 | 1 | 2) => Math.round(stops[i]![c] + (x - i) * (stops[i + 1]![c] - stops[i]![c]));
  return [mix(0), mix(1), mix(2)];
}

const MOST = 64;

/** Place of a depth on the dial, 0 to 1: logarithmic. */
export const depthPlace = (depth: number): number => Math.log(Math.max(1, depth)) / Math.log(MOST);

/** The depth at a place of the dial. */
export const depthAt = (place: number): number => Math.round(MOST ** Math.min(1, Math.max(0, place)));

export const depthColor = (depth: number): string => `rgb(${along(DEPTH, depthPlace(depth)).join(' ')})`;

export const heatColor = (t: number): Rgb => along(HEAT, t);

/** Colours that stay apart in both themes, for lines side by side. */
export const SERIES = ['#26b2be', '#ff7043', '#4c84ff', '#c8921b', '#aa62f0', '#3fa15f', '#e0559b', '#7f8796'] as const;
export const seriesColor = (i: number): string => SERIES[i % SERIES.length]!;
