import { expect, test } from 'vitest';
import { depthAt, depthPlace } from '../src/ui/color.js';
import { bytes, duration, percent } from '../src/ui/format.js';
import { heatPlace, heatRange } from '../src/ui/heat.js';
import { logMarks } from '../src/ui/log-marks.js';
import { smooth } from '../src/ui/smooth.js';
import { depthsToShow } from '../src/ui/token-card.js';
import { wavefrontCells } from '../src/ui/wavefront-cells.js';

test('the dial is logarithmic, and every depth has a place that leads back to it', () => {
  for (let depth = 1; depth <= 64; depth++) expect(depthAt(depthPlace(depth))).toBe(depth);
  expect(depthPlace(8)).toBeCloseTo(0.5, 12);
  expect([depthAt(-1), depthAt(2)]).toEqual([1, 64]);
});

test('depths to show begin at 1, end at r, and grow apart', () => {
  expect(depthsToShow(4)).toEqual([1, 2, 3, 4]);
  for (const r of [10, 33, 64, 500]) {
    const shown = depthsToShow(r);
    expect([shown.length, shown[0], shown.at(-1)]).toEqual([9, 1, r]);
    expect(shown).toEqual([...new Set(shown)].sort((a, b) => a - b));
  }
});

test('wavefront cells count a position’s recurrences while it is in the window, and keep them when it is frozen', () => {
  const cells = wavefrontCells(
    [
      { start: 5, width: 1 },
      { start: 5, width: 2 },
      { start: 6, width: 2 },
    ],
    2,
  );
  expect(cells.map((row) => row.map(({ recurrences }) => recurrences))).toEqual([
    [2, 0, 0],
    [4, 2, 0],
    [4, 4, 2],
  ]);
  expect(cells.map((row) => row.map(({ active }) => active))).toEqual([
    [true, false, false],
    [true, true, false],
    [false, true, true],
  ]);
});

test('heat: colours span the finite changes on a log scale, at least a decade', () => {
  const range = heatRange(Float32Array.of(1, 0.01, 0, Number.NaN, Number.POSITIVE_INFINITY));
  expect(range[0]).toBeCloseTo(0.01, 6);
  expect(range[1]).toBe(1);
  expect(heatPlace(0.1, [0.01, 1])).toBeCloseTo(0.5, 12);
  expect([heatPlace(1e-9, [0.01, 1]), heatPlace(5, [0.01, 1])]).toEqual([0, 1]);
  expect(heatRange(Float32Array.of(0.5))[1]).toBe(5);
  expect(heatRange(new Float32Array(3))).toEqual([1e-3, 1]);
});

test('smoothing keeps the mean, and the last step at its place', () => {
  const values = Array.from({ length: 1000 }, (_, i) => i);
  const { x, y } = smooth(values, 100);
  expect([x.length, x.at(-1)]).toEqual([100, 1000]);
  expect(y.reduce((sum, value) => sum + value, 0) / y.length).toBeCloseTo(499.5, 9);
  expect(smooth([3, 4])).toEqual({ x: [1, 2], y: [3, 4] });
});

test('numbers for people', () => {
  expect([bytes(999), bytes(1500), bytes(2.5e6), bytes(3e9)]).toEqual(['999 B', '1.5 kB', '2.50 MB', '3.00 GB']);
  expect([percent(0), percent(0.0001), percent(0.5), percent(0.9995), percent(1)]).toEqual(['0 %', '<0.1 %', '50 %', '>99.9 %', '100 %']);
  expect([duration(4.2), duration(600), duration(7200)]).toEqual(['5 s', '10 min', '2.0 h']);
});

test('marks of a log axis are powers of ten over many decades', () => {
  expect(logMarks(0.7, 8)).toEqual([1, 2, 5]);
  expect(logMarks(1e-6, 10)).toEqual([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10]);
});
