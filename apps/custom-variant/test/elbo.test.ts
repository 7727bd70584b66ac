import { ignoreTarget, type TrainingBatch, tokenLosses } from '@unroll/recurrent';
import { disposeTree, exp, grad, sum, type Tensor, tidy } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { elbo, elboLosses, logExitDistribution } from '../src/elbo.js';
import { wholeStack } from '../src/whole-stack.js';
import { plainElbo, plainEntropy, plainExits, plainWholeStack, sigmoid } from './plain.js';
import { compareSlopes, randomModel, read, sizes, weightsOf, worst } from './support.js';

const device = createCpuDevice({ threads: 1 });
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

/** Gate logits of two tokens at each loop, as a model gives them: (2, 1, 1). */
const gatesOf = (rows: readonly (readonly number[])[]) =>
  rows[0]!.map((_, t) =>
    device.tensor(
      rows.map((row) => row[t]!),
      [2, 1, 1],
    ),
  );
const distribution = (rows: readonly (readonly number[])[]) => {
  const gates = gatesOf(rows);
  const p = read(tidy(device, () => exp(logExitDistribution(gates))));
  disposeTree(gates);
  return p;
};

describe('the exit distribution', () => {
  const rows = [
    [0.3, -1.2, 2, 0.4],
    [-3, 0, 0.1, -9],
  ];

  it('is the product of the paper, and all of it', () => {
    const p = distribution(rows);
    const expected = rows.flatMap((row) => plainExits(row.map(sigmoid)));
    expect(worst(p, expected)).toBeLessThan(1e-6);
    for (const row of [p.subarray(0, 4), p.subarray(4)]) expect(row.reduce((a, b) => a + b)).toBeCloseTo(1, 6);
  });

  it('does not look at the gate of the last loop', () => {
    expect(distribution(rows)).toEqual(distribution(rows.map((row) => [...row.slice(0, 3), 50])));
  });

  it('stays finite, with its gradient, where a gate is sure', () => {
    const gates = gatesOf([
      [300, -300, 0, 0],
      [-300, -300, 300, 0],
    ]);
    const value = read(tidy(device, () => logExitDistribution(gates)));
    expect(worst(value.subarray(0, 4), [0, -600, -300 + Math.log(0.5), -300 + Math.log(0.5)])).toBeLessThan(1e-4);
    expect(worst(value.subarray(4), [-300, -300, 0, -300])).toBeLessThan(1e-4);
    const entropies = device.tensor(new Float32Array(8).fill(1), [2, 1, 4]);
    const grads = grad(() => sum(elboLosses(entropies, logExitDistribution(gates), 0.1)) as Tensor, gates);
    for (const slope of grads) expect(read(slope).every(Number.isFinite)).toBe(true);
    disposeTree(gates);
    entropies.dispose();
  });
});

describe('the ELBO', () => {
  const beta = 0.3;
  const CE = [1.5, 0.7, 0.2, 0.25];
  const lossOf = (logits: readonly number[]) => {
    const gates = gatesOf([logits, logits]);
    const entropies = device.tensor([...CE, ...CE], [2, 1, 4]);
    const [first, second] = read(tidy(device, () => elboLosses(entropies, logExitDistribution(gates), beta)));
    disposeTree(gates);
    entropies.dispose();
    expect(first).toBe(second);
    return first!;
  };

  it('is the expected cross-entropy less beta times the entropy', () => {
    const logits = [0.2, -0.4, 1.1, 0];
    expect(lossOf(logits)).toBeCloseTo(plainElbo(CE, logits.map(sigmoid), beta), 6);
  });

  it('is smallest, and -beta log sum exp(-CE / beta), where the gate stops with p ~ exp(-CE / beta)', () => {
    const weights = CE.map((x) => Math.exp(-x / beta));
    const total = weights.reduce((a, b) => a + b);
    let left = 1;
    const best = weights.map((weight) => {
      const stop = weight / total / left;
      left -= weight / total;
      return Math.log(stop / Math.max(1 - stop, 1e-9));
    });
    const least = -beta * Math.log(total);
    expect(lossOf(best)).toBeCloseTo(least, 5);
    for (const t of [0, 1, 2]) {
      for (const by of [-0.5, 0.5]) expect(lossOf(best.map((x, i) => x + (i === t ? by : 0)))).toBeGreaterThan(least + 1e-4);
    }
  });
});

describe('as an objective', () => {
  const stack = { ...sizes, coda: 0 };
  const tokens = [11, 1, 2, 12, 0];
  const targets = Int32Array.of(ignoreTarget, 2, 12, ignoreTarget, 3);
  const batch: TrainingBatch = { batch: 1, tokens: Int32Array.from(tokens), targets };
  const beta = 0.1;
  const plain = (weights: ReadonlyMap<string, Float64Array>, r: number): number[] => {
    const { logits, gates } = plainWholeStack(tokens, r, weights, stack);
    return [...targets].map((target, t) =>
      target < 0
        ? 0
        : plainElbo(
            logits.map((rows) => plainEntropy(rows[t]!, target)),
            gates.map((row) => sigmoid(row[t]!)),
            beta,
          ),
    );
  };

  it('has the loss of a plain float64 model at each token, 0 where the target is ignored, and reports the last loop', () => {
    const model = randomModel(device, wholeStack, stack);
    const { minimised, crossEntropy } = tidy(device, () => elbo(beta).losses(model, batch, { n: 0, k: 4 }));
    expect(worst(read(minimised), plain(weightsOf(model), 4))).toBeLessThan(2e-5);
    expect(read(crossEntropy)).toEqual(read(tokenLosses(model, batch, { n: 4, k: 0 })));
    model.dispose();
  });

  it('has the gradient of the plain loss by every parameter, the gate included', () => {
    const model = randomModel(device, wholeStack, stack);
    const grads = grad(() => sum(elbo(beta).losses(model, batch, { n: 0, k: 3 }).minimised) as Tensor, model.params);
    const found = compareSlopes(grads, weightsOf(model), (weights) => plain(weights, 3).reduce((a, b) => a + b));
    // Embedding, last norm, gate of two, eight of each of two blocks.
    expect(found.parameters).toBe(20);
    expect(found.worst, found.name).toBeLessThan(2e-4);
    expect(read(grads.transformer.exit_gate!.weight).some((x) => x !== 0)).toBe(true);
    disposeTree(grads);
    model.dispose();
  });

  it('has the same gradient in less memory when loops are computed again', () => {
    const model = randomModel(device, wholeStack, stack);
    const slopes = (recompute: boolean) => {
      const grads = grad(() => sum(elbo(beta).losses(model, batch, { n: 0, k: 4, recompute }).minimised) as Tensor, model.params);
      const slope = read(grads.transformer.wte.weight);
      disposeTree(grads);
      return slope;
    };
    expect(worst(slopes(true), slopes(false))).toBeLessThan(1e-5);
    model.dispose();
  });

  it('refuses loops without gradient, and a beta that rewards being sure', () => {
    const model = randomModel(device, wholeStack, stack);
    expect(() => elbo(beta).losses(model, batch, { n: 1, k: 3 })).toThrow('every loop needs its gradient; got n = 1');
    expect(() => elbo(-0.1)).toThrow('beta must be a number from 0; got -0.1');
    expect(() => logExitDistribution([])).toThrow('needs the gate at one loop at least');
    model.dispose();
  });
});
