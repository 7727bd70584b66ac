import { DeviceLostError } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, expect, it } from 'vitest';
import { type CommonOptions, generateRecovering, latentDiff } from '../src/index.js';
import { all, run, tinyModel } from './support.js';

// A device that is lost in the middle of a token, and a model that is made again on another one.

const devices = [createCpuDevice(), createCpuDevice()] as const;
const [first, second] = devices.map((device) => tinyModel(device, 7)) as [ReturnType<typeof tinyModel>, ReturnType<typeof tinyModel>];
afterAll(() => {
  for (const device of devices) device.dispose();
});

/** Depths that are other ones whenever they are asked for. */
const restless = () => {
  let asked = 0;
  return () => 2 + (asked++ % 5);
};

const cases: Record<string, () => Partial<CommonOptions>> = {
  'one depth': () => ({ recurrences: 4, temperature: 1 }),
  'a depth by token that never answers twice alike': () => ({ recurrences: restless(), temperature: 1 }),
  'the same under an exit rule, prompt in chunks': () => ({
    recurrences: restless(),
    exit: latentDiff({ threshold: 0.3, inPrefill: true }),
    prefillChunk: 2,
  }),
  'a speed to hold': () => ({ recurrences: { tokensPerSecond: 400, least: 2, most: 9 } }),
};

it.each(Object.entries(cases))(
  '%s: what was given is repeated as it was, and what follows comes from the new device',
  async (_, options) => {
    let loops = 0;
    let losses = 0;
    const before = devices.map((device) => device.memory().buffers);
    const items = await all(
      generateRecovering({
        ...options(),
        model: first,
        prompt: [3, 1, 4, 1, 5],
        maxNewTokens: 8,
        stopTokens: [],
        seed: 9,
        hook: ({ state }) => {
          if (state.device === devices[0] && ++loops === 7) throw new DeviceLostError('test: the device is gone');
        },
        recover: async (lost) => {
          expect(lost).toBe(first);
          losses++;
          return second;
        },
      }),
    );
    expect(losses).toBe(1);
    expect(devices.map((device) => device.memory().buffers)).toEqual(before);
    // The text is that of one run which was asked for these depths; under a rule they are where it stopped.
    if (options().exit !== undefined) {
      expect(items.length).toBe(8);
      return;
    }
    const depths = items.map(({ recurrences }) => recurrences);
    const { recurrences: __, ...rest } = options();
    const whole = await run({
      ...rest,
      model: second,
      prompt: [3, 1, 4, 1, 5],
      maxNewTokens: 8,
      stopTokens: [],
      seed: 9,
      recurrences: (index) => depths[index]!,
    });
    expect(whole.map(({ token, logprob }) => [token, logprob])).toEqual(items.map(({ token, logprob }) => [token, logprob]));
  },
);
