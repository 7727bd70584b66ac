import { gatherRows, scatterRows, slice, type Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { type AnyOp, conform, conformAll, opList } from '@unroll/tensor/testing';
import { afterAll, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());

describe.each(opList.map((op) => [op.name, op] as const))('%s', (_, op) => {
  it.each([1, 2, 3, 4, 5, 6, 7, 8])('equals its reference on generated samples, seed %i', async (seed) => {
    expect(await conform(device, op, seed)).toEqual([]);
  });
});

it('leaves no buffer behind', () => {
  expect(device.memory()).toMatchObject({ bytes: { scratch: 0 }, buffers: 0 });
});

describe('addresses above 2 GiB', () => {
  it('all operations', async () => {
    const high = createCpuDevice();
    // Reserved, never touched: the system gives no pages for it.
    const below = high.empty([2 ** 29 + 2 ** 16], 'f32', 'weights');
    expect(high.at(high.zeros([1]))).toBeGreaterThan(2 ** 31);
    expect(await conformAll(high, 3)).toEqual([]);
    below.dispose();
    high.dispose();
  });

  it('offsets inside one tensor', async () => {
    const high = createCpuDevice();
    const [R, W] = [3 * 2 ** 20, 256];
    const table = high.empty([R, W], 'f32', 'kv');
    const last = Float32Array.from({ length: W }, (_, i) => i);
    const index = high.tensor([R - 1], [1], { dtype: 'i32' });
    scatterRows(table, index, high.tensor(last, [1, W]));
    expect(await gatherRows(table, index).data()).toEqual(last);
    expect(await slice(table, 0, R - 1, R).data()).toEqual(last);
    high.write(table, Float32Array.of(77), R * W - 1);
    expect((await slice(table, 0, R - 1, R).data())[W - 1]).toBe(77);
    high.dispose();
  });
});

describe('the harness reports', () => {
  const find = (name: string) => opList.find((op) => op.name === name)!;
  const changed = (name: string, cpu: (real: AnyOp['cpu'], ...args: Parameters<AnyOp['cpu']>) => void): AnyOp => {
    const op = find(name);
    return { ...op, cpu: (...args) => cpu((...inner) => op.cpu(...inner), ...args) };
  };
  const messages = async (op: AnyOp) => (await conform(device, op, 1)).map((mismatch) => mismatch.message);

  it('a wrong value', async () => {
    const wrong = changed('softmax', (real, c, inputs, attrs, outputs) => {
      real(c, inputs, attrs, outputs);
      const last = outputs[0]!.size - 1;
      if (last >= 0) device.write(outputs[0]!, Float32Array.of(device.readSync(outputs[0]!)[last]! + 1e-4), last);
    });
    expect((await messages(wrong))[0]).toMatch(
      /^output 0: value 0 is 1\.0001\d*, the reference gives 1; inputs \[1\], attrs null, seed 1$/,
    );
  });

  it('a value that nobody wrote', async () => {
    const lazy = changed('add', (real, c, inputs, attrs, outputs) => {
      if (outputs[0]!.size !== 1) real(c, inputs, attrs, outputs);
    });
    expect(await messages(lazy)).toContainEqual(expect.stringMatching(/^output 0: value 0 is NaN, the reference gives/));
  });

  it('an input that was changed', async () => {
    const greedy = changed('neg', (real, c, inputs, attrs, outputs) => {
      real(c, inputs, attrs, outputs);
      if (inputs[0]!.size > 0) device.write(inputs[0]!, Float32Array.of(9), inputs[0]!.size - 1);
    });
    expect(await messages(greedy)).toContainEqual(expect.stringMatching(/^input 0 was changed/));
  });

  it('an error, and a buffer that leaked', async () => {
    const throwing = changed('exp', () => {
      throw new Error('no such kernel');
    });
    expect((await messages(throwing))[0]).toMatch(/^threw Error: no such kernel; inputs \[\]/);
    const leaking = changed('exp', (real, c, inputs, attrs, outputs) => {
      leaked.push(device.zeros([1]));
      real(c, inputs, attrs, outputs);
    });
    const leaked: Tensor[] = [];
    expect((await messages(leaking))[0]).toMatch(/^2 buffers are live beyond the inputs; 1 outputs were made/);
    for (const tensor of leaked) tensor.dispose();
    expect(device.memory().buffers).toBe(0);
  });

  it('an operation without samples', async () => {
    await expect(conform(device, { ...find('exp'), samples: () => [] }, 1)).rejects.toThrow('conform: exp has no samples');
  });
});
