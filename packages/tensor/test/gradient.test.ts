import { createCpuDevice } from '@unroll/tensor/cpu';
import { conformGradient, opList } from '@unroll/tensor/testing';
import { afterAll, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());

describe.each(opList.filter((op) => typeof op.vjp === 'function').map((op) => [op.name, op] as const))('the gradient of %s', (_, op) => {
  it.each([1, 2, 3])('equals central differences of the reference, seed %i', async (seed) => {
    expect(await conformGradient(device, op, seed)).toEqual([]);
  });
});

it('is there for every operation, or a sentence says why not', () => {
  const without = opList.filter((op) => typeof op.vjp !== 'function');
  expect(without.map(({ name }) => name).sort()).toEqual(
    [
      'addNormGatedMatmul',
      'addNormMatmul',
      'addRmsNorm',
      'argmax',
      'assign',
      'attentionGrad',
      'crossEntropyGrad',
      'decodeAttention',
      'gatedMatmul',
      'normMatmul',
      'randomRows',
      'rmsNormGrad',
      'scatterAddRows',
      'scatterRows',
      'siluMulGrad',
      'topK',
    ].sort(),
  );
  for (const { name, vjp } of without) expect(vjp, name).toMatch(/\w+ \w+/);
});
