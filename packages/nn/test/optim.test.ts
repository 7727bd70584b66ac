import {
  accumulateMean,
  adamw,
  checkSchedule,
  clipByGlobalNorm,
  Ema,
  ellisAdam,
  globalNorm,
  learningRateAt,
  muon,
  Optimizer,
  orthogonalize,
} from '@unroll/nn/optim';
import { disposeTree, matmul, mean, square, sub, type Tensor, valueAndGrad } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { findLeaks } from '@unroll/tensor/testing';
import { afterAll, afterEach, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());
afterEach(() => expect(device.memory().buffers).toBe(0));

const values = (tensor: Tensor) => [...device.readSync(tensor)] as number[];
const near = (actual: Tensor, expected: readonly number[]) =>
  values(actual).forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 5));

describe('the rules', () => {
  const gradients = [
    [0.5, -0.25, 0],
    [0.1, 0.4, 0],
    [-0.3, 0.2, 1],
  ];
  const start = [1, -2, 3];

  /** Runs three steps of a rule and of a plain loop over one value. */
  const compare = (
    optimizer: (param: Tensor) => Optimizer,
    plain: (state: { w: number[]; m: number[]; v: number[] }, g: readonly number[], t: number) => void,
  ) => {
    const param = device.tensor(start, [3], { memory: 'weights' });
    const moved = optimizer(param);
    const state = { w: [...start], m: [0, 0, 0], v: [0, 0, 0] };
    gradients.forEach((g, i) => {
      const grad = device.tensor(g);
      moved.step({ w: grad }, { learningRate: 0.1, peakRate: 0.2 });
      grad.dispose();
      plain(state, g, i + 1);
      near(param, state.w);
    });
    disposeTree([param, moved.state]);
  };

  it('AdamW equals its formula', () => {
    compare(
      (w) => new Optimizer({ w }, [{ rule: adamw({ weightDecay: 0.1 }) }]),
      ({ w, m, v }, g, t) => {
        g.forEach((x, i) => {
          m[i] = 0.9 * m[i]! + 0.1 * x;
          v[i] = 0.95 * v[i]! + 0.05 * x * x;
          w[i] = w[i]! * (1 - 0.1 * 0.1) - (0.1 * m[i]!) / (1 - 0.9 ** t) / (Math.sqrt(v[i]! / (1 - 0.95 ** t)) + 1e-8);
        });
      },
    );
  });

  it("the reference's Adam equals its formula: atan2, clipped updates, moments that start as the gradient", () => {
    compare(
      (w) => new Optimizer({ w }, [{ rule: ellisAdam({ weightDecay: 0.01 }) }]),
      ({ w, m, v }, g, t) => {
        g.forEach((x, i) => {
          m[i] = t === 1 ? x : 0.9 * m[i]! + 0.1 * x;
          v[i] = t === 1 ? x * x : 0.95 * v[i]! + 0.05 * x * x;
        });
        const ratios = g.map((x, i) => (v[i] === 0 ? 0 : (x * x) / v[i]!));
        const clip = Math.max(1, Math.sqrt(ratios.reduce((a, b) => a + b) / ratios.length));
        g.forEach((_, i) => {
          const direction = Math.atan2(m[i]!, Math.sqrt(v[i]!) / Math.sqrt(1 - 0.95 ** t));
          w[i] = w[i]! * (1 - 0.5 * 0.01) - ((0.1 / (1 - 0.9 ** t)) * direction) / clip;
        });
      },
    );
  });

  it('Muon moves along a matrix whose singular values are near 1', () => {
    for (const shape of [
      [8, 5],
      [5, 8],
    ]) {
      const x = device.tensor(
        Float32Array.from({ length: 40 }, (_, i) => Math.sin(i * i + 1)),
        shape,
      );
      const y = orthogonalize(x);
      const small = matmul(y, y, shape[0] === 8 ? { transposeA: true } : { transposeB: true });
      // The trace and the sum of squares of y^T y bound its 5 eigenvalues.
      const gram = values(small);
      const trace = gram.reduce((total, value, i) => total + (i % 6 === 0 ? value : 0), 0);
      expect(trace / 5).toBeGreaterThan(0.6);
      expect(trace / 5).toBeLessThan(1.3);
      expect(gram.reduce((total, value, i) => total + (i % 6 === 0 ? 0 : Math.abs(value)), 0) / 20).toBeLessThan(0.2);
      disposeTree([x, y]);
      for (const scope of [small]) scope.dispose();
    }
  });

  it.each([
    ['adamw', adamw(), 0.05],
    ['ellisAdam', ellisAdam({ weightDecay: 0 }), 0.02],
    ['muon', muon(), 0.1],
  ] as const)('%s learns a linear map', (_, rule, learningRate) => {
    const w = device.zeros([4, 3], { memory: 'weights' });
    const x = device.tensor(
      Float32Array.from({ length: 64 }, (_, i) => Math.sin(3 * i)),
      [16, 4],
    );
    const truth = device.tensor(
      Float32Array.from({ length: 12 }, (_, i) => Math.cos(i)),
      [4, 3],
    );
    const y = matmul(x, truth);
    const optimizer = new Optimizer({ w }, [{ rule }]);
    const losses: number[] = [];
    for (let i = 0; i < 200; i++) {
      const { value, grads } = valueAndGrad(() => mean(square(sub(matmul(x, w), y))), { w });
      losses.push(values(value)[0]!);
      optimizer.step(grads, { learningRate: learningRate * (1 - i / 200) });
      disposeTree([value, grads]);
    }
    expect(losses[199]).toBeLessThan(losses[0]! / 100);
    disposeTree([w, x, truth, y, optimizer.state]);
  });
});

