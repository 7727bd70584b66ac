import {
  add,
  assign,
  concat,
  type Device,
  DisposedError,
  gatherRows,
  matmul,
  rmsNorm,
  ShapeError,
  scatterRows,
  UnrollError,
} from '@unroll/tensor';
import { expect, it } from 'vitest';

const sine = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i + 1));

/** What every device's programs do alike. */
export function programCases(given: () => Device): void {
  const ints = (values: number[], shape = [values.length]) => given().tensor(values, shape, { dtype: 'i32' });

  it('gives after r replays what r direct steps give, bit for bit', async () => {
    const w = given().tensor(sine(64 * 64), [64, 64]);
    const norm = given().tensor(sine(64));
    const e = given().tensor(sine(2 * 64), [2, 64]);
    const step = (s: typeof e) => rmsNorm(add(matmul(s, w, { transposeB: true }), e), norm);
    let direct = e;
    for (let i = 0; i < 7; i++) direct = step(direct);

    const s = given().zeros([2, 64]);
    const program = given().record(() => assign(s, step(s)));
    expect([...(await s.data())].every((v) => v === 0)).toBe(true);
    assign(s, e);
    program.replay(3);
    program.replay(4);
    expect([...(await s.data())]).toEqual([...(await direct.data())]);
    program.dispose();
  });

  it('takes other values at each repetition', async () => {
    const table = given().zeros([5, 3]);
    const slot = ints([0]);
    const row = given().tensor(sine(3), [1, 3]);
    const program = given().record(() => scatterRows(table, slot, row));
    program.replay(3, [{ into: slot, rows: ints([4, 0, 2], [3, 1]) }]);
    const [a, b, c] = sine(3);
    expect([...(await table.data())]).toEqual([a, b, c, 0, 0, 0, a, b, c, 0, 0, 0, a, b, c]);
    program.dispose();
  });

  it.each([3, 64])('begins with any of the rows, of %i values each', async (width) => {
    const values = Array.from({ length: 5 * width }, (_, i) => i);
    const into = ints(new Array<number>(width).fill(-1));
    const at = ints([width - 1]);
    const sum = given().zeros([1]);
    const rows = ints(values, [5, width]);
    // Twice the last value of each row, added up in f32 through a table of all values.
    const table = given().tensor(Float32Array.from(values));
    const program = given().record(() => {
      const last = gatherRows(into, at);
      assign(sum, add(sum, add(gatherRows(table, last), gatherRows(table, last))));
    });
    program.replay(2, [{ into, rows, first: 1 }]);
    program.replay(1, [{ into, rows, first: 4 }]);
    expect([...(await sum.data())]).toEqual([2 * (2 * width - 1) + 2 * (3 * width - 1) + 2 * (5 * width - 1)]);
    expect(() => program.replay(3, [{ into, rows, first: 3 }])).toThrow(ShapeError);
    expect(() => program.replay(1, [{ into, rows, first: -1 }])).toThrow(/first must be/);
    program.dispose();
  });

  it('goes on with a longer table, or says that it must be recorded anew', async () => {
    const table = (rows: number, from = 0) =>
      given().tensor(
        Array.from({ length: rows * 4 }, (_, i) => from + i),
        [rows, 4],
      );
    const [short, long] = [table(2), table(5, 100)];
    const [from, to] = [ints([1]), ints([0])];
    const bystander = given().tensor([1, 1, 1, 1], [1, 4]);
    const record = (one: typeof short) =>
      given().record(() => scatterRows(one, to, add(gatherRows(one, from), bystander)), { moves: [one] });
    let program = record(short);
    program.replay();
    expect([...(await short.data())].slice(0, 4)).toEqual([5, 6, 7, 8]);
    expect(() => program.rebind([bystander, long])).toThrow(ShapeError);
    expect(() => program.rebind([given().zeros([9, 3])])).toThrow(ShapeError);
    if (!program.rebind([long])) {
      program.dispose();
      program = record(long);
    }
    short.dispose();
    // A row that the short table did not have.
    given().write(from, Int32Array.of(4));
    given().write(to, Int32Array.of(3));
    program.replay();
    expect([...(await long.data())].slice(12, 16)).toEqual([117, 118, 119, 120]);
    given().write(from, Int32Array.of(1));
    given().write(to, Int32Array.of(0));
    program.replay();
    expect([...(await long.data())].slice(0, 4)).toEqual([105, 106, 107, 108]);
    program.dispose();
  });

  it('assigns results that are used again, or are outputs, or are written in parts', async () => {
    const [x, y, z] = [given().tensor([1, 2]), given().zeros([2]), given().zeros([4])] as const;
    const program = given().record(() => {
      const twice = add(x, x);
      assign(y, twice);
      const thrice = add(twice, x);
      const kept = add(thrice, x);
      const both = concat([thrice, kept], 0);
      assign(z, both);
      assign(x, kept);
      return kept;
    });
    program.replay(2);
    expect([...(await y.data())]).toEqual([8, 16]);
    expect([...(await z.data())]).toEqual([12, 24, 16, 32]);
    expect([...(await x.data())]).toEqual([16, 32]);
    expect([...(await program.outputs.data())]).toEqual([16, 32]);
    program.dispose();
  });

  it('sees what the host writes between replays, and keeps what it was given while recording', async () => {
    const x = given().tensor([1, 2, 3]);
    const program = given().record(() => {
      const twice = add(x, x);
      const thrice = add(twice, x);
      // Its memory is free from here on, but a constant must not be put where each repetition writes.
      twice.dispose();
      const moved = add(thrice, given().tensor([10, 20, 30]));
      return add(moved, given().zeros([3]));
    });
    program.replay();
    expect([...(await program.outputs.data())]).toEqual([13, 26, 39]);
    given().write(x, Float32Array.of(5, 5, 5));
    program.replay(2);
    expect([...(await program.outputs.data())]).toEqual([25, 35, 45]);
    program.dispose();
  });

  it('gives back its memory, and no other work gets it before', async () => {
    const x = given().tensor(sine(1000));
    const before = given().memory();
    const program = given().record(() => add(add(x, x), x));
    const others = Array.from({ length: 8 }, (_, i) => given().tensor(new Float32Array(1000).fill(i)));
    program.replay();
    for (const [i, other] of others.entries()) expect((await other.data())[7]).toBe(i);
    for (const other of others) other.dispose();
    const { outputs } = program;
    outputs.dispose();
    const next = given().zeros([1000]);
    program.replay();
    expect((await next.data())[7]).toBe(0);
    next.dispose();
    program.dispose();
    program.dispose();
    expect(given().memory()).toMatchObject({ buffers: before.buffers, bytes: before.bytes });
    const { reserved } = given().memory();
    for (let i = 0; i < 20; i++)
      given()
        .record(() => add(add(x, x), x))
        .dispose();
    expect(given().memory().reserved).toBe(reserved);
    expect(outputs.disposed).toBe(true);
  });

  it('refuses what cannot be recorded', async () => {
    const x = given().tensor([1, 2]);
    expect(() => given().record(() => given().write(x, Float32Array.of(1)))).toThrow(/written by the host while recording/);
    expect(() => given().record(() => given().record(() => x))).toThrow(/do not nest/);
    let reading: Promise<unknown> | undefined;
    given().record(() => {
      reading = x.data();
    });
    await expect(reading).rejects.toThrow(/cannot be read while recording/);
    expect(() => given().record(() => Promise.resolve())).toThrow(UnrollError);
    expect([...(await add(x, x).data())]).toEqual([2, 4]);
  });

  it('checks its arguments, and that it lives', () => {
    const x = given().tensor([1, 2]);
    const program = given().record(() => add(x, x));
    expect(() => program.replay(-1)).toThrow(/times must be/);
    expect(() => program.replay(3, [{ into: x, rows: given().zeros([2, 2]) }])).toThrow(ShapeError);
    program.dispose();
    expect(() => program.replay()).toThrow(DisposedError);
  });
}
