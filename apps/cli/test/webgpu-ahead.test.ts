import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import type { RecurrentModel } from '@unroll/recurrent';
import { type GeneratedToken, type GenerateOptions, generate } from '@unroll/sampler';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type LoadedModel, loadModel } from '../src/model/load.js';
import { fakeIo } from './support.js';

// Software drivers compile some shaders for seconds.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 120_000 });

const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';
if (process.env.VK_DRIVER_FILES === undefined && existsSync(swiftShader)) process.env.VK_DRIVER_FILES = swiftShader;
process.env.XDG_RUNTIME_DIR ??= tmpdir();

let loaded: LoadedModel[];
beforeAll(async () => {
  loaded = [await loadModel({ model: 'adder', device: 'cpu' }, fakeIo()), await loadModel({ model: 'adder', device: 'webgpu' }, fakeIo())];
});
afterAll(async () => {
  for (const one of loaded) await one.dispose();
});

const gpu = () => loaded[1]!.model.device as WebGPUDevice;
const problem = { prompt: '731+94=', initScale: 0, recurrences: 4, maxNewTokens: 6, stopTokens: [] };

async function collect(run: AsyncIterable<GeneratedToken>): Promise<GeneratedToken[]> {
  const items: GeneratedToken[] = [];
  for await (const item of run) items.push(item);
  return items;
}

/** The same run on the CPU, which never looks ahead, and on WebGPU. */
async function both(options: Omit<GenerateOptions, 'model' | 'prompt'> & { readonly prompt: string }): Promise<GeneratedToken[][]> {
  const runs = [];
  for (const { model, tokenizer } of loaded) runs.push(await collect(generate({ ...options, model, tokenizer: tokenizer! })));
  return runs;
}

describe('decoding that enqueues the next step before it reads the last token', () => {
  it.each<[string, Partial<GenerateOptions>]>([
    ['greedy', {}],
    ['sampled from random states', { temperature: 1.5, seed: 5, initScale: 1 }],
    ['with a warm start', { warmStart: 'norm-state' }],
    ['without logprobs', { logprobs: false }],
    ['with alternatives', { alternatives: 3 }],
    ['one token', { maxNewTokens: 1 }],
    ['over several growths of the cache', { maxNewTokens: 40 }],
  ])('%s, gives the tokens, counts and cache that reading every token gives', async (_, options) => {
    const [cpu, webgpu] = (await both({ ...problem, ...options, prompt: problem.prompt })) as [GeneratedToken[], GeneratedToken[]];
    expect(webgpu.map(({ token }) => token)).toEqual(cpu.map(({ token }) => token));
    expect(webgpu.map(({ recurrences, finish }) => [recurrences, finish])).toEqual(
      cpu.map(({ recurrences, finish }) => [recurrences, finish]),
    );
    expect(webgpu[webgpu.length - 1]!.report).toEqual(cpu[cpu.length - 1]!.report);
    const off = webgpu.filter(({ logprob }, i) => !(Math.abs(logprob - cpu[i]!.logprob) <= 1e-3));
    if (options.logprobs !== false) expect(off).toEqual([]);
    else expect(webgpu.every(({ logprob }) => Number.isNaN(logprob))).toBe(true);
  });

  it('takes back the step behind a stop token', async () => {
    const [plain] = (await both({ ...problem, prompt: problem.prompt })) as [GeneratedToken[]];
    const stopTokens = [plain[2]!.token];
    const at = plain.findIndex(({ token }) => token === stopTokens[0]);
    const [cpu, webgpu] = (await both({ ...problem, stopTokens, prompt: problem.prompt })) as [GeneratedToken[], GeneratedToken[]];
    expect(webgpu.length).toBe(at + 1);
    expect(webgpu[at]!.finish).toBe('stop-token');
    // The pool may have grown for the step that was taken back; what tokens have of it is the same.
    const { cache, ...counts } = webgpu[at]!.report!;
    const { cache: expected, ...expectedCounts } = cpu[at]!.report!;
    expect(counts).toEqual(expectedCounts);
    expect({ ...cache, allocatedBytes: 0 }).toEqual({ ...expected, allocatedBytes: 0 });
  });

  it('leaves the cache as plain decoding does where the caller leaves early, and all memory balanced', async () => {
    const before = gpu().memory();
    const lengths = [];
    for (const { model, tokenizer } of loaded) {
      const cache = model.createCache();
      const run = generate({ ...problem, model, tokenizer: tokenizer!, cache });
      for (let i = 0; i < 3; i++) await run.next();
      await run.return();
      lengths.push(cache.length());
      cache.dispose();
    }
    expect(lengths[1]).toBe(lengths[0]);
    expect(gpu().memory()).toMatchObject({ buffers: before.buffers, bytes: before.bytes });
  });

  it('tells of logits that are not numbers, and the next run is sound', async () => {
    const { model, tokenizer } = loaded[1]!;
    const weight = model.params.transformer.ln_f.weight;
    const good = Float32Array.from(await weight.data());
    const run = () => collect(generate({ ...problem, model, tokenizer: tokenizer!, logprobs: false }));
    const expected = (await run()).map(({ token }) => token);
    model.device.write(weight, new Float32Array(good.length).fill(Number.NaN));
    await expect(run()).rejects.toThrow(/logits for position 7 are not numbers/);
    model.device.write(weight, good);
    expect((await run()).map(({ token }) => token)).toEqual(expected);
  });

  it('keeps the budgets of a token: dispatches of a block, one submit, four bytes back', async () => {
    const { model, tokenizer } = loaded[1]!;
    const { config } = model as RecurrentModel;
    const depth = 16;
    const before = gpu().stats();
    const stats: ReturnType<WebGPUDevice['stats']>[] = [];
    const options = { ...problem, recurrences: depth, maxNewTokens: 12, logprobs: false };
    for await (const _ of generate({ ...options, model, tokenizer: tokenizer! })) stats.push(gpu().stats());
    const [first, last] = [stats[2]!, stats[10]!];
    const blocks = config.preludeLayers + depth * config.coreLayers + config.codaLayers;
    // With all that a token has once: embedding, head, sampling.
    expect((last.dispatches - first.dispatches) / 8 / blocks).toBeLessThanOrEqual(7);
    expect(last.submits - first.submits).toBeLessThanOrEqual(8);
    expect(gpu().stats().bytesRead - before.bytesRead).toBe(12 * 4);
  });
});
