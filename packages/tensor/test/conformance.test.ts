import { createCpuDevice } from '@unroll/tensor/cpu';
import { conform, opList } from '@unroll/tensor/testing';
import { afterAll, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());

describe.each(opList.map((op) => [op.name, op] as const))('%s', (_, op) => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('equals its reference on generated samples, seed %i', async (seed) => {
    expect(await conform(device, op, seed)).toEqual([]);
  });
});
