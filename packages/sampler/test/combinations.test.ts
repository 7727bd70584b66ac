import { parseKVPolicy } from '@unroll/nn';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, describe, expect, it } from 'vitest';
import { type CommonOptions, generate, generateBatch, latentDiff, Scheduler, Session } from '../src/index.js';
import { all, tinyModel } from './support.js';

// The README's table of what goes with what: every cell works, with the memory balanced behind it, or is refused with the reason.

const device = createCpuDevice();
const model = tinyModel(device, 51);
afterAll(() => device.dispose());

const features: Record<string, Partial<CommonOptions>> = {
  exit: { exit: latentDiff({ threshold: 0.3 }) },
  'depth by token': { recurrences: (index) => 2 + (index % 2) },
  'warm start': { warmStart: 'state' },
  speculative: { speculative: { draftRecurrences: 1, lookahead: 2 } },
  'approximate speculation': { speculative: { draftRecurrences: 1, lookahead: 2, threshold: 0.5 } },
  wavefront: { wavefront: { freeze: 'fixed' } },
};
const policies = [
  'full',
  'latest',
  'skip',
  'always-last',
  'last-only',
  'compress-s2',
  'latest-compress-s4',
  'compress-r2',
  'compress-anchor',
];
const base = { model, maxNewTokens: 4, recurrences: 3, stopTokens: [] };

async function outcome(work: () => Promise<unknown[]>): Promise<string> {
  const before = device.memory().buffers;
  const result = await work().then(
    (items) => (items.length > 0 ? 'works' : 'gave nothing'),
    (error: Error) => `${error.name}: ${error.message}`,
  );
  expect(device.memory().buffers).toBe(before);
  return result;
}

const serial = ['speculative', 'approximate speculation', 'wavefront'];
const one = (options: Partial<CommonOptions>) => outcome(() => all(generate({ ...base, ...options, prompt: [1, 2, 3] })));

describe('two features', () => {
  const names = Object.keys(features);
  const pairs = names
    .flatMap((a, i) => names.slice(i + 1).map((b) => [a, b] as const))
    .filter(([a, b]) => !(a === 'speculative' && b === 'approximate speculation'));
  it.each(pairs)('%s with %s', async (a, b) => {
    const result = await one({ ...features[a], ...features[b] });
    const clash =
      (serial.includes(a) && !serial.includes(b)) ||
      (serial.includes(b) && !serial.includes(a)) ||
      (serial.includes(a) && serial.includes(b));
    if (clash) expect(result).toMatch(/^OptionError: generate: .* cannot be combined: /);
    else expect(result).toBe('works');
  });
});

describe('a feature and a policy', () => {
  const cells = Object.keys(features).flatMap((feature) => policies.map((policy) => [feature, policy] as const));
  it.each(cells)('%s over %s', async (feature, policy) => {
    const result = await one({ ...features[feature], policy: parseKVPolicy(policy) });
    const mixed = ['exit', 'depth by token', 'wavefront'].includes(feature);
    const refused =
      (mixed && ['full', 'compress-r2', 'compress-anchor'].includes(policy)) ||
      (feature === 'speculative' && !['full', 'latest', 'skip'].includes(policy));
    if (refused) expect(result).toMatch(/^OptionError: .* cannot serve (mixed-depth|wavefront|parallel): /);
    else expect(result).toBe('works');
  });
});

describe('a feature and a way of running', () => {
  it.each(Object.keys(features))('%s in a batch, a session, a scheduler', async (feature) => {
    const options = { ...base, ...features[feature] };
    const { model: _, ...turn } = options;
    const batch = await outcome(() => all(generateBatch({ ...options, prompts: [[1, 2], [3]] })));
    const session = await outcome(async () => {
      const own = new Session({ model, use: feature === 'wavefront' ? 'wavefront' : 'mixed-depth' });
      try {
        const first = await all(own.generate({ ...turn, prompt: [1, 2] }));
        return [...first, ...(await all(own.generate({ ...turn, prompt: [...own.tokens, 5] })))];
      } finally {
        own.dispose();
      }
    });
    const scheduled = await outcome(async () => {
      const scheduler = new Scheduler({ model, sequences: 2 });
      try {
        return await all(scheduler.add({ ...turn, prompt: [1, 2] }));
      } finally {
        scheduler.dispose();
      }
    });
    expect(session).toBe('works');
    if (serial.includes(feature)) {
      expect(batch).toMatch(/OptionError: generateBatch: .* decode one sequence/);
      expect(scheduled).toMatch(/OptionError: Scheduler.add: unknown option/);
    } else expect([batch, scheduled]).toEqual(['works', 'works']);
  });
});
