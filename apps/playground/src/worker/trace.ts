import { principalComponents, type Trace, trace } from '@unroll/sampler';
import type { EngineState } from './engine.js';
import type { CallContext } from './host.js';
import { labelled } from './labels.js';
import { motionOf, relativeChange } from './motion.js';
import type { Methods, PathInfo, TraceArgs, TraceResult, TrajectoryResult } from './protocol.js';

const TOP = 5;

const record = (engine: EngineState, { tokens, recurrences, seed, initScale }: TraceArgs, top: number, signal: AbortSignal) =>
  engine.withRecovery(() =>
    trace({
      model: engine.loaded.model,
      prompt: tokens,
      recurrences,
      seed,
      initScale,
      record: 'state',
      top: Math.min(top, engine.loaded.model.vocabularySize),
      signal,
    }),
  );

/** Runs a text once and says of every recurrence and position how far the state moved and what it would say next. */
export async function runTrace(engine: EngineState, args: TraceArgs, { signal }: CallContext<'trace'>): Promise<TraceResult> {
  const started = performance.now();
  const { states, width, top } = await record(engine, args, TOP, signal);
  const positions = args.tokens.length;
  const { tokenizer } = engine.loaded.opened;
  return {
    recurrences: args.recurrences,
    positions,
    change: relativeChange(states, args.recurrences, positions, width),
    top: top.map((row) => row.map((list) => labelled(tokenizer, list))),
    milliseconds: performance.now() - started,
  };
}

/** The chosen positions of one trace: states (r + 1, P, C). */
function pick({ states, recurrences, width, tokens }: Trace, positions: readonly number[]): Float32Array {
  const T = tokens.length;
  const out = new Float32Array((recurrences + 1) * positions.length * width);
  for (let i = 0; i <= recurrences; i++) {
    positions.forEach((position, p) => {
      const from = (i * T + position) * width;
      out.set(states.subarray(from, from + width), (i * positions.length + p) * width);
    });
  }
  return out;
}

const endDistance = (ends: readonly Float32Array[]): number => {
  const size = ends.reduce((sum, end) => sum + Math.sqrt(end.reduce((s, x) => s + x * x, 0)), 0) / ends.length;
  let largest = 0;
  for (const [i, a] of ends.entries())
    for (const b of ends.slice(i + 1)) largest = Math.max(largest, Math.sqrt(a.reduce((s, x, c) => s + (x - b[c]!) ** 2, 0)));
  return largest / size;
};

/**
 * The paths of some positions from several initial states, projected on the two principal axes of all their states together, so that
 * distances between paths mean something.
 */
export async function runTrajectories(
  engine: EngineState,
  args: Methods['trajectories']['args'],
  { signal }: CallContext<'trajectories'>,
): Promise<TrajectoryResult> {
  const { positions, seeds, recurrences, tokens } = args;
  const P = positions.length;
  const S = seeds.length;
  const picked: Float32Array[] = [];
  let width = 0;
  for (const seed of seeds) {
    const one = await record(engine, { ...args, seed }, 0, signal);
    width = one.width;
    picked.push(pick(one, positions));
  }
  // One trace of S * P positions: principalComponents then sees all paths at once.
  const states = new Float32Array((recurrences + 1) * S * P * width);
  for (let i = 0; i <= recurrences; i++) {
    picked.forEach((one, s) => states.set(one.subarray(i * P * width, (i + 1) * P * width), (i * S + s) * P * width));
  }
  const { projections, variances } = principalComponents({ tokens, recurrences, width, states, top: [] }, 2);
  const mean = new Float64Array(width);
  const count = states.length / width;
  for (let n = 0; n < states.length; n++) mean[n % width]! += states[n]! / count;
  let total = 0;
  for (let n = 0; n < states.length; n++) total += (states[n]! - mean[n % width]!) ** 2 / count;
  const paths = seeds.flatMap((seed, s) =>
    positions.map((position, p): PathInfo => {
      const points = new Float32Array(2 * (recurrences + 1));
      for (let i = 0; i <= recurrences; i++) {
        const at = 2 * ((i * S + s) * P + p);
        points[2 * i] = projections[at]!;
        points[2 * i + 1] = projections[at + 1]!;
      }
      const change = relativeChange(picked[s]!, recurrences, P, width);
      const lastChange = change[(recurrences - 1) * P + p]!;
      return { position, seed, points, lastChange, kind: motionOf(points, lastChange) };
    }),
  );
  const last = (s: number, p: number) => picked[s]!.subarray((recurrences * P + p) * width, (recurrences * P + p + 1) * width);
  return {
    paths,
    explained: [variances[0]! / total, variances[1]! / total],
    spread: positions.map((position, p) => ({ position, value: S < 2 ? 0 : endDistance(seeds.map((_, s) => last(s, p))) })),
  };
}
