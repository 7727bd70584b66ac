import {
  add,
  affine,
  copy,
  disposeTree,
  forEachTensor,
  keep,
  mapTensors,
  matvec,
  mul,
  reshape,
  scatterRows,
  split,
  type Tensor,
  tidy,
  UnrollError,
} from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());
const ones = (...shape: number[]) => device.tensor(new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1), shape);
let before = 0;
beforeEach(() => {
  before = device.memory().buffers;
});
const made = () => device.memory().buffers - before;

describe('tidy', () => {
  it('frees what f made, keeps what it returns, in any tree', () => {
    const x = ones(4);
    const result = tidy(device, () => {
      const y = add(x, x);
      const z = mul(y, y);
      affine(z, { shift: 1 });
      return { z, list: [y, 'text', null, new Map([['k', copy(z)]])], n: 3 };
    });
    expect(made()).toBe(1 + 3);
    expect(device.readSync(result.z)).toEqual(Float32Array.of(4, 4, 4, 4));
    disposeTree(result);
    x.dispose();
    expect(made()).toBe(0);
  });

  it('nests: a result belongs to the scope around', () => {
    let inner: Tensor | undefined;
    const outer = tidy(device, () => {
      inner = tidy(device, () => add(ones(2), ones(2)));
      expect(made()).toBe(1);
      expect(inner.disposed).toBe(false);
      return mul(inner, inner);
    });
    expect(inner?.disposed).toBe(true);
    expect(made()).toBe(1);
    outer.dispose();
  });

  it('frees all when f throws, and closes its scope', () => {
    const error = new Error('f failed');
    expect(() =>
      tidy(device, () => {
        ones(3);
        tidy(device, () => {
          ones(3);
          throw error;
        });
      }),
    ).toThrow(error);
    expect(made()).toBe(0);
    expect(device.scopes.depth).toBe(0);
  });

  it('refuses a Promise or another thenable, and frees', async () => {
    const failing = async () => {
      ones(2);
      throw new Error('late');
    };
    expect(() => tidy(device, failing)).toThrow('tidy: f returned a Promise; await outside of tidy');
    // biome-ignore lint/suspicious/noThenProperty: a thenable is what is tested
    expect(() => tidy(device, () => ({ then: () => ones(2) }))).toThrow(UnrollError);
    await Promise.resolve();
    expect(made()).toBe(0);
  });

  it('does not touch weights and kv memory, nor what was made outside', () => {
    const outside = ones(2);
    const [w, kv] = tidy(device, () => {
      const weight = device.zeros([8], { memory: 'weights' });
      const cache = device.zeros([16], { memory: 'kv' });
      add(outside, outside);
      return [[weight], [cache]].map((list) => list[0]!);
    });
    tidy(device, () => {
      device.zeros([4], { memory: 'weights' }).dispose();
      return undefined;
    });
    expect([w, kv, outside].map((t) => t?.disposed)).toEqual([false, false, false]);
    expect(device.memory().bytes).toMatchObject({ weights: 32, kv: 64 });
    for (const tensor of [w!, kv!, outside]) tensor.dispose();
    expect(device.memory().bytes).toMatchObject({ weights: 0, kv: 0 });
  });

  it('frees the views that f made of weights, not the weights', () => {
    const weight = device.zeros([2, 8], { memory: 'weights' });
    tidy(device, () => {
      reshape(weight, [16]);
      return undefined;
    });
    expect(weight.storage.refs).toBe(1);
    expect(device.memory().bytes.weights).toBe(64);
    weight.dispose();
    expect(made()).toBe(0);
  });
});

describe('views', () => {
  it('share memory, which goes back with the last of them, in any order of dispose', () => {
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 0, 2],
    ]) {
      const base = ones(2, 3);
      const views = [base, reshape(base, [6]), reshape(base, [3, -1])];
      expect(made()).toBe(1);
      tidy(device, () => scatterRows(base, device.tensor([1], [1], { dtype: 'i32' }), device.tensor([5, 6, 7], [1, 3])));
      expect([...device.readSync(views[2]!)]).toEqual([1, 1, 1, 5, 6, 7]);
      const left = order.map((i) => {
        views[i]!.dispose();
        views[i]!.dispose();
        return made();
      });
      expect(left).toEqual([1, 1, 0]);
    }
  });

  it('returned from tidy, keep the memory of a base that is freed', () => {
    const view = tidy(device, () => reshape(add(ones(4), ones(4)), [2, 2]));
    expect(made()).toBe(1);
    const other = ones(4);
    expect([...device.readSync(view)]).toEqual([2, 2, 2, 2]);
    view.dispose();
    other.dispose();
    expect(made()).toBe(0);
  });

  it('split and matvec leave only their results', () => {
    const x = ones(2, 6);
    const parts = split(x, 1, [1, 2, 3]);
    expect(made()).toBe(4);
    const y = matvec(x, reshape(ones(6), [6]));
    expect(y.shape).toEqual([2]);
    disposeTree([x, parts, y]);
    expect(made()).toBe(1);
    before++;
    const w = ones(2, 3);
    expect(() => split(w, 1, [1, 3, -1])).toThrow('slice: ');
    expect(made()).toBe(1);
    w.dispose();
  });
});

describe('keep', () => {
  it('takes a tensor out of all open scopes', () => {
    let kept: Tensor | undefined;
    tidy(device, () => {
      tidy(device, () => {
        kept = keep(ones(2));
        ones(3);
        return undefined;
      });
      return undefined;
    });
    expect(kept?.disposed).toBe(false);
    expect(made()).toBe(1);
    kept?.dispose();
  });

  it('holds even when f throws', () => {
    let kept: Tensor | undefined;
    expect(() =>
      tidy(device, () => {
        kept = keep(ones(2));
        throw new Error('f failed');
      }),
    ).toThrow('f failed');
    expect(kept?.disposed).toBe(false);
    kept?.dispose();
    expect(made()).toBe(0);
  });
});

describe('trees', () => {
  it('names every tensor by its path', () => {
    const tree = { a: [{ w: ones(1) }, ones(2)], m: new Map([['x', ones(3)]]), n: 1, none: null };
    const seen: string[] = [];
    forEachTensor(tree, (tensor, path) => seen.push(`${path}:${tensor.size}`));
    expect(seen).toEqual(['a.0.w:1', 'a.1:2', 'm.x:3']);
    const sizes = mapTensors(tree, (tensor, path) => `${path}=${tensor.size}`);
    expect(sizes).toEqual({ a: [{ w: 'a.0.w=1' }, 'a.1=2'], m: new Map([['x', 'm.x=3']]), n: 1, none: null });
    disposeTree(tree);
    expect(made()).toBe(0);
  });
});

it('Symbol.dispose is dispose, of tensors and devices', () => {
  const other = createCpuDevice();
  const x = other.zeros([3]);
  x[Symbol.dispose]();
  expect(x.disposed).toBe(true);
  expect(other.memory().buffers).toBe(0);
  other[Symbol.dispose]();
  expect(other.disposed).toBe(true);
});
