import { createCpuDevice } from '@unroll/tensor/cpu';
import { findLeaks } from '@unroll/tensor/testing';
import { afterAll, expect, it, vi } from 'vitest';
import {
  type GenerateOptions,
  generateBatch,
  kl,
  latentDiff,
  type RequestOptions,
  Scheduler,
  Session,
  score,
  trace,
} from '../src/index.js';
import { all, run, tinyModel } from './support.js';

// Where a device has no room, whoever asked is told, and nothing stays behind: the next, smaller try must have all of the memory.

vi.setConfig({ testTimeout: 120_000 });
const device = createCpuDevice({ threads: 1 });
const model = tinyModel(device, 31, { n_embd: 8, intermediate_size: 12, block_size: 32, n_layers_in_recurrent_block: 1 });
afterAll(() => {
  model.dispose();
  expect(device.memory().buffers).toBe(0);
  device.dispose();
});

const several = { model, maxNewTokens: 2, recurrences: 2, stopTokens: [] };
const base = { ...several, prompt: [1, 2] };
const generation = (how: Partial<GenerateOptions>) => () => run({ ...base, ...how });
const scheduled = (how: Partial<RequestOptions>) => async () => {
  const scheduler = new Scheduler({ model, sequences: 2 });
  const { model: _, ...request } = base;
  try {
    const texts = await Promise.allSettled([all(scheduler.add(request)), all(scheduler.add({ ...request, prompt: [3], ...how }))]);
    const failed = texts.find((text) => text.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  } finally {
    scheduler.dispose();
  }
};

it.each<[string, () => unknown]>([
  ['plain decoding', generation({})],
  ['sampling with top-k and alternatives', generation({ temperature: 1, topK: 3, alternatives: 2 })],
  ['penalties', generation({ temperature: 1, repetitionPenalty: 1.2, logprobs: false })],
  ['warm start', generation({ warmStart: 'norm-state' })],
  ['a rule on latents', generation({ exit: latentDiff({ threshold: 0.3 }) })],
  ['a rule on logits that is read later', generation({ exit: kl({ threshold: 0.3, readEvery: 2 }) })],
  ['a rule for each position', generation({ exit: kl({ threshold: 0.3, inPrefill: 'positions' }), maxNewTokens: 1 })],
  ['speculation', generation({ speculative: { draftRecurrences: 1, lookahead: 2 }, maxNewTokens: 3 })],
  [
    'speculation that goes on from drafts',
    generation({ speculative: { draftRecurrences: 1, lookahead: 2, reuseDrafts: true }, maxNewTokens: 3 }),
  ],
  [
    'the wavefront',
    generation({ wavefront: { innerRecurrences: 2, headway: 2, continuous: true, threshold: 10, freeze: 'latent-acceleration-1' } }),
  ],
  ['a batch', () => all(generateBatch({ ...several, prompts: [[1, 2], [3]], samples: 2, temperature: 1 }))],
  ['a batch with a rule', () => all(generateBatch({ ...several, prompts: [[1, 2], [3]], exit: latentDiff({ threshold: 0.3 }) }))],
  ['a scheduler', scheduled({ exit: latentDiff({ threshold: 0.3 }) })],
  ['a scheduler that reads later', scheduled({ warmStart: 'state', exit: kl({ threshold: 0.3, readEvery: 2 }) })],
  [
    'a session, its fork and its copy',
    async () => {
      const owned: Session[] = [];
      try {
        const session = new Session({ model });
        owned.push(session);
        const { model: _, ...turn } = base;
        await all(session.generate(turn));
        owned.push(session.fork());
        owned.push(await Session.load({ model }, await session.save()));
      } finally {
        for (const session of owned) session.dispose();
      }
    },
  ],
  ['scoring', () => score({ model, prompt: [1, 2], continuation: [3, 4], recurrences: 2 })],
  ['a trace', () => trace({ model, prompt: [1, 2], recurrences: 2, top: 2 })],
])('%s gives everything back, whichever allocation is refused', async (_, f) => {
  expect(await findLeaks(device, f, 400)).toEqual([]);
});
