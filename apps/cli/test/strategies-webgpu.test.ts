import { parseKVPolicy } from '@unroll/nn';
import {
  type CommonOptions,
  customExit,
  entropyDiff,
  type GeneratedToken,
  generate,
  generateBatch,
  kl,
  latentDiff,
  Scheduler,
  Session,
} from '@unroll/sampler';
import { mean, square, type Tensor } from '@unroll/tensor';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type LoadedModel, loadModel } from '../src/model/load.js';
import { useSoftwareVulkan } from './software-vulkan.js';
import { fakeIo } from './support.js';

// The strategies on WebGPU: the texts of the CPU, and how often the host waits for the device.

// Software drivers compile some shaders for seconds.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });
useSoftwareVulkan();

let cpu: LoadedModel;
let gpu: LoadedModel;
beforeAll(async () => {
  cpu = await loadModel({ model: 'adder', device: 'cpu' }, fakeIo());
  gpu = await loadModel({ model: 'adder', device: 'webgpu' }, fakeIo());
});
afterAll(async () => {
  await cpu?.dispose();
  await gpu?.dispose();
});

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

const encode = (text: string) => cpu.tokenizer!.encode(text);
const problem = { initScale: 0, recurrences: 8, maxNewTokens: 4, stopTokens: [] as number[] };
const essence = ({ token, recurrences }: GeneratedToken) => [token, recurrences];
const runOn = ({ model }: LoadedModel, options: Partial<CommonOptions>, prompt = encode('731+94=')) =>
  all(generate({ ...problem, ...options, model, prompt }));

describe('texts and depths of the CPU', () => {
  const strategies: Record<string, Partial<CommonOptions>> = {
    'exit by latent': { exit: latentDiff({ threshold: 0.1 }) },
    'exit by output, warm start': { exit: kl({ threshold: 1e-3 }), warmStart: 'state' },
    'exit over one loop of slots': { exit: entropyDiff({ threshold: 1e-2 }), policy: parseKVPolicy('compress-s2') },
    'exit by position': { exit: latentDiff({ threshold: 0.1, inPrefill: 'positions' }) },
    speculative: { speculative: { draftRecurrences: 2, lookahead: 3 } },
    'speculative, drafts reused': { speculative: { draftRecurrences: 2, lookahead: 3, reuseDrafts: true } },
    wavefront: { wavefront: { innerRecurrences: 4, freeze: 'fixed', stateNoise: 0 } },
    'depth by token': { recurrences: (index) => 4 + (index % 3) },
    'last-only': { policy: parseKVPolicy('last-only') },
  };

  it.each(Object.entries(strategies))('%s', async (_, strategy) => {
    const before = gpu.device.memory().buffers;
    expect((await runOn(gpu, strategy)).map(essence)).toEqual((await runOn(cpu, strategy)).map(essence));
    expect(gpu.device.memory().buffers).toBe(before);
  });

  it('batch, scheduler, and a session that is forked, saved and cut', async () => {
    const prompts = ['731+94=', '5+6=', '12+30='].map(encode);
    const exit = latentDiff({ threshold: 0.1 });
    const expected: number[][][] = [];
    for (const prompt of prompts) expected.push((await runOn(cpu, { exit }, prompt)).map(essence));
    const before = gpu.device.memory().buffers;
    const { model } = gpu;
    const batch = await all(generateBatch({ ...problem, exit, model, prompts }));
    const scheduler = new Scheduler({ model, sequences: 2 });
    const scheduled = await Promise.all(prompts.map((prompt) => all(scheduler.add({ ...problem, exit, prompt }))));
    scheduler.dispose();
    prompts.forEach((_, i) => {
      expect(batch.filter(({ prompt }) => prompt === i).map(essence)).toEqual(expected[i]);
      expect(scheduled[i]!.map(essence)).toEqual(expected[i]);
    });
    const session = new Session({ model });
    const plain = (await runOn(cpu, {}, prompts[0])).map(essence);
    expect((await all(session.generate({ ...problem, prompt: prompts[0]! }))).map(essence)).toEqual(plain);
    const others = [session.fork(), await Session.load({ model }, await session.save())];
    session.truncate(4);
    for (const one of [session, ...others]) {
      const items = await all(one.generate({ ...problem, prompt: prompts[0]! }));
      expect(items.map(essence)).toEqual(plain);
      expect(items[3]!.report!.cachedTokens).toBeGreaterThanOrEqual(4);
      one.dispose();
    }
    expect(gpu.device.memory().buffers).toBe(before);
  });
});

describe('exits without stalls', () => {
  const never = { threshold: -1, inPrefill: false };

  /** Readings of the host in a run of 4 tokens, 3 of which are decoded at up to 16 recurrences. */
  async function reads(options: Partial<CommonOptions>): Promise<number> {
    const before = (gpu.device as WebGPUDevice).stats().reads;
    await runOn(gpu, { recurrences: 16, ...options });
    return (gpu.device as WebGPUDevice).stats().reads - before;
  }

  it.each([
    [1, 16],
    [4, 4],
    [8, 2],
    [undefined, 4],
  ])('readEvery %s reads %s times a token, and the token', async (readEvery, times) => {
    const plain = await reads({});
    const given = readEvery === undefined ? {} : { readEvery };
    expect((await reads({ exit: latentDiff({ ...never, ...given }) })) - plain).toBe(3 * times);
    expect((await reads({ exit: kl({ ...never, ...given }) })) - plain).toBe(3 * times);
  });

  it('one reading serves all rows of a batch, and all requests of a scheduler', async () => {
    const { model } = gpu;
    const exit = latentDiff({ ...never });
    const stats = () => (gpu.device as WebGPUDevice).stats().reads;
    const options = { ...problem, recurrences: 16, exit, maxNewTokens: 2 };
    const prompts = ['1+2=', '3+4=', '5+6='].map(encode);
    let before = stats();
    await all(generateBatch({ ...options, model, prompts: prompts.slice(0, 1) }));
    const one = stats() - before;
    before = stats();
    await all(generateBatch({ ...options, model, prompts }));
    expect(stats() - before).toBeLessThanOrEqual(one + 4);
    const scheduler = new Scheduler({ model, sequences: 3 });
    before = stats();
    await Promise.all(prompts.map((prompt) => all(scheduler.add({ ...options, prompt }))));
    scheduler.dispose();
    // One for each recurrence of the one decoded token of all three; two for each of their tokens.
    expect(stats() - before).toBeLessThanOrEqual(16 + 3 * 2 * 2);
  });

  it('enqueues further recurrences before it waits for the numbers of the last ones', async () => {
    let measured = 0;
    const lead: number[] = [];
    const rule = customExit({
      name: 'watching',
      inPrefill: false,
      readEvery: 4,
      begin: () => {
        measured = 0;
        let judged = 0;
        return {
          measure: ({ state }: { state: Tensor }) => {
            measured++;
            return mean(square(state));
          },
          judge: (value: number) => {
            lead.push(measured - judged++);
            return { value, exit: false };
          },
        };
      },
    });
    await runOn(gpu, { recurrences: 16, maxNewTokens: 2, exit: rule });
    // The first four are judged when eight are on their way; nothing is left to run ahead of the last.
    expect(lead).toEqual([8, 7, 6, 5, 8, 7, 6, 5, 8, 7, 6, 5, 4, 3, 2, 1]);
  });
});
