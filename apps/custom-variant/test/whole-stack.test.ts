import { forward, latentStates, type RecurrentModel } from '@unroll/recurrent';
import { type GeneratedToken, generate, generateBatch } from '@unroll/sampler';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { gateExit } from '../src/gate-exit.js';
import { preNorm } from '../src/pre-norm.js';
import { wholeStack } from '../src/whole-stack.js';
import { plainWholeStack, sigmoid } from './plain.js';
import { randomModel, read, sizes, weightsOf, worst } from './support.js';

const device = createCpuDevice({ threads: 1 });
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

const stack = { ...sizes, coda: 0 };
const tokens = [11, 1, 2, 2, 1, 12, 0];
const { V } = sizes;
const random = () => randomModel(device, wholeStack, stack);

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

describe('the whole stack in a loop', () => {
  it('equals a plain float64 model at every loop: state, logits, gate', async () => {
    const model = random();
    const expected = plainWholeStack(tokens, 4, weightsOf(model), stack);
    let seen = 0;
    for await (const { recurrence, state, pass } of latentStates(model, [tokens], { recurrences: 4 })) {
      expect(worst(device.readSync(state), expected.states[recurrence - 1]!.flat())).toBeLessThan(2e-5);
      expect(worst(read(model.readout(state, pass)), expected.logits[recurrence - 1]!.flat())).toBeLessThan(5e-5);
      expect(worst(read(model.exitLogits(state)), expected.gates[recurrence - 1]!)).toBeLessThan(2e-5);
      seen++;
    }
    expect(seen).toBe(4);
    model.dispose();
  });

  it('decodes with the cache what it computes without, bit for bit', () => {
    const model = random();
    const whole = read(forward(model, [tokens], { recurrences: 3 }));
    const cache = model.createCache();
    for (const [t, token] of tokens.entries()) {
      const step = read(forward(model, [[token]], { recurrences: 3, cache }));
      expect(Array.from(step), `position ${t}`).toEqual(Array.from(whole.subarray(t * V, (t + 1) * V)));
    }
    cache.dispose();
    model.dispose();
  });
});

describe.each([
  ['the whole stack', random],
  ['pre-norm, gated', () => randomModel(device, preNorm('gated'))],
] as const)('generation with %s', (_, make) => {
  it.each([1, 4])('gives the tokens of uncached forward calls, depth %i', async (recurrences) => {
    const model = make();
    const generated = await collect(generate({ model, prompt: tokens, recurrences, maxNewTokens: 6, stopTokens: [], initScale: 0 }));
    const text = [...tokens];
    for (const { token } of generated) {
      const logits = Array.from(read(forward(model, [text], { recurrences, initialState: { scale: 0 } })).slice(-V));
      expect(token).toBe(logits.indexOf(Math.max(...logits)));
      text.push(token);
    }
    expect(text).toHaveLength(tokens.length + 6);
    model.dispose();
  });
});

describe('the exit by the gate', () => {
  const depths = (tokens: readonly GeneratedToken[]) => tokens.map(({ recurrences }) => recurrences);
  const ask = (model: RecurrentModel, threshold: number, recurrences = 8) =>
    collect(generate({ model, prompt: tokens, recurrences, maxNewTokens: 3, stopTokens: [], exit: gateExit(model, threshold) }));

  /** A gate that stops with the same probability everywhere. */
  function constantGate(stop: number): RecurrentModel {
    const model = random();
    const { weight, bias } = model.params.transformer.exit_gate!;
    device.write(weight, new Float32Array(weight.size));
    device.write(bias, Float32Array.of(Math.log(stop / (1 - stop))));
    return model;
  }

  // 1 - 0.7^t is 0.3, 0.51, 0.657, 0.76, 0.832, 0.882, 0.918, 0.942.
  it.each([
    [0.25, 1],
    [0.31, 2],
    [0.5, 2],
    [0.7, 4],
    [0.9, 7],
    [0.99, 8],
  ])('ends where 1 - 0.7^t reaches %d: behind loop %i', async (threshold, loop) => {
    const model = constantGate(0.3);
    expect(depths(await ask(model, threshold))).toEqual([loop, loop, loop]);
    model.dispose();
  });

  it('reads the gate of the last position, and counts on from loop to loop', async () => {
    const model = random();
    // Late enough that several loops are looked at.
    device.write(model.params.transformer.exit_gate!.bias, Float32Array.of(-1.5));
    const generated = await ask(model, 0.6);
    const text = [...tokens];
    // The first token alone: later ones read keys of prompts that ended early.
    const { gates } = plainWholeStack(text, 8, weightsOf(model), stack);
    const reached = (at: number) => {
      let left = 1;
      return gates.map((row) => {
        left *= 1 - sigmoid(row.at(at)!);
        return 1 - left;
      });
    };
    const loop = reached(-1).findIndex((share) => share >= 0.6) + 1 || 8;
    // The first position would tell another story.
    expect(worst(reached(0).slice(0, loop), reached(-1).slice(0, loop))).toBeGreaterThan(0.05);
    expect(generated[0]!.recurrences).toBe(loop);
    expect(worst(generated[0]!.exit!.values, reached(-1).slice(0, loop))).toBeLessThan(1e-4);
    model.dispose();
  });

  it('ends each row of a batch where it ends alone', async () => {
    const model = random();
    const { weight } = model.params.transformer.exit_gate!;
    device.write(
      weight,
      Float32Array.from(device.readSync(weight), (x) => 6 * x),
    );
    const prompts = [tokens, [11, 2, 12], [11, 1, 1, 1, 12], [11, 2, 1, 2, 2, 1, 2, 12], [3], [5, 9, 12]];
    const options = { model, recurrences: 8, maxNewTokens: 1, stopTokens: [] };
    const together = await collect(generateBatch({ ...options, prompts, exit: gateExit(model, 0.6) }));
    const alone = await Promise.all(
      prompts.map(async (prompt) => (await collect(generate({ ...options, prompt, exit: gateExit(model, 0.6) })))[0]!),
    );
    const loops = prompts.map((_, i) => together.find(({ prompt }) => prompt === i)!.recurrences);
    expect(loops).toEqual(depths(alone));
    expect(new Set(loops).size).toBeGreaterThan(1);
    model.dispose();
  });

  it('refuses thresholds that nothing reaches, and models without a gate', async () => {
    const model = random();
    expect(() => gateExit(model, 0)).toThrow('threshold must be above 0 and at most 1; got 0');
    expect(() => gateExit(model, 1.5)).toThrow('got 1.5');
    const other = randomModel(device, preNorm('add'));
    expect(() => gateExit(other, 0.5)).toThrow('the model has no exit gate');
    model.dispose();
    other.dispose();
  });
});
