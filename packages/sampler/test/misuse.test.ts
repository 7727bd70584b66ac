import { OptionError, UnrollError } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type GenerateOptions, generate, generateBatch, latentDiff, Scheduler, Session, score, trace } from '../src/index.js';
import { all, run, tinyModel } from './support.js';

const device = createCpuDevice();
const model = tinyModel(device, 5);
let idle = 0;
beforeAll(() => {
  idle = device.memory().buffers;
});
afterAll(() => device.dispose());

describe('an abort by a timer', () => {
  const deep = { model, recurrences: 60_000 };
  const turns: Record<string, (signal: AbortSignal) => Promise<unknown>> = {
    generate: (signal) => run({ ...deep, prompt: [1, 2], maxNewTokens: 2, stopTokens: [], signal }),
    'generate with an exit rule': (signal) =>
      run({
        ...deep,
        prompt: [1, 2],
        signal,
        exit: {
          name: 'never',
          minRecurrences: 1,
          every: 1,
          inPrefill: true,
          begin: () => ({ check: async () => ({ value: 1, exit: false }), dispose: () => undefined }),
        } as never,
      }),
    'speculative decoding': (signal) => run({ ...deep, prompt: [1], speculative: { draftRecurrences: 1, lookahead: 2 }, signal }),
    wavefront: (signal) =>
      run({ model, recurrences: 4, prompt: [1], wavefront: { freeze: 'latent-diff', threshold: 0, maxRounds: 1e6 }, signal }),
    generateBatch: (signal) => all(generateBatch({ ...deep, prompts: [[1], [2, 3]], signal })),
    score: (signal) => score({ ...deep, continuation: [1, 2, 3], signal }),
    trace: (signal) => trace({ ...deep, prompt: [1, 2], signal }),
    Session: async (signal) => {
      const session = new Session({ model });
      await all(session.generate({ recurrences: 60_000, prompt: [1, 2], signal })).finally(() => session.dispose());
    },
    Scheduler: async (signal) => {
      const scheduler = new Scheduler({ model, sequences: 1 });
      await all(scheduler.add({ recurrences: 60_000, prompt: [1, 2], signal })).finally(() => scheduler.dispose());
    },
  };
  it.each(Object.keys(turns))(
    '%s: fires inside a token, and leaves nothing behind',
    async (name) => {
      await expect(turns[name]!(AbortSignal.timeout(60))).rejects.toMatchObject({ name: 'TimeoutError' });
      expect(device.memory().buffers).toBe(idle);
    },
    5_000,
  );
});

describe('options of the wrong type', () => {
  const base = { model, prompt: [1], maxNewTokens: 1, recurrences: 1 };
  it.each<[string, unknown, RegExp]>([
    ['temperature', '1', /temperature must be a number; got "1"/],
    ['initScale', '0', /initScale must be a number; got "0"/],
    ['logitBias', [1], /logitBias must be a Map or an object from token ids to numbers; got \[1\]/],
    ['logitBias', { 1: '2' }, /logitBias must be/],
    ['maxNewTokens', null, /maxNewTokens must be a number; got null/],
    ['stopStrings', '25', /stopStrings must be a list of texts; got "25"/],
    ['stopStrings', [5], /stopStrings must be a list of texts; got \[5\]/],
    ['stopTokens', 5, /stopTokens must be a list of token ids; got 5/],
    ['prompt', null, /prompt must be a text or a list of token ids; got null/],
    ['prompt', undefined, /prompt must be a text or a list of token ids; got undefined/],
    ['signal', {}, /signal must be an AbortSignal; got an object with nothing in it/],
    ['tokenizer', {}, /tokenizer must be a TextCodec with encode/],
    ['model', {}, /model must be a LanguageModel with createCache/],
    ['processors', [1], /processors must be a list of functions; got \[1\]/],
    ['hook', 1, /hook must be a function, or an object with functions before or after; got 1/],
  ])('%s: %j', async (name, value, message) => {
    const failure = await run({ ...base, [name]: value } as GenerateOptions).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(OptionError);
    expect((failure as Error).message).toMatch(message);
  });

  it('the threshold of an exit rule', () => {
    expect(() => latentDiff({ threshold: '0.03' as unknown as number })).toThrow(/latent-diff: threshold must be a number; got 0.03/);
    expect(() => latentDiff({ threshold: Number.NaN })).toThrow(OptionError);
  });

  it('no options at all', async () => {
    await expect(all((generate as () => AsyncGenerator)())).rejects.toThrow(OptionError);
  });
});

it.each([Number.NaN, Number.POSITIVE_INFINITY])('a processor that writes %d is refused, greedy or sampled', async (value) => {
  for (const temperature of [0, 1]) {
    const processors = [(logits: Float32Array) => void logits.fill(value, 3, 4)];
    const failure = await run({ model, prompt: [1], recurrences: 1, maxNewTokens: 2, temperature, processors }).catch(
      (error: unknown) => error,
    );
    expect(failure).toBeInstanceOf(UnrollError);
    expect((failure as Error).message).toMatch(/processors made the logit of token 3 at position 1/);
  }
  expect(device.memory().buffers).toBe(idle);
});
