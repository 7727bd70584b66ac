import { latentStates } from '@unroll/recurrent';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, expect, it } from 'vitest';
import { distanceToFinal, principalComponents, type Trace, trace, traceTensors } from '../src/index.js';
import { run, tinyModel, tokensOf } from './support.js';

const device = createCpuDevice();
const model = tinyModel(device, 41);
afterAll(() => device.dispose());

it('records the states of the model, and what each would say next', async () => {
  const idle = device.memory().buffers;
  const prompt = [3, 1, 4, 1, 5];
  const traced = await trace({ model, prompt, recurrences: 6, record: 'state', top: 3, seed: 2 });
  expect(device.memory().buffers).toBe(idle);
  expect(traced.states.length).toBe(7 * 5 * 32);
  let recurrence = 0;
  for await (const { state } of latentStates(model, [prompt], { recurrences: 6, initialState: { seed: 2 } })) {
    recurrence++;
    expect([...traced.states.subarray(recurrence * 160, (recurrence + 1) * 160)]).toEqual([...(await state.data())]);
  }
  expect(recurrence).toBe(6);
  for (const depth of [1, 4, 6]) {
    const next = await run({ model, prompt, recurrences: depth, maxNewTokens: 1, seed: 2, alternatives: 3 });
    expect(traced.top[depth - 1]![4]).toEqual(next[0]!.alternatives);
    expect(tokensOf(next)[0]).toBe(traced.top[depth - 1]![4]![0]!.token);
  }
  expect(traceTensors(traced).get('states')!.shape).toEqual([7, 5, 32]);
  const normed = await trace({ model, prompt, recurrences: 2 });
  const rms = Math.sqrt(normed.states.subarray(320, 352).reduce((sum, x) => sum + x * x, 0) / 32);
  expect(rms).toBeCloseTo(1, 4);
});

it('records the path under an intervention', async () => {
  const options = { model, prompt: [3, 1, 4], recurrences: 5, record: 'state' as const };
  const free = await trace(options);
  // From the third recurrence on back to where it started.
  const start = free.states.slice(0, 3 * 32);
  const hook = ({ recurrence }: { recurrence: number }) => (recurrence < 3 ? {} : { state: device.tensor(start, [1, 3, 32]) });
  const held = await trace({ ...options, hook });
  expect([...held.states.subarray(0, 3 * 96)]).toEqual([...free.states.subarray(0, 3 * 96)]);
  for (const recurrence of [3, 4, 5]) expect([...held.states.subarray(recurrence * 96, (recurrence + 1) * 96)]).toEqual([...start]);
  expect([...distanceToFinal(held).subarray(9)]).toEqual(new Array(9).fill(0));
});

it('distances to the final state end at 0', async () => {
  const traced = await trace({ model, prompt: [1, 2], recurrences: 4 });
  const distances = distanceToFinal(traced);
  expect([...distances.slice(8)]).toEqual([0, 0]);
  const expected = Math.hypot(...Array.from({ length: 32 }, (_, c) => traced.states[32 + c]! - traced.states[4 * 64 + 32 + c]!));
  expect(distances[1]).toBeCloseTo(expected, 5);
});

it('principal components find the axes of a cloud', () => {
  const N = 400;
  const axes = [
    [0.6, 0.8, 0],
    [-0.8, 0.6, 0],
    [0, 0, 1],
  ];
  const scales = [5, 2, 0.1];
  const wave = (n: number, i: number) => Math.sqrt(2) * Math.cos((2 * Math.PI * (i + 1) * n) / N);
  const states = Float32Array.from({ length: 3 * N }, (_, at) =>
    axes.reduce((sum, axis, i) => sum + axis[at % 3]! * scales[i]! * wave(Math.floor(at / 3), i), 7),
  );
  const cloud: Trace = { tokens: [0], recurrences: N - 1, width: 3, states, top: [] };
  const { components, variances, projections } = principalComponents(cloud, 2);
  for (const [i, component] of components.entries()) {
    expect(Math.abs(component.reduce((sum, x, c) => sum + x * axes[i]![c]!, 0))).toBeCloseTo(1, 5);
    expect(variances[i]).toBeCloseTo(scales[i]! ** 2, 3);
  }
  expect(Math.abs(projections[0]!)).toBeCloseTo(5 * Math.sqrt(2), 3);
  expect(() => principalComponents(cloud, 4)).toThrow(/k must be a whole number from 1 to 3/);
});
