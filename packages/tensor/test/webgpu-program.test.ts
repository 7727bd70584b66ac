import { add, assign, gatherRows, matmul, RangeOpError, rmsNorm } from '@unroll/tensor';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { vulkanDevice } from './support/dawn.js';
import { programCases } from './support/program-cases.js';

let device: WebGPUDevice;
beforeAll(async () => {
  device = await vulkanDevice();
});
afterAll(() => device.dispose());

const ints = (values: number[], shape = [values.length]) => device.tensor(values, shape, { dtype: 'i32' });
const sine = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i + 1));

describe('a recorded program', () => {
  programCases(() => device);

  it('runs any number of repetitions in one submit', async () => {
    const w = device.tensor(sine(64 * 64), [64, 64]);
    const norm = device.tensor(sine(64));
    const e = device.tensor(sine(2 * 64), [2, 64]);
    const step = (s: typeof e) => rmsNorm(add(matmul(s, w, { transposeB: true }), e), norm);

    const s = device.zeros([2, 64]);
    const program = device.record(() => assign(s, step(s)));
    program.replay();
    await s.data();
    const before = device.stats();
    program.replay(7);
    await s.data();
    const after = device.stats();
    expect(after.submits - before.submits).toBe(1);
    expect(after.dispatches - before.dispatches).toBe(7 * program.dispatches);
    // matmul, add and rmsNorm, which writes to s at once.
    expect(program.dispatches).toBe(3);
    program.dispose();
  });

  it('reports bad values at the next read', async () => {
    const index = ints([0]);
    const table = device.zeros([3, 2]);
    const program = device.record(() => gatherRows(table, index));
    program.replay(2, [{ into: index, rows: ints([1, 9], [2, 1]) }]);
    await expect(program.outputs.data()).rejects.toThrow(RangeOpError);
    program.replay(1, [{ into: index, rows: ints([1]) }]);
    expect([...(await program.outputs.data())]).toEqual([0, 0]);
    program.dispose();
  });
});
