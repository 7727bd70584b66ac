import {
  add,
  assign,
  checkpoint,
  forEachTensor,
  GradientError,
  gatherRows,
  grad,
  matmul,
  mean,
  mul,
  reshape,
  rmsNorm,
  scatterRows,
  square,
  stopGradient,
  sum,
  type Tensor,
  tanh,
  tidy,
  topK,
  valueAndGrad,
  withoutGradient,
} from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, afterEach, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());
afterEach(() => {
  expect(device.tape).toBeNull();
  expect(device.memory()).toMatchObject({ buffers: 0 });
});

const values = (tensor: Tensor) => [...device.readSync(tensor)];
const free = (...trees: unknown[]) => {
  for (const tree of trees) forEachTensor(tree, (tensor) => tensor.dispose());
};

describe('valueAndGrad', () => {
  it('gives a tree like the parameters, in arrays, objects and Maps', () => {
    const params = { a: device.tensor([2, 3]), list: [device.tensor([5, 7])], map: new Map([['m', device.tensor([1, 1])]]) };
    const { value, grads } = valueAndGrad(({ a, list, map }) => sum(mul(mul(a, list[0]!), map.get('m')!)), params);
    expect(values(value)).toEqual([31]);
    expect([values(grads.a), values(grads.list[0]!), values(grads.map.get('m')!)]).toEqual([
      [5, 7],
      [2, 3],
      [10, 21],
    ]);
    free(value, grads, params);
  });

  it('adds up what comes by several ways, and through views', () => {
    const x = device.tensor([1, 2, 3, 4], [2, 2]);
    const { value, grads } = valueAndGrad(() => sum(add(mul(reshape(x, [4]), reshape(x, [4])), reshape(x, [4]))), [x]);
    expect(values(grads[0]!)).toEqual([3, 5, 7, 9]);
    free(x, value, grads);
  });

  it('keeps saved values over the scopes that made them, and frees all but the results', () => {
    const x = device.tensor([0.5, -0.25]);
    const before = device.memory().buffers;
    const g = grad(() => tidy(device, () => sum(square(tidy(device, () => tanh(tidy(device, () => mul(x, x))))))), { x });
    expect(device.memory().buffers).toBe(before + 1);
    const [slope] = values(g.x);
    const t = Math.tanh(0.25);
    expect(slope).toBeCloseTo(2 * t * (1 - t * t) * 2 * 0.5, 6);
    free(x, g);
  });

  it('gives zeros for a parameter that is not used, and results that do not share memory', () => {
    const [a, b, c] = [device.tensor([1, 2]), device.tensor([3, 4]), device.tensor([9])];
    const g = grad(() => sum(add(a, b)), { a, b, c });
    expect(values(g.c)).toEqual([0]);
    assign(g.a, g.b);
    device.write(g.a, Float32Array.of(8, 8));
    expect(values(g.b)).toEqual([1, 1]);
    free(a, b, c, g);
  });

  it('returns what stands beside the loss', () => {
    const x = device.tensor([3]);
    const { value, grads } = valueAndGrad(() => {
      const state = square(x);
      return { loss: sum(state), state, name: 'kept' };
    }, x);
    expect([values(value.state), value.name, values(grads)]).toEqual([[9], 'kept', [6]]);
    free(x, value, grads);
  });

  it('leaves nothing behind when f throws, or when the gradient does', () => {
    const x = device.tensor([1, 2, 3, 4]);
    const failing = () => {
      tanh(square(x));
      throw new Error('no');
    };
    expect(() => grad(failing, x)).toThrow('no');
    expect(() => grad(() => square(x), x)).toThrow('grad: the loss must be one f32 value; got f32[4]');
    expect(device.memory().buffers).toBe(1);
    expect(device.tape).toBeNull();
    free(x);
  });

  it('refuses what has no gradient', () => {
    const x = device.tensor([1, 2]);
    const i = device.tensor([0], [1], { dtype: 'i32' });
    expect(() => grad(() => device.zeros([]), x)).toThrow('the loss does not depend on the parameters');
    expect(() => grad(() => sum(topK(x, 1).values), x)).toThrow(/^topK: has no gradient: what it picks changes in jumps/);
    expect(() => grad(() => sum(x), i)).toThrow('the parameter given is i32');
    expect(() => grad(() => sum(x), {})).toThrow('the parameters hold no tensor');
    expect(() => grad(() => grad(() => sum(x), x), x)).toThrow('gradients do not nest');
    expect(() => grad(() => ({}) as Tensor, x)).toThrow('f must return the loss');
    expect(() => grad(() => Promise.resolve(sum(x)) as unknown as Tensor, x)).toThrow('tidy: f returned a Promise');
    free(x, i);
  });

  it('refuses writes into values that a gradient needs, and writes whose gradient would be lost', () => {
    const x = device.tensor([1, 2], [2, 1]);
    const buffer = device.zeros([2, 1]);
    const rows = device.tensor([0, 1], [2], { dtype: 'i32' });
    const refused = (f: () => void) =>
      expect(() =>
        grad(() => {
          const y = square(square(x));
          f();
          return sum(y);
        }, x),
      ).toThrow(GradientError);
    refused(() => assign(x, buffer));
    refused(() => device.write(x, Float32Array.of(3)));
    refused(() => scatterRows(buffer, rows, square(x)));
    free(
      grad(() => {
        const y = sum(square(x));
        assign(buffer, device.zeros([2, 1]));
        withoutGradient(device, () => scatterRows(buffer, rows, square(x)));
        return y;
      }, x),
    );
    expect(values(buffer)).toEqual([1, 4]);
    free(x, buffer, rows);
  });
});

