import { KVCache, parseKVPolicy } from '@unroll/nn';
import { findLeaks } from '@unroll/tensor/testing';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { vulkanDevice } from './vulkan.js';

// There a pool does not shrink where it is: what is left moves to other memory.

let device: WebGPUDevice;
beforeAll(async () => {
  device = await vulkanDevice();
});
afterAll(() => device.dispose());

it('a cache that shrinks keeps the keys of the other sequence, whichever allocation is refused', async () => {
  const layers = { prelude: 0, core: 1, coda: 0 };
  const append = async (cache: KVCache, sequence: number, mark: number, tokens = 1) => {
    const from = cache.length(sequence);
    const pass = cache.begin(
      Int32Array.from({ length: tokens }, (_, i) => from + i),
      [sequence],
    );
    const values = device.tensor(
      Array.from({ length: 4 * tokens }, (_, i) => mark + Math.floor(i / 4)),
      [1, tokens, 1, 4],
    );
    const views = [];
    try {
      const { k, keyRows, visible } = pass.keys({ part: 'core', loop: 0, layer: 0 }, values, values);
      views.push(keyRows, visible);
      const [rows, pool] = [await keyRows.data(), await k.data()];
      return Array.from(rows, (row) => pool[4 * row]!);
    } finally {
      for (const tensor of [values, ...views]) tensor.dispose();
      pass.dispose();
    }
  };
  const leaks = await findLeaks(device, async () => {
    const cache = new KVCache({ device, layers, kvHeads: 1, headDim: 4, contextLength: 64, batch: 2, policy: parseKVPolicy('latest') });
    try {
      await append(cache, 0, 1000, 60);
      await append(cache, 1, 100, 3);
      let failure: unknown;
      const { allocatedBytes } = cache.usage();
      try {
        cache.truncate(0, 0);
      } catch (error) {
        failure = error;
      }
      expect(await append(cache, 1, 103)).toEqual([100, 101, 102, 103]);
      await append(cache, 0, 2000, 2);
      expect(await append(cache, 1, 104)).toEqual([100, 101, 102, 103, 104]);
      if (failure !== undefined) throw failure;
      return allocatedBytes;
    } finally {
      cache.dispose();
    }
  });
  expect(leaks).toEqual([]);
});
