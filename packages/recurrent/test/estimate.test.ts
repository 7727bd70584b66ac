import { parseKVPolicy } from '@unroll/nn';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { describe, expect, it } from 'vitest';
import { estimate, largestDepth, ouro, type RecurrentConfig } from '../src/index.js';
import { tinyConfig, tinyModel } from './helpers.js';

const huginn: RecurrentConfig = {
  ...tinyConfig,
  vocabularySize: 65536,
  contextLength: 4096,
  width: 5280,
  heads: 55,
  kvHeads: 55,
  mlpWidth: 17920,
  preludeLayers: 2,
  coreLayers: 4,
  codaLayers: 2,
  meanRecurrence: 32,
};

describe('estimate', () => {
  it('has the published numbers of huginn-0125', () => {
    const { parameters, weightsPerToken, kvBytesPerToken, weightBytes, flopsPerToken } = estimate(huginn, { dtype: 'q4' });
    expect(parameters).toBe(3_564_976_800);
    // 54.3 G weights at depth 32: 32 loops of 1.637 G, 1.58 G of prelude and coda, 0.346 G of head.
    expect(weightsPerToken / 1e9).toBeCloseTo(54.32, 2);
    expect(flopsPerToken).toBe(2 * weightsPerToken);
    expect(kvBytesPerToken).toBe(132 * 2 * 5280 * 4);
    // 4 bits, and 16 for each 32.
    expect(weightBytes / parameters).toBeCloseTo(0.5625, 3);
    expect(estimate(huginn, { dtype: 'bf16' }).weightBytes / parameters).toBeCloseTo(2, 3);
    expect(estimate(huginn, { dtype: 'q4', policy: parseKVPolicy('latest-compress-s4') }).kvBytesPerToken).toBe(8 * 2 * 5280 * 4);
  });

  it('counts the bytes that a loaded model takes', () => {
    const device = createCpuDevice();
    const model = tinyModel(device);
    expect(estimate(tinyConfig, { dtype: 'f32' }).weightBytes + 4 * model.rope.size).toBe(device.memory().bytes.weights);
    model.dispose();
    device.dispose();
  });

  it('leaves an embedding out that is not the head, and loops what is in the loop', () => {
    const untied = { ...tinyConfig, tiedHead: false };
    const at = (recurrences: number, config: RecurrentConfig) => estimate(config, { dtype: 'f32', recurrences }).weightsPerToken;
    expect(at(3, untied)).toBe(at(3, tinyConfig));
    const C = 24;
    const block = 3 * C * C + C * C + 3 * 20 * C;
    expect(at(3, tinyConfig) - at(2, tinyConfig)).toBe(2 * C * C + 2 * block);
    const whole = { ...untied, preludeLayers: 0, codaLayers: 0, qkBias: false };
    expect(estimate(whole, { dtype: 'f32', recurrences: 2, family: ouro }).weightsPerToken).toBe(2 * (2 * block + C) + 23 * C);
  });

  it('takes the slower of the two rates, and finds the depth for a speed', () => {
    const of = (rates: { weightsPerSecond: number; bytesPerSecond?: number }) => estimate(huginn, { dtype: 'q8', recurrences: 4, rates });
    const { weightsPerToken, bytesPerToken } = estimate(huginn, { dtype: 'q8', recurrences: 4 });
    expect(of({ weightsPerSecond: 1e9 }).secondsPerToken).toBeCloseTo(weightsPerToken / 1e9, 9);
    expect(of({ weightsPerSecond: 1e12, bytesPerSecond: 1e9 }).secondsPerToken).toBeCloseTo(bytesPerToken / 1e9, 9);
    const rates = { weightsPerSecond: 1e10, bytesPerSecond: 2e10 };
    const depth = largestDepth(huginn, 1, { dtype: 'q4', rates });
    expect(estimate(huginn, { dtype: 'q4', recurrences: depth, rates }).secondsPerToken).toBeLessThanOrEqual(1);
    expect(estimate(huginn, { dtype: 'q4', recurrences: depth + 1, rates }).secondsPerToken).toBeGreaterThan(1);
    expect(largestDepth(huginn, 1000, { dtype: 'q4', rates })).toBe(0);
    expect(() => of({ weightsPerSecond: 0 })).toThrow(/rates must be above 0/);
  });
});
