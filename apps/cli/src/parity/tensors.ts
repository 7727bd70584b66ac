import { beginPass, checkRecurrences, type RecurrentModel } from '@unroll/recurrent';
import { crossEntropy, disposeTree, type Tensor, tidy } from '@unroll/tensor';
import { type Breather, type Check, compare, EXACT, FORWARD_TOLERANCE, LOSS_TOLERANCE } from './check.js';
import type { Fixture } from './fixture.js';
import { gradientsOf, relativeDistance } from './gradients.js';

/** A tensor that was computed, under the name of the expected one. */
export interface ActualTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array | Int32Array;
}

/** A mean loss that was computed, with its comparison: not a check of its own, since it follows from the logits. */
export interface Loss {
  /** Path in `meta`: `loss.4`, `grad_loss_n0_k3`. */
  readonly path: string;
  readonly value: number;
  readonly status: 'pass' | 'fail';
  readonly maxError: number | null;
}

export interface TensorResults {
  readonly checks: readonly Check[];
  readonly actual: readonly ActualTensor[];
  readonly losses: readonly Loss[];
}

type Readout = { readonly from: 'logits' | 'latents'; readonly zero: boolean; readonly depth: number };

const READOUT = /^(logits|latents)(_zero)?_r(\d+)$/;
const GRADIENT = /^grad_n(\d+)_k(\d+)\//;
const GRADIENT_LOSS = /^grad_loss_n(\d+)_k(\d+)$/;

function readoutOf(name: string): Readout | undefined {
  const match = READOUT.exec(name);
  return match === null ? undefined : { from: match[1] as Readout['from'], zero: match[2] !== undefined, depth: Number(match[3]) };
}

/** Losses of `meta` by path, each with the depth whose logits it is computed from. */
function lossesOf(meta: Fixture['meta']): { path: string; depth: number; expected: number }[] {
  const plain = Object.entries((meta.loss ?? {}) as Record<string, unknown>).map(([depth, expected]) => ({
    path: `loss.${depth}`,
    depth: Number(depth),
    expected,
  }));
  const gradient = Object.entries(meta).flatMap(([path, expected]) => {
    const match = GRADIENT_LOSS.exec(path);
    return match === null ? [] : [{ path, depth: Number(match[1]) + Number(match[2]), expected }];
  });
  return [...plain, ...gradient].filter(
    (loss): loss is { path: string; depth: number; expected: number } => typeof loss.expected === 'number',
  );
}

/** Mean next-token cross-entropy of logits (B, T, V); the last position has no label. */
async function meanLoss(logits: Tensor, rows: readonly (readonly number[])[]): Promise<number> {
  const { device } = logits;
  const ignoreIndex = -1;
  const targets = rows.flatMap((row) => [...row.slice(1), ignoreIndex]);
  const each = tidy(device, () =>
    crossEntropy(logits, device.tensor(targets, logits.shape.slice(0, -1), { dtype: 'i32' }), { ignoreIndex }),
  );
  const values = await each.data();
  each.dispose();
  return values.reduce((sum, value) => sum + value, 0) / (targets.length - rows.length);
}

/**
 * Runs the rows once and calls `visit` with s_r (B, T, C) and a way to read its logits out for every wanted r, in order; r = 0 is the
 * initial state, zeros when it is not given.
 */
async function forEachState(
  model: RecurrentModel,
  rows: readonly (readonly number[])[],
  initial: Tensor | undefined,
  wanted: ReadonlySet<number>,
  io: Breather,
  visit: (depth: number, state: Tensor, readout: () => Tensor) => Promise<void>,
): Promise<void> {
  const deepest = Math.max(0, ...wanted);
  if (deepest > 0) checkRecurrences('parity', deepest);
  const { pass, input } = beginPass(model, rows, {});
  let e: Tensor | undefined;
  let state: Tensor | undefined;
  try {
    e = model.prelude(input, pass);
    state = initial ?? model.initialState(pass, { scale: 0 });
    for (let depth = 0; depth <= deepest; depth++) {
      if (depth > 0) {
        const next: Tensor = model.step(e, state, depth - 1, pass);
        if (state !== initial) state.dispose();
        state = next;
        await io.breathe();
      }
      const here = state;
      if (wanted.has(depth)) await visit(depth, here, () => model.readout(here, pass));
    }
  } finally {
    if (state !== initial) state?.dispose();
    e?.dispose();
    input.dispose();
    pass.dispose();
  }
}

