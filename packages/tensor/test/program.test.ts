import {
  add,
  attention,
  crossEntropy,
  DisposedError,
  GradientError,
  gatherRows,
  permute,
  RangeOpError,
  scatterRows,
  sum,
  valueAndGrad,
  withoutGradient,
} from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { Generate, opList, type Sample } from '@unroll/tensor/testing';
import { afterAll, describe, expect, it } from 'vitest';
import { apply } from '../src/op.js';
import { programCases } from './support/program-cases.js';

const device = createCpuDevice();
afterAll(() => device.dispose());
const ints = (values: number[], shape = [values.length]) => device.tensor(values, shape, { dtype: 'i32' });

describe('a recorded program on the CPU', () => {
  programCases(() => device);

  it('does what each operation does when called, for every operation of the list, and gives all memory back', async () => {
    const before = device.memory();
    for (const op of opList) {
      for (const sample of op.samples(new Generate(5)) as Sample<unknown>[]) {
        const make = () => sample.inputs.map(({ data, shape, dtype }) => device.tensor(data, shape, { dtype }));
        const [direct, recorded] = [make(), make()];
        const results = apply(op, direct, sample.attrs, device);
        const program = device.record(() => apply(op, recorded, sample.attrs, device));
        // Other work between recording and replay gets no memory of the program.
        const others = Array.from({ length: 4 }, () => device.tensor(new Float32Array(64).fill(Number.NaN)));
        program.replay(op.mutates === undefined ? 2 : 1);
        const outputs = [...program.outputs, ...(op.mutates ?? []).map((i) => recorded[i]!)];
        const expected = [...results, ...(op.mutates ?? []).map((i) => direct[i]!)];
        expect(outputs.length, op.name).toBe(expected.length);
        for (const [i, output] of outputs.entries()) {
          expect(new Int32Array((await output.data()).buffer), op.name).toEqual(new Int32Array((await expected[i]!.data()).buffer));
        }
        program.dispose();
        for (const tensor of [...direct, ...recorded, ...results, ...others]) tensor.dispose();
      }
    }
    expect(device.memory()).toMatchObject({ buffers: before.buffers, bytes: before.bytes });
  });

  it('checks the values of each repetition and names the bad one', () => {
    const index = ints([0]);
    const table = device.zeros([3, 2]);
    const gather = device.record(() => gatherRows(table, index));
    expect(() => gather.replay(3, [{ into: index, rows: ints([1, 9, 0], [3, 1]) }])).toThrow(
      new RangeOpError('gatherRows: index 9, at place 0, is outside the rows 0..2 of the table [3,2]'),
    );
    gather.replay(1, [{ into: index, rows: ints([2]) }]);

    const rows = device.zeros([1, 2]);
    const scatter = device.record(() => scatterRows(table, index, rows));
    const targets = ints([1]);
    const loss = device.record(() => crossEntropy(table, gatherRows(targets, ints([0, 0, 0]))));
    const visible = ints([2], [1, 1]);
    const pool = device.zeros([2, 1, 4]);
    const seen = device.record(() => attention(device.zeros([1, 1, 1, 4]), pool, pool, ints([0, 1], [1, 2]), visible));
    for (const program of [scatter, loss, seen]) program.replay();
    device.write(index, Int32Array.of(7));
    device.write(targets, Int32Array.of(5));
    device.write(visible, Int32Array.of(3));
    expect(() => scatter.replay()).toThrow(/scatterRows: index 7/);
    expect(() => loss.replay()).toThrow(/crossEntropy: target 5, at place 0/);
    expect(() => seen.replay()).toThrow(/attention: query \(0, 0\) has visible 3/);
  });

  it('refuses to run when a tensor that it uses is gone', () => {
    const x = device.tensor([1, 2]);
    const program = device.record(() => add(x, x));
    program.replay();
    x.dispose();
    expect(() => program.replay()).toThrow(DisposedError);
    program.dispose();
  });

  it('goes on with a longer pool under attention, checks rows against it, and refuses what reads a table whole', () => {
    const [short, long] = [device.zeros([1, 1, 4]), device.tensor([0, 0, 0, 0, 8, 8, 8, 8], [2, 1, 4])];
    const [row, visible] = [ints([0], [1, 1]), ints([1], [1, 1])];
    const q = device.zeros([1, 1, 1, 4]);
    const program = device.record(() => attention(q, short, short, row, visible), { moves: [short] });
    program.replay();
    device.write(row, Int32Array.of(1));
    expect(() => program.replay()).toThrow(RangeOpError);
    expect(program.rebind([long])).toBe(true);
    short.dispose();
    program.replay();
    expect([...device.readSync(program.outputs)]).toEqual([8, 8, 8, 8]);
    device.write(row, Int32Array.of(2));
    expect(() => program.replay()).toThrow(RangeOpError);
    long.dispose();
    expect(() => program.replay()).toThrow(DisposedError);

    const whole = device.zeros([2, 4]);
    const doubled = device.record(() => add(whole, whole), { moves: [whole] });
    expect(doubled.rebind([device.zeros([3, 4])])).toBe(false);
    doubled.replay();
    expect(() => device.record(() => add(whole, whole), { move: [whole] } as object)).toThrow(/move/);
  });

  it('keeps what kernels are told in memory of its own', async () => {
    const x = device.tensor([1, 2, 3, 4, 5, 6], [1, 2, 3]);
    const program = device.record(() => permute(x, [2, 0, 1]));
    for (let i = 0; i < 9; i++) permute(device.zeros([2, 2, 2]), [1, 2, 0]).dispose();
    program.replay();
    expect([...(await program.outputs.data())]).toEqual([1, 4, 2, 5, 3, 6]);
  });

  it('is not recorded while a gradient is taken, which may itself be recorded', async () => {
    const x = device.tensor([1, 2, 3]);
    const within = (pause: (f: () => void) => void) =>
      valueAndGrad((p: typeof x) => {
        pause(() => device.record(() => add(p, p)).dispose());
        return sum(p);
      }, x);
    expect(() => within((f) => f())).toThrow(GradientError);
    expect(() => within((f) => withoutGradient(device, f))).not.toThrow();
    const program = device.record(() => valueAndGrad((p: typeof x) => sum(add(p, p)), x));
    program.replay();
    expect([...(await program.outputs.grads.data())]).toEqual([2, 2, 2]);
  });

  it('leaves the device usable after a recording that failed', async () => {
    const before = device.memory();
    expect(() =>
      device.record(() => {
        add(device.zeros([4]), device.zeros([4]));
        throw new TypeError('mine');
      }),
    ).toThrow('mine');
    expect(device.memory()).toEqual(before);
    const x = device.tensor([1]);
    expect([...(await add(x, x).data())]).toEqual([2]);
  });
});
