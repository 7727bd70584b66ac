import { afterEach, expect, it, vi } from 'vitest';

afterEach(() => {
  vi.restoreAllMocks();
});

it('the quick start prints what its comments say', async () => {
  const lines: unknown[][] = [];
  vi.spyOn(console, 'log').mockImplementation((...args) => {
    lines.push(args);
  });
  await import('../examples/quick-start.js');
  expect(lines).toHaveLength(2);
  const [indices, values] = lines[0] as [Int32Array, Float32Array];
  // rmsNorm(1, 1) = (1, 1) has logits 1, 1, 2; rmsNorm(1, 0) = (1.41, 0) has 1.41, 0, 1.41: of equals the first.
  expect([...indices]).toEqual([2, 0]);
  expect(values[0]).toBeCloseTo(Math.E / (2 + Math.E), 6);
  expect(values[1]).toBeCloseTo(1 / (2 + Math.exp(-Math.SQRT2)), 6);
  expect(lines[1]).toEqual([{ weights: 32, kv: 0, scratch: 24 }]);
});