describe('Optimizer', () => {
  it('takes parameters by group and leaves some alone', () => {
    const params = { a: device.tensor([1, 1, 1, 1], [2, 2]), b: device.tensor([1, 1]), c: device.tensor([1]) };
    const optimizer = new Optimizer(params, [
      { match: (path) => path === 'c', rule: null },
      { match: (_, { shape }) => shape.length === 2, rule: muon() },
      { rule: adamw(), rateScale: 0.5 },
    ]);
    expect(Object.keys(optimizer.state)).toEqual(['a', 'b']);
    expect(Object.keys(optimizer.state.a!)).toEqual(['m']);
    optimizer.step(params, { learningRate: 0.1 });
    near(params.b, [0.95, 0.95]);
    expect(values(params.c)).toEqual([1]);
    expect(() => optimizer.step({ b: params.b }, { learningRate: 0.1 })).toThrow('the gradients lack a');
    disposeTree([params, optimizer.state]);
  });

  it('refuses what it cannot move', () => {
    const params = { b: device.tensor([1, 1]) };
    expect(() => new Optimizer(params, [{ rule: muon() }])).toThrow('muon: moves matrices; b is [2]');
    expect(() => new Optimizer(params, [{ match: () => false, rule: adamw() }])).toThrow('no group takes b');
    expect(() => adamw({ beta3: 1 } as never)).toThrow('unknown option "beta3"');
    expect(() => adamw({ beta1: 1 })).toThrow('beta1 must be from 0 to below 1');
    disposeTree(params);
  });

  it('goes on from a saved state bit for bit', () => {
    const run = (steps: number, from?: { w: number[]; state: Record<string, number[]>; count: number }) => {
      const w = device.tensor(from?.w ?? [1, 2, 3]);
      const optimizer = new Optimizer({ w }, [{ rule: ellisAdam() }]);
      if (from !== undefined) {
        optimizer.stepCount = from.count;
        for (const [slot, data] of Object.entries(from.state)) device.write(optimizer.state.w![slot]!, Float32Array.from(data));
      }
      for (let i = 0; i < steps; i++) {
        const g = device.tensor([Math.sin(optimizer.stepCount), 0.1, -0.2]);
        optimizer.step({ w: g }, { learningRate: 0.01 });
        g.dispose();
      }
      const saved = {
        w: values(w),
        state: Object.fromEntries(Object.entries(optimizer.state.w!).map(([slot, t]) => [slot, values(t)])),
        count: optimizer.stepCount,
      };
      disposeTree([w, optimizer.state]);
      return saved;
    };
    expect(run(3, run(4))).toEqual(run(7));
  });
});

