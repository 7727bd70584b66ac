import { parseKVPolicy } from '@unroll/nn';
import { createCpuDevice } from '@unroll/tensor/cpu';
import fc from 'fast-check';
import { afterAll, expect, it, vi } from 'vitest';
import { latentDiff } from '../src/index.js';
import { type OraclePolicy, oracle } from './oracle.js';
import { run, tinyModel } from './support.js';

// Many runs on a machine that may be busy.
vi.setConfig({ testTimeout: 120_000 });

const device = createCpuDevice();
afterAll(() => device.dispose());

const policies: OraclePolicy[] = [
  'full',
  'latest',
  'always-last',
  'skip',
  'last-only',
  'compress-s2',
  'latest-compress-s4',
  'compress-r2',
  'compress-anchor',
];

it('depths, exits, warm starts and policies agree with a second implementation in plain numbers', async () => {
  const met = new Set<string>();
  const depths = new Set<number>();
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 1000 }),
      fc.array(fc.integer({ min: 0, max: 23 }), { minLength: 1, maxLength: 5 }),
      fc.constantFrom(...policies),
      fc.constantFrom(undefined, 0.15, 0.25, 0.4),
      fc.constantFrom(undefined, 'state' as const, 'norm-state' as const),
      fc.integer({ min: 1, max: 10 }),
      fc.constantFrom(undefined, 2),
      async (seed, prompt, policy, exitBelow, warmStart, depth, readEvery) => {
        const exit = ['full', 'compress-r2', 'compress-anchor'].includes(policy) ? undefined : exitBelow;
        const model = tinyModel(device, seed);
        const expected = await oracle(model, { prompt, newTokens: 5, depth, policy, exitBelow: exit, warmStart });
        const items = await run({
          model,
          prompt,
          maxNewTokens: 5,
          initScale: 0,
          recurrences: depth,
          policy: parseKVPolicy(policy),
          ...(exit === undefined ? {} : { exit: latentDiff({ threshold: exit, ...(readEvery === undefined ? {} : { readEvery }) }) }),
          ...(warmStart === undefined ? {} : { warmStart }),
        });
        model.dispose();
        for (const [i, { token, logprob, recurrences, gap, margin }] of expected.entries()) {
          // Near a tie the precision decides, and the texts part.
          if (margin < 1e-4) break;
          expect(items[i]!.recurrences).toBe(recurrences);
          expect(Math.abs(items[i]!.logprob - logprob)).toBeLessThan(1e-3);
          if (gap < 1e-3) break;
          expect(items[i]!.token).toBe(token);
          depths.add(recurrences);
          if (i === 4) met.add(policy);
        }
      },
    ),
    { numRuns: 120 },
  );
  expect(met.size).toBe(policies.length);
  expect(depths.size).toBeGreaterThan(6);
});
