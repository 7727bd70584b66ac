import { parseKVPolicy } from '@unroll/nn';
import type { RecurrentModel } from '@unroll/recurrent';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { type CommonOptions, exitRule, type FreezeRule } from '../src/index.js';
import { type ExpectedGeneration, fixtureNames, haveFixtures, loadFixture, readExpected, run, tokensOf } from './support.js';

// Many runs on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

// The reference's generations, from the zero state, greedy, 16 new tokens. Tokens, steps and counts must be exact.

const limit = 16;

function optionsFor(kind: string, args: ExpectedGeneration['args']): { options: Partial<CommonOptions>; policy: string | undefined } {
  const number = (name: string) => args[name] as number;
  switch (kind) {
    case 'minimal':
    case 'cache':
      return { options: { recurrences: number('num_steps') }, policy: args.cache_lookup_strategy as string | undefined };
    case 'continuous':
      return { options: { recurrences: number('num_steps'), warmStart: 'norm-state' }, policy: undefined };
    case 'adaptive':
      return {
        options: { recurrences: number('max_steps'), exit: exitRule(args.criterion as string, { threshold: number('threshold') }) },
        policy: args.lookup as string,
      };
    case 'speculative': {
      const threshold = args.verification_threshold as number | undefined;
      const speculative = {
        draftRecurrences: number('draft_steps'),
        lookahead: number('lookahead_for_draft'),
        ...(threshold === undefined ? {} : { threshold }),
      };
      return { options: { recurrences: number('num_steps'), speculative }, policy: undefined };
    }
    case 'diffusion':
      return {
        options: {
          recurrences: number('num_steps'),
          wavefront: {
            innerRecurrences: number('inner_recurrence'),
            freeze: args.freeze_strategy as FreezeRule,
            emaEmbeds: number('ema_embeds'),
            stateNoise: number('state_noise_mixing'),
            headway: number('headway'),
            maxWavefront: number('max_wavefront'),
            maxRounds: number('max_diffusion_steps') + 2,
            ...(args.exit_t === undefined ? {} : { threshold: number('exit_t') }),
          },
        },
        policy: args.cache_lookup_strategy as string,
      };
    default:
      throw new Error(`the fixtures have a kind of generation that this test does not know: ${kind}`);
  }
}

if (!haveFixtures) console.warn('PARITY NOT CHECKED: ../shared/fixtures is missing beside the repository');

describe.skipIf(!haveFixtures).each(fixtureNames)('generations of %s', (name) => {
  if (!haveFixtures) return;
  const device = createCpuDevice();
  const { prompt, generations } = readExpected(name);
  let model: RecurrentModel | undefined;
  afterAll(() => device.dispose());

  it.each(Object.entries(generations))('%s', async (key, expected) => {
    model ??= await loadFixture(name, device);
    const [kind] = key.split('_') as [string];
    const { options, policy } = optionsFor(kind, expected.args);
    const before = device.memory().buffers;
    const items = await run({
      model,
      prompt,
      initScale: 0,
      maxNewTokens: limit,
      stopTokens: [],
      ...options,
      ...(policy === undefined ? {} : { policy: parseKVPolicy(policy) }),
    });
    expect(device.memory().buffers).toBe(before);
    expect(tokensOf(items)).toEqual(expected.tokens.slice(0, limit));
    const { report } = items[items.length - 1]!;
    if (['minimal', 'continuous', 'cache', 'adaptive'].includes(kind)) {
      expect({ steps: report!.cache.slots, bytes: report!.cache.logicalBytes, tokens: report!.cache.tokens }).toEqual({
        steps: expected.cache_steps,
        bytes: expected.cache_bytes,
        tokens: expected.cache_tokens,
      });
      // 1.25 times what is in use, and a page of 16 tokens for each slot.
      const rowBytes = 2 * 4 * model.config.width;
      expect(report!.cache.allocatedBytes).toBeLessThanOrEqual(1.25 * report!.cache.logicalBytes + 16 * report!.cache.slots * rowBytes);
    }
    if (expected.steps !== undefined) expect(items.map(({ recurrences }) => recurrences)).toEqual(expected.steps);
    if (expected.exit_values_first_token !== undefined) {
      const values = items[0]!.exit!.values;
      expect(values.length).toBe(expected.exit_values_first_token.length);
      expected.exit_values_first_token.forEach((value, i) => {
        if (value === null) expect(values[i]).toBeNaN();
        else expect(Math.abs(values[i]! - value)).toBeLessThanOrEqual(2e-4 + 1e-4 * Math.abs(value));
      });
    }
    if (expected.num_core_forward_passes !== undefined) {
      expect(1 + (expected.args.inner_recurrence as number) * report!.wavefront!.rounds).toBe(expected.num_core_forward_passes);
      expect(report!.wavefront!.recurrencesPerPosition).toEqual(expected.recurrence_per_position);
    }
  });
});
