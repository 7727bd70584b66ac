import { bytesSource, openSafetensors } from '@unroll/checkpoint';
import { loadEmbedded } from '@unroll/pretrained';
import { forward, loadRecurrentModel, type RecurrentModel } from '@unroll/recurrent';
import { generate } from '@unroll/sampler';
import type { Device } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { createWebGPUDevice, type GpuLike } from '@unroll/tensor/webgpu';
import { parseTokenizer, type Tokenizer } from '@unroll/tokenizer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/** The library calls that the program makes in Node, in this browser on both devices. */
describe('the embedded model on the WebGPU of this browser', () => {
  const models: RecurrentModel[] = [];
  const devices: Device[] = [];
  let tokenizer: Tokenizer;

  beforeAll(async () => {
    const embedded = await loadEmbedded('adder');
    tokenizer = parseTokenizer({
      tokenizer: embedded.tokenizer,
      config: embedded.tokenizerConfig,
      generationConfig: embedded.generationConfig,
    });
    devices.push(createCpuDevice(), await createWebGPUDevice({ gpu: (navigator as { gpu?: GpuLike }).gpu }));
    for (const device of devices) {
      const weights = await openSafetensors(bytesSource(embedded.weights, 'adder'));
      models.push(await loadRecurrentModel({ device, config: embedded.config, weights }));
    }
  }, 60_000);
  afterAll(() => {
    for (const owner of [...models, ...devices]) owner.dispose();
  });

  const textOf = async (model: RecurrentModel, prompt: string) => {
    let text = '';
    for await (const item of generate({ model, tokenizer, prompt, initScale: 0, recurrences: 4, maxNewTokens: 8 })) text += item.text;
    return text;
  };

  it.each(['731+94=', '7715+7307='])(
    'continues %s as the CPU does',
    async (prompt) => {
      const texts = [];
      for (const model of models) texts.push(await textOf(model, prompt));
      expect(texts[0]).toMatch(/^\d+$/);
      expect(texts[1]).toBe(texts[0]);
    },
    120_000,
  );

  it('gives logits within the tolerance of a GPU', async () => {
    const tokens = [tokenizer.encode('7715+7307=')];
    const [cpu, gpu] = await Promise.all(
      models.map((model) => forward(model, tokens, { recurrences: 8, initialState: { scale: 0 } }).data()),
    );
    const off = [...gpu!].filter((value, i) => !(Math.abs(value - cpu![i]!) <= 1e-3 + 5e-4 * Math.abs(cpu![i]!)));
    expect(cpu!.length).toBe(tokens[0]!.length * models[0]!.vocabularySize);
    expect(off).toEqual([]);
  }, 60_000);
});
