import {
  add,
  assign,
  DisposedError,
  gatherRows,
  matmul,
  RangeOpError,
  rmsNorm,
  ShapeError,
  scatterRows,
  UnrollError,
} from '@unroll/tensor';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { vulkanDevice } from './support/dawn.js';

let device: WebGPUDevice;
beforeAll(async () => {
  device = await vulkanDevice();
});
afterAll(() => device.dispose());

const ints = (values: number[], shape = [values.length]) => device.tensor(values, shape, { dtype: 'i32' });
const sine = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i + 1));

describe('a recorded program', () => {
  it('gives after r replays what r direct steps give, bit for bit, in one submit', async () => {
    const w = device.tensor(sine(64 * 64), [64, 64]);
    const norm = device.tensor(sine(64));
    const e = device.tensor(sine(2 * 64), [2, 64]);
    const step = (s: typeof e) => rmsNorm(add(matmul(s, w, { transposeB: true }), e), norm);
    let direct = e;
    for (let i = 0; i < 7; i++) direct = step(direct);

    const s = device.zeros([2, 64]);
    const program = device.record(() => assign(s, step(s)));
    expect([...(await s.data())].every((v) => v === 0)).toBe(true);
    assign(s, e);
    const before = device.stats();
    program.replay(7);
    const values = await s.data();
    const after = device.stats();
    expect(after.submits - before.submits).toBe(1);
    expect(after.dispatches - before.dispatches).toBe(7 * program.dispatches);
    expect(program.dispatches).toBe(4);
    expect([...values]).toEqual([...(await direct.data())]);
    program.dispose();
  });

  it('takes other values at each repetition', async () => {
    const table = device.zeros([5, 3]);
    const slot = ints([0]);
    const row = device.tensor(sine(3), [1, 3]);
    const program = device.record(() => scatterRows(table, slot, row));
    program.replay(3, [{ into: slot, rows: ints([4, 0, 2], [3, 1]) }]);
    const [a, b, c] = sine(3);
    expect([...(await table.data())]).toEqual([a, b, c, 0, 0, 0, a, b, c, 0, 0, 0, a, b, c]);
    program.dispose();
  });

  it('sees what the host writes between replays, and keeps what it was given while recording', async () => {
    const x = device.tensor([1, 2, 3]);
    const program = device.record(() => {
      const twice = add(x, x);
      const thrice = add(twice, x);
      // Its memory is free from here on, but a constant must not be put where each repetition writes.
      twice.dispose();
      const moved = add(thrice, device.tensor([10, 20, 30]));
      return add(moved, device.zeros([3]));
    });
    program.replay();
    expect([...(await program.outputs.data())]).toEqual([13, 26, 39]);
    device.write(x, Float32Array.of(5, 5, 5));
    program.replay(2);
    expect([...(await program.outputs.data())]).toEqual([25, 35, 45]);
    program.dispose();
  });

  it('gives back its memory, and no other work gets it before', async () => {
    const x = device.tensor(sine(1000));
    const before = device.memory();
    const program = device.record(() => add(add(x, x), x));
    const others = Array.from({ length: 8 }, (_, i) => device.tensor(new Float32Array(1000).fill(i)));
    program.replay();
    for (const [i, other] of others.entries()) expect((await other.data())[7]).toBe(i);
    for (const other of others) other.dispose();
    const { outputs } = program;
    outputs.dispose();
    const next = device.zeros([1000]);
    program.replay();
    expect((await next.data())[7]).toBe(0);
    next.dispose();
    program.dispose();
    program.dispose();
    expect(device.memory()).toMatchObject({ buffers: before.buffers, bytes: before.bytes });
    const { reserved } = device.memory();
    for (let i = 0; i < 20; i++) device.record(() => add(add(x, x), x)).dispose();
    expect(device.memory().reserved).toBe(reserved);
    expect(outputs.disposed).toBe(true);
  });

  it('refuses what cannot be recorded', async () => {
    const x = device.tensor([1, 2]);
    expect(() => device.record(() => device.write(x, Float32Array.of(1)))).toThrow(/written by the host while recording/);
    expect(() => device.record(() => device.record(() => x))).toThrow(/do not nest/);
    let reading: Promise<unknown> | undefined;
    device.record(() => {
      reading = x.data();
    });
    await expect(reading).rejects.toThrow(/cannot be read while recording/);
    expect(() => device.record(() => Promise.resolve())).toThrow(UnrollError);
    expect([...(await add(x, x).data())]).toEqual([2, 4]);
  });

  it('checks its arguments, and that it lives', () => {
    const x = device.tensor([1, 2]);
    const program = device.record(() => add(x, x));
    expect(() => program.replay(-1)).toThrow(/times must be/);
    expect(() => program.replay(3, [{ into: x, rows: device.zeros([2, 2]) }])).toThrow(ShapeError);
    program.dispose();
    expect(() => program.replay()).toThrow(DisposedError);
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
