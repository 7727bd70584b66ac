import { type GeneratedToken, generate, generateBatch } from '@unroll/sampler';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type LoadedModel, loadModel } from '../src/model/load.js';
import { useSoftwareVulkan } from './software-vulkan.js';
import { fakeIo } from './support.js';

// Software drivers compile some shaders for seconds.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });
useSoftwareVulkan();

let loaded: LoadedModel[];
beforeAll(async () => {
  loaded = [await loadModel({ model: 'adder', device: 'cpu' }, fakeIo()), await loadModel({ model: 'adder', device: 'webgpu' }, fakeIo())];
});
afterAll(async () => {
  for (const one of loaded ?? []) await one.dispose();
});

const device = () => loaded[1]!.model.device as WebGPUDevice;
async function costs(run: () => AsyncIterable<unknown>) {
  const before = device().stats();
  for await (const _ of run());
  const after = device().stats();
  return { submits: after.submits - before.submits, reads: after.reads - before.reads, bytes: after.bytesRead - before.bytesRead };
}

it.each([
  [40, 40, 1],
  [40, 16, 3],
  [33, 8, 5],
])('a prompt of %i tokens in chunks of %i is %i submits', async (length, prefillChunk, chunks) => {
  const prompt = Array.from({ length }, (_, i) => i % 10);
  const options = { model: loaded[1]!.model, prompt, prefillChunk, recurrences: 4, initScale: 0, stopTokens: [], logprobs: false };
  // The token behind the prompt goes up with the last chunk.
  const cost = await costs(() => generate({ ...options, maxNewTokens: 1 }));
  expect(cost).toEqual({ submits: chunks, reads: 1, bytes: 4 });
});

it('a batch costs one submit and one reading a step, and has the tokens that it has on the CPU', async () => {
  const batch = ({ model, tokenizer }: LoadedModel, maxNewTokens: number) =>
    generateBatch({
      model,
      tokenizer: tokenizer!,
      prompts: ['12+34=', '731+94=', '5+5='],
      recurrences: 4,
      initScale: 0,
      stopTokens: [],
      logprobs: false,
      maxNewTokens,
    });
  const texts = [];
  for (const one of loaded) {
    const items: (GeneratedToken & { prompt: number })[] = [];
    for await (const item of batch(one, 6)) items.push(item);
    texts.push([0, 1, 2].map((prompt) => items.filter((item) => item.prompt === prompt).map(({ token }) => token)));
  }
  expect(texts[1]).toEqual(texts[0]);
  const [short, long] = [await costs(() => batch(loaded[1]!, 4)), await costs(() => batch(loaded[1]!, 9))];
  expect({ submits: long.submits - short.submits, reads: long.reads - short.reads, bytes: long.bytes - short.bytes }).toEqual({
    submits: 5,
    reads: 5,
    bytes: 5 * 3 * 4,
  });
});
