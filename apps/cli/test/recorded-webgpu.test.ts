import { RecurrentModel, sandwichBlock } from '@unroll/recurrent';
import type { Tensor } from '@unroll/tensor';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type LoadedModel, loadModel } from '../src/model/load.js';
import { useSoftwareVulkan } from './software-vulkan.js';
import { fakeIo } from './support.js';

// Recorded passes over several tokens, and over sequences at different loops, on WebGPU: the bits of direct calls.

// Software drivers compile some shaders for seconds.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });
useSoftwareVulkan();

let gpu: LoadedModel;
beforeAll(async () => {
  gpu = await loadModel({ model: 'adder', device: 'webgpu' }, fakeIo());
});
afterAll(async () => {
  await gpu?.dispose();
});

/** Logits of a prompt, of windows that grow, are cut and run again, and of a step at which sequences are at different loops. */
async function passes(model: RecurrentModel): Promise<Float32Array[]> {
  const cache = model.createCache({ batch: 2, use: 'mixed-depth' });
  const read: Float32Array[] = [];
  const run = async (who: readonly number[], T: number, loops: readonly { readonly to: number }[], mixed?: readonly number[]) => {
    const start = cache.length(who[0]);
    const positions = Int32Array.from({ length: who.length * T }, (_, i) => start + (i % T));
    const pass = cache.begin(positions, who);
    const tokens = model.device.tensor(
      positions.map((p, i) => (3 * p + i) % 10),
      [who.length, T],
      { dtype: 'i32' },
    );
    const owned: Tensor[] = [tokens, model.prelude(tokens, pass), model.initialState(pass, { seed: 2 })];
    let from = 0;
    for (const { to } of loops) {
      owned.push(model.steps(owned[1]!, owned[owned.length - 1]!, { from, to }, pass));
      from = to;
    }
    if (mixed !== undefined) owned.push(model.step(owned[1]!, owned[owned.length - 1]!, mixed, pass));
    owned.push(model.readout(owned[owned.length - 1]!, pass));
    read.push(Float32Array.from((await owned[owned.length - 1]!.data()) as Float32Array));
    for (const tensor of owned) tensor.dispose();
    pass.dispose();
  };
  await run([0, 1], 6, [{ to: 4 }]);
  for (const T of [3, 3, 5, 3]) {
    await run([1], T, [{ to: 1 }, { to: 4 }]);
    cache.truncate(cache.length(1) - 2, 1);
  }
  cache.truncate(6);
  for (let turn = 0; turn < 3; turn++) await run([0, 1], 1 + turn, [{ to: 3 }], [3, 1]);
  cache.dispose();
  return read;
}

it('several tokens, and different loops', async () => {
  const model = gpu.model as RecurrentModel;
  const block: typeof sandwichBlock = (...args) => sandwichBlock(...args);
  const direct = new RecurrentModel(model.device, model.config, model.params, { block });
  // In single operations, as the direct calls are: fused ones round otherwise on WebGPU.
  const recording = new RecurrentModel(model.device, model.config, model.params, { block, recordable: true });
  const before = model.device.memory().buffers;
  const expected = await passes(direct);
  const dispatched = vi.spyOn(model.device, 'record');
  expect(await passes(recording)).toEqual(expected);
  expect(dispatched.mock.calls.length).toBeGreaterThan(5);
  expect(model.device.memory().buffers).toBe(before);
  direct.rope.dispose();
  recording.rope.dispose();
});
