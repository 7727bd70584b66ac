import { parseKVPolicy } from '@unroll/nn';
import type { Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import fc from 'fast-check';
import { afterAll, expect, it, vi } from 'vitest';
import { initParams, parseRecurrentConfig, RecurrentModel, sandwichBlock } from '../src/index.js';

// Passes over several tokens, and over sequences at different loops: what is recorded has the bits of direct calls, whatever came before.

vi.setConfig({ testTimeout: 120_000 });

const device = createCpuDevice();
afterAll(() => {
  expect(device.memory().bytes).toMatchObject({ kv: 0, scratch: 0 });
  device.dispose();
});

const config = parseRecurrentConfig({
  n_embd: 16,
  n_heads: 2,
  intermediate_size: 24,
  vocab_size: 24,
  block_size: 96,
  n_layers_in_prelude: 1,
  n_layers_in_recurrent_block: 2,
  n_layers_in_coda: 1,
  mean_recurrence: 6,
  norm_eps: 1e-6,
  tie_embeddings: true,
  qk_bias: true,
});
const params = initParams(device, config, { seed: 3 });
const recording = new RecurrentModel(device, config, params);
const direct = new RecurrentModel(device, config, params, { block: (...args) => sandwichBlock(...args) });
afterAll(() => {
  recording.rope.dispose();
  direct.dispose();
});

const sequences = 3;
type Action =
  | { readonly kind: 'pass'; readonly who: readonly number[]; readonly T: number; readonly depth: number; readonly last: boolean }
  | { readonly kind: 'mixed'; readonly who: readonly number[]; readonly T: number; readonly ahead: readonly number[] }
  | { readonly kind: 'again'; readonly who: number; readonly T: number; readonly depth: number }
  | { readonly kind: 'truncate'; readonly who: number; readonly by: number }
  | { readonly kind: 'copy'; readonly from: number; readonly to: number };

const one = fc.integer({ min: 0, max: sequences - 1 });
const some = fc.subarray([0, 1, 2], { minLength: 1 });
const T = fc.constantFrom(1, 1, 2, 3, 5);
const actions: fc.Arbitrary<Action> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('pass' as const), who: some, T, depth: fc.integer({ min: 1, max: 4 }), last: fc.boolean() }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('mixed' as const),
      who: some,
      T,
      ahead: fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 3, maxLength: 3 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('again' as const), who: one, T, depth: fc.integer({ min: 1, max: 5 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('truncate' as const), who: one, by: fc.integer({ min: 0, max: 6 }) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('copy' as const), from: one, to: one }) },
);

const pass = (T: number, depth: number): Action => ({ kind: 'pass', who: [0], T, depth, last: false });
const again = (T: number, depth: number): Action => ({ kind: 'again', who: 0, T, depth });
/** Tokens that run deeper once others have read what they had, when all is recorded: the next token must read what they have now. */
const deeperAgain: Action[] = [pass(4, 1), again(3, 1), again(3, 1), pass(1, 4), again(3, 3), pass(1, 4)];

/** What every pass of a list of actions gives, or the message of the error that it meets. */
async function run(model: RecurrentModel, policy: string, list: readonly Action[]): Promise<unknown[]> {
  const cache = model.createCache({ batch: sequences, policy: parseKVPolicy(policy) });
  for (let b = 0; b < sequences; b++) cache.markDecoded(4, b);
  // Where queries read their own slots, all tokens need one depth.
  const equal = cache.refusal('mixed-depth') !== undefined && policy !== 'compress-s2';
  const results: unknown[] = [];
  const owned: { dispose(): void }[] = [];
  const own = <X extends { dispose(): void }>(x: X): X => {
    owned.push(x);
    return x;
  };
  const begin = (who: readonly number[], T: number, start: (b: number) => number) => {
    const positions = Int32Array.from(who.flatMap((b) => Array.from({ length: T }, (_, t) => start(b) + t)));
    const pass = own(cache.begin(positions, who));
    const tokens = own(
      device.tensor(
        positions.map((p, i) => (p * 7 + i) % 24),
        [who.length, T],
        { dtype: 'i32' },
      ),
    );
    return { pass, e: own(model.prelude(tokens, pass)), state: own(model.initialState(pass, { seed: 4 })) };
  };
  const note = async (x: Tensor) => results.push(Float32Array.from(await own(x).data()));
  for (const action of list) {
    try {
      if (action.kind === 'truncate') cache.truncate(Math.max(0, cache.length(action.who) - action.by), action.who);
      else if (action.kind === 'copy') cache.copySequence(action.from, action.to);
      else if (action.kind === 'again') {
        const { who, T } = action;
        const depth = equal ? 4 : action.depth;
        const from = Math.max(0, cache.length(who) - T);
        if (cache.length(who) < T) continue;
        const { pass, e, state } = begin([who], T, () => from);
        await note(model.readout(own(model.steps(e, state, { from: 0, to: depth }, pass)), pass));
      } else if (action.kind === 'pass') {
        const { who, T, last } = action;
        const depth = equal ? 4 : action.depth;
        const { pass, e, state } = begin(who, T, (b) => cache.length(b));
        const half = depth > 2 ? own(model.steps(e, state, { from: 0, to: 2 }, pass)) : state;
        const end = own(model.steps(e, half, { from: depth > 2 ? 2 : 0, to: depth }, pass));
        await note(model.readout(end, pass, { positions: last ? 'last' : 'all' }));
      } else {
        const { who, T, ahead } = action;
        const { pass, e, state } = begin(who, T, (b) => cache.length(b));
        // Nobody begins in the middle: all have run the loops before.
        const first = own(model.steps(e, state, { from: 0, to: 3 }, pass));
        await note(
          model.step(
            e,
            first,
            who.map((_, i) => 1 + ahead[i]!),
            pass,
          ),
        );
      }
    } catch (error) {
      // What a pass that fails in its middle leaves in the cache is open.
      results.push((error as Error).message);
      break;
    } finally {
      for (const x of owned.splice(0)) x.dispose();
    }
  }
  const failed = typeof results[results.length - 1] === 'string';
  const { logicalBytes, slots, tokens } = cache.usage();
  cache.dispose();
  return failed ? results : [...results, logicalBytes, slots, tokens];
}

it.each([
  'full',
  'latest',
  'skip',
  'always-last',
  'last-only',
  'compress-s2',
  'latest-compress-s4',
  'always-last-compress-s4',
  'compress-r2',
  'compress-anchor',
])('under %s', async (policy) => {
  let passes = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(actions, { minLength: 6, maxLength: 14 }), async (list) => {
      const expected = await run(direct, policy, list);
      expect(await run(recording, policy, list)).toEqual(expected);
      passes += expected.filter((one) => one instanceof Float32Array).length;
    }),
    { numRuns: 40, examples: [[deeperAgain]] },
  );
  expect(passes).toBeGreaterThan(20);
});