async function take(tensor: Tensor): Promise<Float32Array> {
  const values = await tensor.data();
  tensor.dispose();
  return values as Float32Array;
}

/** Computes and compares every tensor of `expected.safetensors`, one check each, and the losses of `meta`. */
export async function compareTensors(
  model: RecurrentModel,
  fixture: Fixture,
  io: Breather,
  onCheck: (check: Check) => void,
): Promise<TensorResults> {
  const { device } = model;
  const forward = FORWARD_TOLERANCE[device.kind]!;
  const checks: Check[] = [];
  const actual: ActualTensor[] = [];
  const losses: Loss[] = [];
  const names = fixture.tensors === undefined ? [] : [...fixture.tensors.names];
  if (names.length === 0) return { checks, actual, losses };
  let mark = performance.now();
  const finish = (check: Omit<Check, 'ms'>): void => {
    const now = performance.now();
    const timed = { ...check, ms: now - mark };
    checks.push(timed);
    onCheck(timed);
    mark = performance.now();
  };
  const accept = async (name: string, kind: string, shape: readonly number[], values: Float32Array, tolerance = forward): Promise<void> => {
    const expected = await fixture.floats(name);
    actual.push({ name, shape, values });
    if (expected.shape.join() !== shape.join()) {
      finish({ name, kind, status: 'fail', maxError: null, reason: `the shape is [${shape}]; expected [${expected.shape}]` });
    } else finish({ name, kind, ...compare(values, expected.values, tolerance) });
  };

  const rows = await fixture.inputRows();
  const given = names.includes('initial_state') ? await fixture.floats('initial_state') : undefined;
  const state0 = given === undefined ? undefined : device.tensor(given.values, given.shape);
  try {
    for (const name of names) {
      if (name === 'input_ids') {
        // An input: what must hold is that it reaches the device and comes back as it is.
        const values = await take(device.tensor(rows.flat(), [rows.length, rows[0]!.length], { dtype: 'i32' }) as Tensor);
        actual.push({ name, shape: [rows.length, rows[0]!.length], values: Int32Array.from(values) });
        finish({ name, kind: 'input', exact: true, ...compare(values, rows.flat(), EXACT) });
      } else if (name === 'initial_state') await accept(name, 'input', state0!.shape, (await state0!.data()) as Float32Array, EXACT);
      else if (name === 'prelude_output') {
        const { pass, input } = beginPass(model, rows, {});
        const e = model.prelude(input, pass);
        input.dispose();
        pass.dispose();
        await accept(name, 'prelude', [...e.shape], await take(e));
      } else if (name === 'trajectory') await trajectory(model, rows, state0, fixture, io, accept);
      else if (readoutOf(name) !== undefined || GRADIENT.test(name)) continue;
      else {
        finish({ name, kind: 'unknown', status: 'unsupported', maxError: null, reason: 'not a tensor name of the fixture format' });
      }
    }
    await gradients(model, rows, state0, names, fixture, io, finish, actual);
    const expectedLosses = lossesOf(fixture.meta);
    for (const zero of [false, true]) {
      const asked = names.flatMap((name) => {
        const readout = readoutOf(name);
        return readout === undefined || readout.zero !== zero ? [] : [{ name, ...readout }];
      });
      const wanted = new Set([...asked, ...(zero ? [] : expectedLosses)].map(({ depth }) => depth));
      if (wanted.size === 0) continue;
      if (!zero && state0 === undefined) await fixture.floats('initial_state');
      mark = performance.now();
      await forEachState(model, rows, zero ? undefined : state0, wanted, io, async (depth, state, readout) => {
        const here = asked.filter((one) => one.depth === depth);
        for (const { name } of here.filter(({ from }) => from === 'latents')) {
          await accept(name, 'latents', [...state.shape], await take(model.normState(state)));
        }
        const heads = here.filter(({ from }) => from === 'logits');
        const lossHere = zero ? [] : expectedLosses.filter((loss) => loss.depth === depth);
        if (heads.length === 0 && lossHere.length === 0) return;
        const logits = readout();
        try {
          for (const { name } of heads) await accept(name, 'logits', [...logits.shape], (await logits.data()) as Float32Array);
          for (const { path, expected } of lossHere) {
            const value = await meanLoss(logits, rows);
            const { status, maxError } = compare([value], [expected], LOSS_TOLERANCE[device.kind]!);
            losses.push({ path, value, status, maxError });
          }
          mark = performance.now();
        } finally {
          logits.dispose();
        }
      });
    }
    return { checks, actual, losses };
  } finally {
    state0?.dispose();
  }
}

