import { expect, it } from 'vitest';
import { unroll } from './support.js';

it('bench --device cpu gives the time of a token, by kernel, and the share inside kernels', async () => {
  const { code, out } = await unroll(['bench', '--device', 'cpu', '--depth', '3', '-n', '6']);
  expect(code).toBe(0);
  const report = JSON.parse(out) as {
    model: string;
    device: string;
    tokenInNewCache: { microseconds: Record<'median' | 'best', number> };
    tokenInUsedCache: { microseconds: Record<'median' | 'best', number> };
    shareInsideKernels: Record<'median' | 'ofBest', number>;
    kernels: { kernel: string; callsPerToken: number; microsecondsPerToken: number }[];
  };
  expect(report).toMatchObject({ model: 'reckoner (embedded)', depth: 3, tokens: 6 });
  expect(report.device).toMatch(/^cpu: WebAssembly/);
  for (const { microseconds } of [report.tokenInNewCache, report.tokenInUsedCache]) {
    expect(microseconds.best).toBeLessThanOrEqual(microseconds.median);
  }
  expect(report.shareInsideKernels.median).toBeGreaterThan(0);
  expect(report.shareInsideKernels.ofBest).toBeLessThanOrEqual(1);
  // One attention for each layer call: prelude, 3 times the core's one layer, coda.
  expect(report.kernels.find(({ kernel }) => kernel === 'attention')?.callsPerToken).toBe(5);
}, 60_000);
