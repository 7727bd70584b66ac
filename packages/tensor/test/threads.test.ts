import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { add, gatherRows, matmul, RangeOpError, tidy, UnrollError } from '@unroll/tensor';
import { type CpuDevice, createCpuDevice } from '@unroll/tensor/cpu';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { results, started } from './support/threads.js';

const until = async (holds: () => boolean) => {
  for (let i = 0; i < 2000 && !holds(); i++) await new Promise((resolve) => setTimeout(resolve, 5));
  return holds();
};

// Workers start as fast as a busy machine lets them.
describe('threads', { timeout: 60_000 }, () => {
  let one: CpuDevice;
  let two: CpuDevice;
  beforeAll(async () => {
    one = createCpuDevice({ threads: 1 });
    two = await started(2);
  });
  afterAll(() => {
    one.dispose();
    two.dispose();
  });

  it('give the same bits in any number', async () => {
    const expected = results(one);
    expect(results(two)).toEqual(expected);
    const five = await started(5);
    for (let i = 0; i < 5; i++) expect(results(five)).toEqual(expected);
    five.dispose();
  });

  it('say how many they are, and refuse impossible numbers', () => {
    expect(one.description).toMatch(/SIMD, 1 thread$/);
    expect(two.description).toMatch(/SIMD, 2 threads$/);
    for (const threads of [0, 65, 1.5]) expect(() => createCpuDevice({ threads })).toThrow('threads must be a whole number from 1 to 64');
  });

  it('share the calls of a program', () => {
    const x = two.tensor(new Float32Array(600 * 600).fill(0.5), [600, 600]);
    const program = two.record(() => matmul(add(x, x), x));
    program.replay(3);
    expect(new Set(two.readSync(program.outputs))).toEqual(new Set([300]));
    program.dispose();
    x.dispose();
  });

  it('sleep when nothing is to do, and wake again', async () => {
    // The word of kernels/jobs.ts that counts sleepers.
    const sleeping = () => new Int32Array(two.linear.memory.buffer, 80, 1)[0] === 1;
    expect(await until(sleeping)).toBe(true);
    expect(results(two)).toEqual(results(one));
    expect(await until(sleeping)).toBe(true);
  });

  it('work beside those of another device, also in the middle of a recording', async () => {
    const other = await started(3);
    const x = two.tensor(new Float32Array(600 * 600).fill(1), [600, 600]);
    const program = two.record(() => {
      const first = matmul(x, x);
      expect(results(other)).toEqual(results(one));
      return add(first, x);
    });
    program.replay();
    expect(two.readSync(program.outputs)[599]).toBe(601);
    program.dispose();
    other.dispose();
    x.dispose();
  });

  it('hand on the trap of a kernel, and go on', async () => {
    const device = two;
    const [K, N] = [512, 4096];
    // The last rows lie beyond the memory.
    const from = device.linear.reserved - 4 * K * (N - 64);
    const run = () => device.kernels.matvec(16384, from, 16384, K, N, 0, N);
    const seen = new Set<string>();
    for (let i = 0; i < 3000 && !seen.has('worker'); i++) {
      // Other programs may keep the worker from its processor.
      if (i % 20 === 19) await new Promise((resolve) => setTimeout(resolve, 1));
      try {
        run();
        seen.add('none');
      } catch (error) {
        seen.add(error instanceof UnrollError ? 'worker' : error instanceof WebAssembly.RuntimeError ? 'caller' : String(error));
      }
    }
    expect([...seen].filter((who) => who !== 'worker' && who !== 'caller')).toEqual([]);
    expect(seen).toContain('worker');
    expect(results(device)).toEqual(results(one));
  });

  it('end with their device, and take no memory along', async () => {
    const tasks = () => (existsSync('/proc/self/task') ? readdirSync('/proc/self/task').length : 0);
    const before = tasks();
    for (let i = 0; i < 8; i++) {
      const device = await started(3);
      tidy(device, () => matmul(device.zeros([256, 512]), device.zeros([512, 512])));
      device.dispose();
      expect(() => device.jobs).toThrow('the cpu device was used after its dispose()');
    }
    expect(await until(() => tasks() <= before)).toBe(true);
  });

  it('start from a script of their own as well', async () => {
    const source = readFileSync(new URL('../src/worker.ts', import.meta.url), 'utf8');
    const script = ts.transpile(source, { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext });
    const device = await started(2, { workerUrl: new URL(`data:text/javascript,${encodeURIComponent(script)}`) });
    expect(results(device)).toEqual(results(one));
    device.dispose();
  });

  it('say when a worker could not start, and do the work without it', async () => {
    const device = createCpuDevice({ threads: 2, workerUrl: new URL('file:///nowhere/worker.js') });
    const x = device.zeros([512, 512]);
    matmul(x, x);
    expect(await until(() => device.description.includes('did not start'))).toBe(true);
    expect(results(device)).toEqual(results(one));
    device.dispose();
  });

  it('report bad values as one thread does', () => {
    expect(() => gatherRows(two.zeros([3, 2]), two.tensor([5], [1], { dtype: 'i32' }))).toThrow(RangeOpError);
  });
});
