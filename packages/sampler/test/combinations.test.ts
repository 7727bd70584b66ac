import { parseKVPolicy } from '@unroll/nn';
import { OptionError } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { type CommonOptions, type GeneratedToken, generateBatch, latentDiff, Scheduler, Session, type TurnOptions } from '../src/index.js';
import { all, run, tinyModel } from './support.js';
import { readmeTables, Table } from './table.js';

// The README's tables of what goes with what: every cell works, with the text of the same options alone and the memory balanced behind
// it, or is refused with the reason.

vi.setConfig({ testTimeout: 120_000 });

const device = createCpuDevice();
const model = tinyModel(device, 51, { block_size: 32 });
afterAll(() => device.dispose());

type Options = Partial<CommonOptions>;

const features: Record<string, Options> = {
  exit: { exit: latentDiff({ threshold: 0.3 }) },
  'exit by position': { exit: latentDiff({ threshold: 0.3, inPrefill: 'positions' }) },
  'depth by token': { recurrences: (index) => 2 + (index % 2) },
  'warm start': { warmStart: 'state' },
  speculative: { speculative: { draftRecurrences: 1, lookahead: 2 } },
  'speculative, threshold': { speculative: { draftRecurrences: 1, lookahead: 2, threshold: 0.5 } },
  wavefront: { wavefront: { freeze: 'fixed' } },
  hook: { hook: () => undefined },
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

/** What serves the options, or the policy, at least. */
const useFor = (options: Options, policy: string | undefined) => {
  if (options.wavefront !== undefined) return 'wavefront' as const;
  return policy === undefined || !['full', 'compress-r2', 'compress-anchor'].includes(policy)
    ? ('mixed-depth' as const)
    : ('equal-depth' as const);
};
const named = (policy: string | undefined) => (policy === undefined ? {} : { policy: parseKVPolicy(policy) });
const essence = ({ token, logprob, recurrences }: GeneratedToken) => [token, logprob, recurrences];

/** What `generate` gives for a prompt alone, over the policy that the others have. */
async function alone(options: Options, prompt: number[], policy: string | undefined): Promise<unknown[]> {
  const own = policy ?? (options.wavefront === undefined ? 'latest' : undefined);
  return (await run({ ...base, ...options, prompt, ...named(own) })).map(essence);
}

const turnOf = (options: Options): Omit<TurnOptions, 'prompt'> => {
  const { model: _, ...turn } = { ...base, ...options };
  return turn;
};

/** A session of two turns; the second may be had from what `change` makes of the first. */
async function twoTurns(options: Options, policy: string | undefined, change: (session: Session) => Promise<Session>): Promise<void> {
  const sessions = [new Session({ model, use: useFor(options, policy), ...named(policy) })];
  try {
    const first = await all(sessions[0]!.generate({ ...turnOf(options), prompt: [1, 2] }));
    expect(first.map(essence)).toEqual(await alone(options, [1, 2], policy));
    const prompt = [...sessions[0]!.tokens, 5];
    sessions.push(await change(sessions[0]!));
    for (const session of new Set(sessions)) {
      const second = await all(session.generate({ ...turnOf(options), prompt }));
      expect(second.map(essence)).toEqual(await alone(options, prompt, policy));
    }
  } finally {
    for (const session of new Set(sessions)) session.dispose();
  }
}

const ways: Record<string, (options: Options, policy?: string) => Promise<void>> = {
  'batch, samples': async (options, policy) => {
    const prompts = [[1, 2], [3], [4, 5, 6]];
    const items = await all(generateBatch({ ...base, ...options, ...named(policy), prompts, samples: 2 }));
    for (const [i, prompt] of prompts.entries()) {
      const own = items.filter((item) => item.prompt === i && item.sample === 0).map(essence);
      expect(own).toEqual(await alone(options, prompt, policy ?? 'latest'));
    }
  },
  scheduler: async (options, policy) => {
    const scheduler = new Scheduler({ model, sequences: 2, use: useFor({}, policy), ...named(policy) });
    try {
      const prompts = [[1, 2], [3], [4, 5, 6]];
      const texts = await Promise.all(prompts.map(async (prompt) => all(scheduler.add({ ...turnOf(options), prompt }))));
      for (const [i, prompt] of prompts.entries()) expect(texts[i]!.map(essence)).toEqual(await alone(options, prompt, policy));
    } finally {
      scheduler.dispose();
    }
  },
  session: (options, policy) => twoTurns(options, policy, async (session) => session),
  fork: (options, policy) => twoTurns(options, policy, async (session) => session.fork()),
  'save, load': (options, policy) =>
    twoTurns(options, policy, async (session) => {
      const to = { model, use: useFor(options, policy), ...named(policy) };
      return Session.load(to, await session.save());
    }),
  'sliding window': async (options, policy) => {
    const session = new Session({ model, contextFull: 'slide', use: useFor(options, policy), ...named(policy) });
    try {
      const prompt = Array.from({ length: 40 }, (_, i) => i % 24);
      const items = await all(session.generate({ ...turnOf(options), prompt }));
      expect(items[items.length - 1]!.report!.droppedTokens).toBe(12);
      expect(items.map(essence)).toEqual(await alone(options, prompt.slice(12), policy));
    } finally {
      session.dispose();
    }
  },
};

/**
 * A session that slides or not, over three turns: after the second it is forked, saved and loaded, or first the one and then the other, and
 * all that there are by then go on.
 */
async function threeTurns(options: Options, policy: string | undefined, how: readonly string[]): Promise<void> {
  const slides = how.includes('sliding window');
  const to = { model, use: useFor(options, policy), contextFull: slides ? ('slide' as const) : ('error' as const), ...named(policy) };
  const sessions = [new Session(to)];
  const turn = async (session: Session, prompt: number[]) => {
    const items = await all(session.generate({ ...turnOf(options), prompt }));
    const dropped = Math.max(0, prompt.length - 28);
    expect(items[items.length - 1]!.report!.droppedTokens).toBe(dropped);
    expect(items.map(essence)).toEqual(await alone(options, prompt.slice(dropped), policy));
    return items.map(({ token }) => token);
  };
  try {
    const text = slides ? Array.from({ length: 26 }, (_, i) => (7 * i) % 24) : [1, 2];
    text.push(...(await turn(sessions[0]!, text)), 5);
    text.push(...(await turn(sessions[0]!, text)), 6);
    if (how.includes('fork')) sessions.push(sessions[0]!.fork());
    if (how.includes('save, load')) sessions.push(await Session.load(to, await sessions[sessions.length - 1]!.save()));
    for (const session of sessions) await turn(session, text);
  } finally {
    for (const session of sessions) session.dispose();
  }
}
const together = [
  ['fork', 'save, load'],
  ['fork', 'sliding window'],
  ['save, load', 'sliding window'],
  ['fork', 'save, load', 'sliding window'],
];

/** The reason of a refusal; undefined where it works. */
async function refusalOf(work: () => Promise<unknown>): Promise<string | undefined> {
  const before = device.memory().buffers;
  let refusal: string | undefined;
  try {
    await work();
  } catch (error) {
    if (!OptionError.is(error)) throw error;
    refusal = /(?:cannot (?:be combined|be scheduled|serve [a-z-]+)|decode one sequence): (.+)$/.exec(error.message)?.[1];
    expect(refusal, error.message).toBeDefined();
  }
  expect(device.memory().buffers).toBe(before);
  return refusal;
}

const names = Object.keys(features);
const byFeature = new Table(names, [...names, ...Object.keys(ways)]);
const byPolicy = new Table([...names, ...Object.keys(ways)], policies);
const bySession = new Table(
  together.map((how) => how.join(' + ')),
  [...names, ...policies],
);

describe('two features', () => {
  const several = ['speculative', 'speculative, threshold', 'wavefront'];
  const pairs = names.flatMap((a) =>
    names.filter((b) => a !== b && !(a.startsWith('spec') && b.startsWith('spec'))).map((b) => [a, b] as const),
  );
  it.each(pairs.filter(([a, b]) => !(a.startsWith('exit') && b.startsWith('exit'))))('%s with %s', async (a, b) => {
    const refusal = await refusalOf(async () => {
      const items = await run({ ...base, ...features[a], ...features[b], prompt: [1, 2, 3] });
      expect(items.length).toBe(4);
    });
    const clash = (several.includes(a) && b !== 'hook') || (several.includes(b) && a !== 'hook');
    expect(refusal !== undefined, refusal ?? 'works').toBe(clash);
    byFeature.set(a, b, refusal);
  });
});

describe('a feature and a way of running', () => {
  const cells = names.flatMap((feature) => Object.keys(ways).map((way) => [feature, way] as const));
  it.each(cells)('%s, %s', async (feature, way) => {
    const refusal = await refusalOf(() => ways[way]!(features[feature]!));
    const several = ['speculative', 'speculative, threshold', 'wavefront'].includes(feature);
    const refused =
      (several && ['batch, samples', 'scheduler'].includes(way)) || (way === 'scheduler' && ['hook', 'exit by position'].includes(feature));
    expect(refusal !== undefined, refusal ?? 'works').toBe(refused);
    byFeature.set(feature, way, refusal);
  });
});

describe('a feature, or a way of running, and a policy', () => {
  const cells = [...names, ...Object.keys(ways)].flatMap((row) => policies.map((policy) => [row, policy] as const));
  it.each(cells)('%s over %s', async (row, policy) => {
    const way = ways[row];
    const refusal = await refusalOf(async () => {
      if (way !== undefined) return way({}, policy);
      const items = await run({ ...base, ...features[row], prompt: [1, 2, 3], ...named(policy) });
      expect(items.length).toBe(4);
      const { logicalBytes, allocatedBytes } = items[3]!.report!.cache;
      expect(allocatedBytes).toBeGreaterThanOrEqual(logicalBytes);
    });
    const mixed = ['exit', 'exit by position', 'depth by token', 'wavefront'].includes(row);
    const refused =
      (mixed && ['full', 'compress-r2', 'compress-anchor'].includes(policy)) ||
      (row === 'speculative' && !['full', 'latest', 'skip'].includes(policy));
    expect(refusal !== undefined, refusal ?? 'works').toBe(refused);
    byPolicy.set(row, policy, refusal);
  });
});

describe('ways of a session together, with a feature or over a policy', () => {
  const cells = together.flatMap((how) => [...names, ...policies].map((column) => [how.join(' + '), column, how] as const));
  it.each(cells)('%s, %s', async (row, column, how) => {
    const refusal = await refusalOf(() => threeTurns(features[column] ?? {}, features[column] === undefined ? column : undefined, how));
    expect(refusal, refusal ?? 'works').toBeUndefined();
    bySession.set(row, column, refusal);
  });
});

it('the README says so', () => {
  const generated = `${byFeature}\n\n${byPolicy}\n\n${bySession}`;
  expect(readmeTables(generated)).toBe(generated);
});