describe('clipping, means, averages', () => {
  it('scales to the norm, or not at all', () => {
    const grads = { a: device.tensor([3]), b: [device.tensor([0, 4])] };
    const clipped = clipByGlobalNorm(grads, 1);
    near(clipped.norm, [5]);
    near(clipped.grads.a, [0.6]);
    near(clipped.grads.b[0]!, [0, 0.8]);
    const free = clipByGlobalNorm(grads, 10);
    expect(values(free.grads.a)).toEqual([3]);
    const norm = globalNorm(free.grads);
    near(norm, [5]);
    disposeTree([grads, clipped.grads, clipped.norm, free.grads, free.norm, norm]);
  });

  it('accumulates the mean', () => {
    const total = { g: device.tensor([6, 0]) };
    const more = { g: device.tensor([0, 3]) };
    accumulateMean(total, more, 1);
    near(total.g, [3, 1.5]);
    accumulateMean(total, more, 2);
    near(total.g, [2, 2]);
    disposeTree([total, more]);
  });

  it('averages the weights, and lends them', async () => {
    const w = device.tensor([1]);
    const ema = new Ema({ w }, 0.9);
    device.write(w, Float32Array.of(2));
    ema.update();
    near(ema.averages.w!, [1.1]);
    await ema.swapped(async () => near(w, [1.1]));
    expect(values(w)).toEqual([2]);
    ema.dispose();
    w.dispose();
  });
});

describe('schedules', () => {
  it('have the form that their names say', () => {
    const constant = { kind: 'warmup-constant', peak: 2, warmup: 4 } as const;
    expect([1, 2, 4, 5, 99].map((step) => learningRateAt(constant, step))).toEqual([0.5, 1, 2, 2, 2]);
    const cosine = { kind: 'warmup-cosine', peak: 1, warmup: 0, total: 10, floor: 0.2 } as const;
    expect(learningRateAt(cosine, 5)).toBeCloseTo(0.6);
    expect(learningRateAt(cosine, 10)).toBeCloseTo(0.2);
    expect(learningRateAt(cosine, 50)).toBeCloseTo(0.2);
    const stable = { kind: 'warmup-stable-decay', peak: 1, warmup: 2, total: 10, decay: 4 } as const;
    expect([1, 2, 6, 8, 10, 11].map((step) => learningRateAt(stable, step))).toEqual([0.5, 1, 1, 0.5, 0, 0]);
  });

  it('are checked', () => {
    expect(() => checkSchedule({ kind: 'warmup-linear' } as never)).toThrow('kind must be one of');
    expect(() => checkSchedule({ kind: 'warmup-stable-decay', peak: 1, warmup: 5, total: 6, decay: 2 })).toThrow('5 + 2 is beyond 6');
    expect(() => checkSchedule({ kind: 'warmup-constant', peak: 1, warmup: 5, total: 6 } as never)).toThrow('unknown option "total"');
  });
});

describe('where the device refuses memory', () => {
  const weights = () => ({ a: device.tensor([1, 2], [2], { memory: 'weights' }), b: device.tensor([3], [1], { memory: 'weights' }) });

  it.each<[string, (params: ReturnType<typeof weights>) => unknown]>([
    ['an optimiser', (params) => new Optimizer(params, [{ rule: adamw() }]).dispose()],
    ['averages', (params) => new Ema(params, 0.5).dispose()],
    ['clipping', (params) => disposeTree(clipByGlobalNorm(params, 1))],
  ])('%s leaves nothing behind', async (_, f) => {
    const params = weights();
    expect(await findLeaks(device, () => f(params))).toEqual([]);
    disposeTree(params);
  });

  it('averages that could not all be swapped in leave the parameters as they were', async () => {
    const params = weights();
    const ema = new Ema(params, 0.5);
    device.write(params.a, Float32Array.of(10, 20));
    device.write(params.b, Float32Array.of(30));
    const seen: number[][] = [];
    const leaks = await findLeaks(device, async () => {
      try {
        await ema.swapped(async () => {
          seen.push([...values(params.a), ...values(params.b)]);
        });
      } finally {
        expect([...values(params.a), ...values(params.b)]).toEqual([10, 20, 30]);
      }
    });
    expect(leaks).toEqual([]);
    expect(seen[0]).toEqual([1, 2, 3]);
    ema.dispose();
    disposeTree(params);
  });
});
