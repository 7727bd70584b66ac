import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HUGINN, uploadConfig } from '../src/make/make.js';
import { temporaryFolder, unroll } from './support.js';

describe('estimate', () => {
  it('tells bytes and cost of the embedded model, and measures', async () => {
    const { code, out, err } = await unroll(['estimate', '--dtype', 'q8', '--depths', '1,8', '--speed', '1', '--json']);
    expect(err).toBe('');
    expect(code).toBe(0);
    const report = JSON.parse(out);
    expect(report).toMatchObject({ family: 'sandwich', dtype: 'q8', wished: 1 });
    expect(report.byDepth[0].parameters).toBe(354336);
    expect(report.byDepth[1].weightsPerToken).toBeGreaterThan(report.byDepth[0].weightsPerToken);
    const { weightsPerSecond, bytesPerSecond } = report.rates;
    expect(weightsPerSecond).toBeGreaterThan(0);
    const { weightsPerToken, bytesPerToken, secondsPerToken } = report.byDepth[1];
    expect(secondsPerToken).toBe(Math.max(weightsPerToken / weightsPerSecond, bytesPerToken / bytesPerSecond));
    expect(report.depthForSpeed).toBeGreaterThan(8);
    expect(report.fit).toMatchObject({ fits: true, fitting: ['f32', 'f16', 'bf16', 'q8', 'q4'] });
  });

  it('measures nothing where that is asked for', async () => {
    const { out } = await unroll(['estimate', '--no-calibration', '--depths', '4']);
    expect(out).toMatch(/parameters +354,336/);
    expect(out).not.toMatch(/measured/);
  });

  // The numbers of the published model, from its configuration alone.
  it('needs no weights: the full size by its config.json', async () => {
    const folder = temporaryFolder();
    const file = join(folder, 'config.json');
    await writeFile(file, JSON.stringify(uploadConfig(HUGINN)));
    for (const model of [file, folder]) {
      const { code, out, err } = await unroll([
        'estimate',
        '--model',
        model,
        '--dtype',
        'q4',
        '--depths',
        '4,32',
        '--no-calibration',
        '--json',
      ]);
      expect([code, err]).toEqual([0, '']);
      const { family, byDepth, kv } = JSON.parse(out);
      expect(family).toBe('sandwich');
      expect(byDepth[1]).toMatchObject({ parameters: 3_564_976_800, flopsPerToken: 2 * byDepth[1].weightsPerToken });
      expect(byDepth[1].weightsPerToken / 1e9).toBeCloseTo(54.32, 2);
      const slot = 2 * 5280 * 4;
      const slots = Object.fromEntries(
        kv.map((row: { policy: string; kvBytesPerToken: number[] }) => [row.policy, row.kvBytesPerToken.map((bytes) => bytes / slot)]),
      );
      expect(slots).toEqual({
        'full, latest, always-last, skip': [20, 132],
        'compress-anchor': [20, 40],
        'compress-s16': [20, 20],
        'compress-s8': [12, 12],
        'compress-s4': [8, 8],
        'compress-r4': [8, 36],
        'last-only (decoded)': [8, 8],
      });
    }
    const { out } = await unroll(['estimate', '--model', file, '--dtype', 'bf16', '--depths', '32']);
    expect(out).toMatch(/room +no: [\d.]+ GiB do not fit in 4.0 GiB; --dtype (q8, )?q4 would/);
    expect(out).toMatch(/measured +[\d.]+ [GM] weights\/s in bf16, [\d.]+ [GM]iB\/s read/);
  });

  it('takes what is in a block from the option where only config.json is there, and from the weights where they are', async () => {
    const file = join(temporaryFolder(), 'config.json');
    await writeFile(file, JSON.stringify({ ...uploadConfig(HUGINN), qk_bias: false }));
    const parametersOf = async (...more: string[]) => {
      const { out } = await unroll(['estimate', '--model', file, '--no-calibration', '--json', ...more]);
      return JSON.parse(out).byDepth[0].parameters;
    };
    // Two norms of each of eight layers.
    expect((await parametersOf()) - (await parametersOf('--family', 'llama'))).toBe(8 * 2 * 5280);
    expect((await unroll(['estimate', '--family', 'llama', '--no-calibration'])).err).toMatch(
      /--family llama, but its tensors are those of sandwich/,
    );
    expect((await unroll(['estimate', '--family', 'gpt'])).err).toMatch(/--family must be sandwich, llama, olmo2, ouro; got "gpt"/);
  });

  it('refuses what it cannot read', async () => {
    expect((await unroll(['estimate', '--speed', 'fast'])).err).toMatch(/--speed must be a number/);
    expect((await unroll(['estimate', '--model', '/no/such'])).err).toMatch(/there is no folder "\/no\/such"/);
  });
});