describe('stopGradient and withoutGradient', () => {
  it('let nothing through', () => {
    const x = device.tensor([3]);
    const stopped = grad(() => sum(mul(x, stopGradient(square(x)))), x);
    const outside = grad(
      () =>
        sum(
          mul(
            x,
            withoutGradient(device, () => square(x)),
          ),
        ),
      x,
    );
    expect([values(stopped), values(outside)]).toEqual([[9], [9]]);
    free(x, stopped, outside);
  });

  it('hold no memory for steps without gradient, however many', () => {
    const w = device.tensor(
      Float32Array.from({ length: 64 * 64 }, (_, i) => Math.sin(i) / 8),
      [64, 64],
    );
    const s = device.tensor(
      Float32Array.from({ length: 4 * 64 }, (_, i) => Math.cos(i)),
      [4, 64],
    );
    const peak = (n: number) => {
      device.resetPeak();
      const g = grad(() => {
        let state = withoutGradient(device, () =>
          tidy(device, () => {
            let here = s;
            for (let i = 0; i < n; i++) {
              const next = tidy(device, () => tanh(matmul(here, w)));
              if (here !== s) here.dispose();
              here = next;
            }
            return here;
          }),
        );
        for (let i = 0; i < 3; i++) state = tanh(matmul(state, w));
        return mean(square(state));
      }, w);
      free(g);
      return device.memory().peak;
    };
    expect(peak(64)).toBe(peak(2));
    free(w, s);
  });
});

describe('checkpoint', () => {
  const w = () =>
    device.tensor(
      Float32Array.from({ length: 32 * 32 }, (_, i) => Math.sin(i * i) / 4),
      [32, 32],
    );
  const run = (w: Tensor, s: Tensor, step: (x: Tensor) => Tensor, loops: number) =>
    valueAndGrad(
      () => {
        let x: Tensor = mul(s, s);
        for (let i = 0; i < loops; i++) x = step(x);
        return mean(square(x));
      },
      { w, s },
    );

  // Of a parameter, a recomputed step adds up its own shares first: another order of the same sum.
  const distance = (a: Tensor, b: Tensor) => {
    const [x, y] = [values(a), values(b)];
    return Math.max(...x.map((value, i) => Math.abs(value - y[i]!))) / Math.max(...y.map(Math.abs));
  };

  it('gives the same gradient, with parameters reached from outside, in less memory', () => {
    const params = [
      w(),
      device.tensor(
        Float32Array.from({ length: 4096 }, (_, i) => Math.cos(i)),
        [128, 32],
      ),
    ] as const;
    const scale = device.tensor(new Float32Array(32).fill(1));
    const step = (x: Tensor) => rmsNorm(add(tanh(matmul(tanh(matmul(x, params[0])), params[0])), x), scale);
    device.resetPeak();
    const plain = run(...params, step, 6);
    const plainPeak = device.memory().peak;
    device.resetPeak();
    const again = run(...params, (x) => checkpoint(step, x), 6);
    expect(device.memory().peak).toBeLessThan(plainPeak);
    expect(distance(again.grads.w, plain.grads.w)).toBeLessThan(1e-6);
    expect(distance(again.grads.s, plain.grads.s)).toBeLessThan(1e-6);
    const nested = run(...params, (x) => checkpoint((y) => checkpoint(step, y), x), 3);
    const flat = run(...params, step, 3);
    expect(distance(nested.grads.w, flat.grads.w)).toBeLessThan(1e-6);
    free(params, scale, plain, again, nested, flat);
  });

  it('hands through what f hands through, and runs f once where no gradient is taken', () => {
    const x = device.tensor([2]);
    let calls = 0;
    const same = checkpoint((y: Tensor) => {
      calls++;
      return square(y);
    }, x);
    expect([calls, ...values(same)]).toEqual([1, 4]);
    const g = grad(
      () =>
        sum(
          mul(
            checkpoint((y) => y, x),
            x,
          ),
        ),
      x,
    );
    expect(values(g)).toEqual([4]);
    free(x, same, g);
  });

  it('frees all when f fails the second time', () => {
    const x = device.tensor([2]);
    let calls = 0;
    const f = (y: Tensor) => {
      const z = square(square(y));
      if (++calls > 1) throw new Error('second');
      return z;
    };
    expect(() => grad(() => sum(checkpoint(f, mul(x, x))), x)).toThrow('second');
    expect(device.memory().buffers).toBe(1);
    free(x);
  });
});

it('an embedding adds up the rows of equal tokens', () => {
  const table = device.tensor([1, 2, 3, 4, 5, 6], [3, 2]);
  const tokens = device.tensor([2, 0, 2], [3], { dtype: 'i32' });
  const g = grad(() => sum(gatherRows(table, tokens)), table);
  expect(values(g)).toEqual([1, 1, 0, 0, 2, 2]);
  free(table, tokens, g);
});
