import { createCpuDevice } from '@unroll/tensor/cpu';
import { conform, opList } from '@unroll/tensor/testing';
import { createWebGPUDevice, type GpuLike, type WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const named = opList.map((op) => [op.name, op] as const);

describe('WebGPU of this browser', () => {
  let device: WebGPUDevice;
  beforeAll(async () => {
    device = await createWebGPUDevice({ gpu: (navigator as { gpu?: GpuLike }).gpu });
  });
  afterAll(() => device.dispose());

  it.each(named)(
    '%s equals its reference on generated samples',
    async (_, op) => {
      expect(await conform(device, op, 1)).toEqual([]);
    },
    30_000,
  );

  it('reads and writes in their order, in one submit', async () => {
    const before = device.stats().submits;
    const x = device.tensor([1, 2, 3, 4]);
    device.write(x, Float32Array.of(9), 2);
    expect([...(await x.data())]).toEqual([1, 2, 9, 4]);
    expect(device.stats().submits - before).toBe(1);
    x.dispose();
  });
});

describe('WebAssembly of this browser', () => {
  const device = createCpuDevice();
  afterAll(() => device.dispose());

  it.each(named)('%s equals its reference on generated samples', async (_, op) => {
    expect(await conform(device, op, 1)).toEqual([]);
  });
});
