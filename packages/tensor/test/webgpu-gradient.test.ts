import { conformGradient, opList } from '@unroll/tensor/testing';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { vulkanDevice } from './support/dawn.js';

let device: WebGPUDevice;
beforeAll(async () => {
  device = await vulkanDevice();
});
afterAll(() => device.dispose());

describe.each(opList.filter((op) => typeof op.vjp === 'function').map((op) => [op.name, op] as const))(
  'the gradient of %s on Dawn',
  (_, op) => {
    it('equals central differences of the reference', async () => {
      expect(await conformGradient(device, op, 1)).toEqual([]);
      // Software drivers compile for seconds.
    }, 60_000);
  },
);
