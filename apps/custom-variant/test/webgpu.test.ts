import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { forward } from '@unroll/recurrent';
import { type Device, disposeTree, grad, sum, type Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { createWebGPUDevice, type GpuLike, type WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { elbo } from '../src/elbo.js';
import { injections, preNorm } from '../src/pre-norm.js';
import { wholeStack } from '../src/whole-stack.js';
import { randomModel, sizes, worst } from './support.js';

// Software drivers compile some shaders for seconds.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });

const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (process.env.VK_DRIVER_FILES === undefined && existsSync(swiftShader)) process.env.VK_DRIVER_FILES = swiftShader;
process.env.XDG_RUNTIME_DIR ??= tmpdir();

const cpu = createCpuDevice({ threads: 1 });
let gpu: WebGPUDevice;
beforeAll(async () => {
  const { create } = await import('webgpu');
  gpu = await createWebGPUDevice({ gpu: create(['backend=vulkan']) as unknown as GpuLike });
});
afterAll(() => {
  expect(cpu.memory().buffers).toBe(0);
  expect(gpu.memory().buffers).toBe(0);
  cpu.dispose();
  gpu.dispose();
});

const tokens = [11, 1, 2, 2, 12];
const numbers = async (tensor: Tensor) => {
  const data = Float32Array.from(await tensor.data());
  tensor.dispose();
  return data;
};
const onBoth = async (f: (device: Device) => Promise<Float32Array>) => worst(await f(gpu), await f(cpu));

it.each(injections)('pre-norm blocks with %s injection: a GPU has the logits of the CPU', async (injection) => {
  const far = await onBoth(async (device) => {
    const model = randomModel(device, preNorm(injection));
    const logits = await numbers(forward(model, [tokens], { recurrences: 3, initialState: { seed: 2 } }));
    model.dispose();
    return logits;
  });
  expect(far).toBeLessThan(1e-3);
});

it('the whole stack: a GPU has the logits of the CPU, also with a cache, and the gradient of the ELBO', async () => {
  const stack = { ...sizes, coda: 0 };
  const far = await onBoth(async (device) => {
    const model = randomModel(device, wholeStack, stack);
    const cache = model.createCache();
    const results: Float32Array[] = [await numbers(forward(model, [tokens], { recurrences: 3 }))];
    for (const token of tokens) results.push(await numbers(forward(model, [[token]], { recurrences: 3, cache })));
    cache.dispose();
    const batch = { batch: 1, tokens: Int32Array.from(tokens), targets: Int32Array.of(-1, 2, 12, -1, 3) };
    const grads = grad(() => sum(elbo(0.1).losses(model, batch, { n: 0, k: 3 }).minimised) as Tensor, model.params);
    for (const slope of [grads.transformer.exit_gate!.weight, grads.transformer.core_block[0]!.mlp.fc.weight])
      results.push(Float32Array.from(await slope.data()));
    disposeTree(grads);
    model.dispose();
    return Float32Array.from(results.flatMap((one) => [...one]));
  });
  expect(far).toBeLessThan(1e-3);
});
