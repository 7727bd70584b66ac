import { chains } from '@unroll/nn';
import { ignoreTarget, initParams, RecurrentModel, trainingLoss } from '@unroll/recurrent';
import { disposeTree, forEachTensor, grad, type Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, describe, expect, it } from 'vitest';
import { tinyConfig } from './helpers.js';

const device = createCpuDevice();
const model = new RecurrentModel(device, tinyConfig, initParams(device, tinyConfig, { seed: 3 }));
afterAll(() => {
  model.dispose();
  expect(device.memory().buffers).toBe(0);
  device.dispose();
});

const T = 6;
const tokens = Int32Array.from({ length: 4 * T }, (_, i) => (i * 5) % model.vocabularySize);
const targets = tokens.map((token, i) => (i % T === T - 1 ? ignoreTarget : token));
const batch = { batch: 4, tokens, targets };
const value = (tensor: Tensor) => {
  const [loss] = device.readSync(tensor);
  tensor.dispose();
  return loss!;
};

describe('trainingLoss', () => {
  it('is the same however the recurrences are shared out', () => {
    const at = (n: number, k: number) => value(trainingLoss(model, batch, { n, k }));
    expect(at(0, 5)).toBe(at(3, 2));
    expect(at(0, 5)).not.toBe(at(0, 4));
  });

  it('equals central differences where all recurrences carry gradient', () => {
    const grads = grad(() => trainingLoss(model, batch, { n: 0, k: 3 }), model.params);
    const { adapter, wte } = model.params.transformer;
    for (const [param, slope] of [
      [adapter!.weight, grads.transformer.adapter!.weight],
      [wte.weight, grads.transformer.wte.weight],
    ] as const) {
      const values = device.readSync(param) as Float32Array;
      const expected = device.readSync(slope) as Float32Array;
      const largest = expected.reduce((best, x, i) => (Math.abs(x) > Math.abs(expected[best]!) ? i : best), 0);
      const moved = (by: number) => {
        device.write(param, Float32Array.of(values[largest]! + by), largest);
        return value(trainingLoss(model, batch, { n: 0, k: 3 }));
      };
      const difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
      device.write(param, values);
      expect(Math.abs(difference / expected[largest]! - 1)).toBeLessThan(0.02);
    }
    disposeTree(grads);
  });

  it('needs memory that does not grow with the recurrences without gradient', () => {
    const peak = (n: number) => {
      device.resetPeak();
      disposeTree(grad(() => trainingLoss(model, batch, { n, k: 2 }), model.params));
      return device.memory().peak;
    };
    expect(peak(40)).toBe(peak(2));
  });

  it('gives the same gradient in less memory when it recomputes', () => {
    const run = (recompute: boolean) => {
      device.resetPeak();
      const grads = grad(() => trainingLoss(model, batch, { n: 1, k: 8, recompute }), model.params);
      return { grads, peak: device.memory().peak };
    };
    const [plain, again] = [run(false), run(true)];
    const expected = new Map<string, Float32Array>();
    forEachTensor(plain.grads, (tensor, path) => expected.set(path, device.readSync(tensor) as Float32Array));
    forEachTensor(again.grads, (tensor, path) => {
      const size = Math.max(...expected.get(path)!.map(Math.abs));
      (device.readSync(tensor) as Float32Array).forEach((x, i) =>
        expect(Math.abs(x - expected.get(path)![i]!)).toBeLessThan(1e-5 * size + 1e-9),
      );
    });
    expect(again.peak).toBeLessThan(plain.peak);
    disposeTree([plain.grads, again.grads]);
  });

  it('is the same with padding as without', () => {
    const padded = (data: Int32Array, fill: number) =>
      Int32Array.from([0, 1, 2, 3].flatMap((b) => [...data.subarray(b * T, (b + 1) * T), fill, fill]));
    const inside = tokens.map((_, i) => i % T);
    const data = { batch: 4, tokens: padded(tokens, 0), targets: padded(targets, ignoreTarget), positions: padded(inside, -1) };
    expect(value(trainingLoss(model, data, { n: 1, k: 2 }))).toBeCloseTo(value(trainingLoss(model, batch, { n: 1, k: 2 })), 6);
  });

  it('is the same packed as alone: no sequence sees another', () => {
    const lengths = [3, 6, 1, 5];
    const rows = lengths.map((length, b) => ({
      tokens: tokens.subarray(b * T, b * T + length),
      targets: targets.map((x) => Math.max(x, 0)).subarray(b * T, b * T + length),
    }));
    const join = (field: 'tokens' | 'targets') => Int32Array.from(rows.flatMap((row) => [...row[field]]));
    const seeds = [5, 6, 7, 8];
    const packed = value(
      trainingLoss(
        model,
        { batch: 4, tokens: join('tokens'), targets: join('targets'), parents: chains(lengths) },
        { n: 1, k: 2, initialState: { seed: seeds } },
      ),
    );
    const alone = rows.map(
      (row, b) => value(trainingLoss(model, { batch: 1, ...row }, { n: 1, k: 2, initialState: { seed: seeds[b]! } })) * lengths[b]!,
    );
    expect(packed).toBeCloseTo(alone.reduce((a, b) => a + b) / 15, 5);
  });

  it('is the same where sequences share what they begin with as where each has its own', () => {
    const [a, b] = [tokens.subarray(0, 5), Int32Array.from([...tokens.subarray(0, 3), 3, 1])];
    const answers = Int32Array.from([ignoreTarget, ignoreTarget, 2, 3, 1, ignoreTarget, ignoreTarget, ignoreTarget, 4, 0]);
    const options = { n: 1, k: 2, initialState: { seed: 3 } } as const;
    const apart = { batch: 2, tokens: Int32Array.from([...a, ...b]), targets: answers, parents: chains([5, 5]) };
    const together = {
      batch: 1,
      tokens: Int32Array.from([...a, 3, 1]),
      targets: Int32Array.from([...answers.subarray(0, 5), 4, 0]),
      parents: Int32Array.from([-1, 0, 1, 2, 3, 2, 5]),
    };
    expect(value(trainingLoss(model, together, options))).toBeCloseTo(value(trainingLoss(model, apart, options)), 5);
    expect(() => trainingLoss(model, { ...together, parents: Int32Array.from([-1, 0, 1, 2, 3, 6, 5]) }, options)).toThrow(
      'token 5 has the parent 6',
    );
  });

  it('refuses what it cannot learn from', () => {
    expect(() => trainingLoss(model, { ...batch, targets: targets.map(() => ignoreTarget) }, { n: 0, k: 1 })).toThrow(
      'every target is ignored',
    );
    expect(() => trainingLoss(model, { ...batch, batch: 5 }, { n: 0, k: 1 })).toThrow('24 tokens and 24 targets for 5 rows');
    expect(() => trainingLoss(model, batch, { n: 0, k: 0 })).toThrow('1 or more together');
    expect(() => trainingLoss(model, batch, { n: 0, k: 1, depth: 3 } as never)).toThrow('unknown option "depth"');
  });
});
