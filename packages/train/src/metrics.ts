import { ignoreTarget, layoutOf, type RecurrentModel, type TrainingBatch, trainingLoss } from '@unroll/recurrent';
import { type Tensor, tidy } from '@unroll/tensor';
import type { PackedProblems } from './batch.js';

/** How the states of a batch's tokens look after r recurrences. */
export interface StateMetrics {
  /** Mean cosine between the centred states of different tokens; towards 1 the states collapse into one. */
  readonly correlation: number;
  /** Mean of |s_r - s_{r-1}| / |s_r|. */
  readonly change: number;
  /** Mean of |s_r|. */
  readonly norm: number;
}

/** Metrics of states (tokens, C), row by row, with those one recurrence before. */
export function stateMetrics(states: Float32Array, before: Float32Array, width: number): StateMetrics {
  const count = states.length / width;
  const rows = Array.from({ length: count }, (_, i) => states.subarray(i * width, (i + 1) * width));
  let change = 0;
  let norm = 0;
  const direction = new Float64Array(width);
  rows.forEach((row, r) => {
    let size = 0;
    let moved = 0;
    let centred = 0;
    const mean = row.reduce((sum, x) => sum + x, 0) / width;
    for (let c = 0; c < width; c++) {
      size += row[c]! ** 2;
      moved += (row[c]! - before[r * width + c]!) ** 2;
      centred += (row[c]! - mean) ** 2;
    }
    norm += Math.sqrt(size);
    change += Math.sqrt(moved / size);
    for (let c = 0; c < width; c++) direction[c] = direction[c]! + (row[c]! - mean) / Math.sqrt(centred);
  });
  // |sum of unit vectors|^2 is the sum over all pairs, each with itself included.
  const pairs = direction.reduce((sum, x) => sum + x * x, 0) - count;
  return { correlation: count > 1 ? pairs / (count * (count - 1)) : 1, change: change / count, norm: norm / count };
}

export interface DepthLoss {
  readonly depth: number;
  readonly loss: number;
}

/** Loss of a batch at each depth, from the zero state. `breathe` is awaited between depths. */
export async function lossByDepth(
  model: RecurrentModel,
  batch: TrainingBatch,
  depths: readonly number[],
  breathe: () => Promise<void> = async () => {},
): Promise<DepthLoss[]> {
  const losses: DepthLoss[] = [];
  for (const depth of depths) {
    const tensor = trainingLoss(model, batch, { n: depth, k: 0, initialState: { scale: 0 } });
    losses.push({ depth, loss: (await tensor.data())[0]! });
    tensor.dispose();
    await breathe();
  }
  return losses;
}

/** `stateMetrics` of a batch's tokens, padding left out, after `depth` recurrences from the zero state. */
export async function measureStates(model: RecurrentModel, batch: TrainingBatch, depth: number): Promise<StateMetrics> {
  const { device } = model;
  const { open, shape, positions } = layoutOf(model, batch);
  const pass = open();
  let states: readonly Tensor[] = [];
  try {
    states = tidy(device, () => {
      const e = model.prelude(device.tensor(batch.tokens, shape, { dtype: 'i32' }), pass);
      let [here, previous]: Tensor[] = [model.initialState(pass, { scale: 0 })];
      for (let loop = 0; loop < depth; loop++) [here, previous] = [model.step(e, here!, loop, pass), here];
      return [here!, previous!];
    });
    const C = model.config.width;
    const kept = async (tensor: Tensor) => {
      const values = (await tensor.data()) as Float32Array;
      return Float32Array.from([...positions].flatMap((position, i) => (position < 0 ? [] : [...values.subarray(i * C, (i + 1) * C)])));
    };
    return stateMetrics(await kept(states[0]!), await kept(states[1]!), C);
  } finally {
    for (const state of states) state.dispose();
    pass.dispose();
  }
}

/**
 * Which problems are answered right, to the last character and the end, at each depth (ascending) from the zero state: `[depth][problem]`.
 * Greedy decoding writes an answer just when each of its tokens is the likeliest behind the right ones before it, so one pass tells.
 */
export async function solvedByDepth(
  model: RecurrentModel,
  { data, answers }: PackedProblems,
  depths: readonly number[],
  breathe: () => Promise<void> = async () => {},
): Promise<boolean[][]> {
  const { device } = model;
  const { open, shape } = layoutOf(model, data);
  const V = model.vocabularySize;
  const pass = open();
  const owned: Tensor[] = [];
  const solved: boolean[][] = [];
  try {
    const [e, start] = tidy(device, () => [
      model.prelude(device.tensor(data.tokens, shape, { dtype: 'i32' }), pass),
      model.initialState(pass, { scale: 0 }),
    ]);
    owned.push(e!, start!);
    for (let loop = 0; loop < depths[depths.length - 1]!; loop++) {
      const next = model.step(e!, owned[1]!, loop, pass);
      owned[1]!.dispose();
      owned[1] = next;
      if (!depths.includes(loop + 1)) continue;
      const tensor = model.readout(next, pass);
      const logits = await tensor.data();
      tensor.dispose();
      const right = data.targets.map((target, i) => {
        if (target === ignoreTarget) return 1;
        const row = logits.subarray(i * V, (i + 1) * V);
        return Number(row.every((logit, token) => token === target || logit < row[target]!));
      });
      solved.push(answers.map((places) => places.every((at) => right[at] === 1)));
      await breathe();
    }
  } finally {
    for (const tensor of owned) tensor.dispose();
    pass.dispose();
  }
  return solved;
}