/** The tensors `grad_n.._k../NAME`: one gradient run for each n and k. */
async function gradients(
  model: RecurrentModel,
  rows: readonly (readonly number[])[],
  state0: Tensor | undefined,
  names: readonly string[],
  fixture: Fixture,
  io: Breather,
  finish: (check: Omit<Check, 'ms'>) => void,
  actual: ActualTensor[],
): Promise<void> {
  const runs = new Map<string, string[]>();
  for (const name of names) {
    const prefix = GRADIENT.exec(name)?.[0];
    if (prefix !== undefined) runs.set(prefix, [...(runs.get(prefix) ?? []), name]);
  }
  const kind = 'gradient';
  const limit = LOSS_TOLERANCE[model.device.kind]!.relative;
  for (const [prefix, asked] of runs) {
    if (state0 === undefined) await fixture.floats('initial_state');
    const [, n, k] = GRADIENT.exec(prefix)!;
    const found = gradientsOf(model, rows, state0!, { n: Number(n), k: Number(k) });
    await io.breathe();
    for (const name of asked) {
      const grad = found.get(name.slice(prefix.length));
      if (grad === undefined) {
        finish({ name, kind, status: 'fail', maxError: null, reason: 'the model has no parameter of this name' });
        continue;
      }
      const values = (await grad.data()) as Float32Array;
      const expected = await fixture.floats(name);
      actual.push({ name, shape: grad.shape, values });
      const { maxError } = compare(values, expected.values, { absolute: Number.POSITIVE_INFINITY, relative: 0 });
      const distance = relativeDistance(values, expected.values);
      if (values.length !== expected.values.length || !(distance <= limit)) {
        finish({
          name,
          kind,
          status: 'fail',
          maxError,
          reason: `the relative distance (L2) is ${distance.toExponential(2)}; at most ${limit} is allowed`,
        });
      } else finish({ name, kind, status: 'pass', maxError });
    }
    disposeTree(found);
  }
}

/** s_0, s_1, ... before ln_f of row 0 of the batch, as many as the expected tensor has: (N, T, C). */
async function trajectory(
  model: RecurrentModel,
  rows: readonly (readonly number[])[],
  state0: Tensor | undefined,
  fixture: Fixture,
  io: Breather,
  accept: (name: string, kind: string, shape: readonly number[], values: Float32Array) => Promise<void>,
): Promise<void> {
  const name = 'trajectory';
  const { shape } = await fixture.floats(name);
  const all = state0 === undefined ? (await fixture.floats('initial_state')).values : ((await state0.data()) as Float32Array);
  const [T, C] = [rows[0]!.length, model.config.width];
  const states = shape[0] ?? 0;
  const wanted = new Set(Array.from({ length: states }, (_, i) => i));
  const values = new Float32Array(states * T * C);
  const first = model.device.tensor(all.slice(0, T * C), [1, T, C]);
  try {
    if (states > 0)
      await forEachState(model, rows.slice(0, 1), first, wanted, io, async (depth, state) =>
        values.set((await state.data()) as Float32Array, depth * T * C),
      );
  } finally {
    first.dispose();
  }
  await accept(name, 'trajectory', [states, T, C], values);
}
