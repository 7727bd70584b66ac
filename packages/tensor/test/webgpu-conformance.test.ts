import { conform, opList } from '@unroll/tensor/testing';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { vulkanDevice } from './support/dawn.js';

// Both families of kernels: an adapter only ever takes one of them by itself.
describe.each(['software', 'gpu'] as const)('Dawn, kernels for %s', (tuning) => {
  let device: WebGPUDevice;
  beforeAll(async () => {
    device = await vulkanDevice({ tuning });
  });
  afterAll(() => device.dispose());

  describe.each(opList.map((op) => [op.name, op] as const))('%s', (_, op) => {
    it.each([1, 2])(
      'equals its reference on generated samples, seed %i',
      async (seed) => {
        expect(await conform(device, op, seed)).toEqual([]);
        // Software drivers compile for seconds, lavapipe the variants of matmul for a minute and more.
      },
      180_000,
    );
  });
});
