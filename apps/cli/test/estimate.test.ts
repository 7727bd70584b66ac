import { describe, expect, it } from 'vitest';
import { unroll } from './support.js';

describe('estimate', () => {
  it('tells bytes and cost of the embedded model, and measures', async () => {
    const { code, out, err } = await unroll(['estimate', '--dtype', 'q8', '--depths', '1,8', '--speed', '1', '--json']);
    expect(err).toBe('');
    expect(code).toBe(0);
    const report = JSON.parse(out);
    expect(report).toMatchObject({ family: 'sandwich', dtype: 'q8', wished: 1 });
    expect(report.byDepth[0].parameters).toBe(211520);
    expect(report.byDepth[1].weightsPerToken).toBeGreaterThan(report.byDepth[0].weightsPerToken);
    expect(report.weightsPerSecond).toBeGreaterThan(0);
    expect(report.depthForSpeed).toBeGreaterThan(8);
    expect(report.kv[0].kvBytesPerToken[1]).toBeGreaterThan(report.kv[1].kvBytesPerToken[1]);
  });

  it('measures nothing where that is asked for', async () => {
    const { out } = await unroll(['estimate', '--no-calibration', '--depths', '4']);
    expect(out).toMatch(/parameters +211,520/);
    expect(out).not.toMatch(/measured/);
  });

  it('refuses what it cannot read', async () => {
    expect((await unroll(['estimate', '--speed', 'fast'])).err).toMatch(/--speed must be a number/);
    expect((await unroll(['estimate', '--model', '/no/such'])).err).toMatch(/there is no folder "\/no\/such"/);
  });
});
