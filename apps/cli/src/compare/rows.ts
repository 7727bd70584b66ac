import { forward, type RecurrentModel } from '@unroll/recurrent';
import type { RunReport } from '@unroll/sampler';
import { tidy } from '@unroll/tensor';
import type { Io } from '../io.js';
import type { Strategy } from './strategies.js';

/** Cost of a pass over L rows behind a context, in milliseconds. */
export interface RowCost {
  readonly rows: number;
  /** Of one recurrence. */
  readonly coreMs: number;
  /** Of prelude, coda and head together. */
  readonly outerMs: number;
}

const MOST_ROWS = 16;

/** Recurrences of a measured pass: so many that one of them can be told from the rest. */
const DEPTH = 4;

/**
 * Measures passes over 1 to 16 rows behind a context of as many tokens as fit, up to 32: each number of rows without recurrences, and with
 * some, whose difference is the loop's. The fastest of `repeats` rounds, in turns, so that a busy moment of the machine does not fall on
 * one number of rows alone. Programs are recorded and memory is there: what is measured is the cost of a pass like one before.
 */
export async function measureRows(
  model: RecurrentModel,
  repeats: number,
  io: Io,
  onProgress: (fraction: number) => void = () => undefined,
): Promise<RowCost[]> {
  const cache = model.createCache();
  const most = Math.min(MOST_ROWS, model.contextLength - 1);
  const context = Math.min(32, model.contextLength - most);
  const tokens = (count: number) => Array.from({ length: count }, (_, i) => i % model.vocabularySize);
  const time = async (rows: number, depth: number): Promise<number> => {
    const input = model.device.tensor(tokens(rows), [1, rows], { dtype: 'i32' });
    const started = performance.now();
    const pass = cache.begin(Int32Array.from({ length: rows }, (_, i) => context + i));
    const logits = tidy(model.device, () => {
      const e = model.prelude(input, pass);
      const start = model.initialState(pass);
      return model.readout(depth === 0 ? start : model.steps(e, start, { from: 0, to: depth }, pass), pass);
    });
    await logits.data();
    const ms = performance.now() - started;
    for (const owner of [input, pass, logits]) owner.dispose();
    cache.truncate(context);
    return ms;
  };
  try {
    forward(model, [tokens(context)], { cache, recurrences: DEPTH }).dispose();
    const best = Array.from({ length: most }, () => ({ outer: Number.POSITIVE_INFINITY, whole: Number.POSITIVE_INFINITY }));
    for (let round = 0; round < repeats; round++) {
      for (let rows = 1; rows <= most; rows++) {
        const one = best[rows - 1]!;
        // The first two record what is not recorded yet.
        for (let i = 0; i < 2; i++) await time(rows, DEPTH);
        one.outer = Math.min(one.outer, await time(rows, 0));
        one.whole = Math.min(one.whole, await time(rows, DEPTH));
        await io.breathe();
        onProgress((round * most + rows) / (repeats * most));
      }
    }
    return best.map(({ outer, whole }, i) => ({ rows: i + 1, coreMs: Math.max(0, whole - outer) / DEPTH, outerMs: outer }));
  } finally {
    cache.dispose();
  }
}

/** Cost at a number of rows that need not be whole; beyond the measured ones, along the last two. */
function costAt(costs: readonly RowCost[], rows: number): { readonly core: number; readonly outer: number } {
  const low = Math.min(Math.max(1, Math.floor(rows)), costs.length - 1);
  const [a, b] = [costs[low - 1]!, costs[low]!];
  const part = rows - low;
  return { core: a.coreMs + part * (b.coreMs - a.coreMs), outer: a.outerMs + part * (b.outerMs - a.outerMs) };
}

/** Milliseconds that a run should take by its counts alone: plain at one depth, speculative, or wavefront; null for others. */
function predictedMs(report: RunReport, { options }: Strategy, costs: readonly RowCost[]): number | null {
  const { recurrences: r, speculative, wavefront, exit } = options;
  if (typeof r !== 'number' || exit !== undefined) return null;
  const { promptTokens: P, newTokens } = report;
  const pass = (rows: number, depth: number) => {
    const { core, outer } = costAt(costs, rows);
    return depth * core + outer;
  };
  const prefill = pass(P, r);
  if (speculative !== undefined) {
    const { rounds, drafted } = report.speculation!;
    if (rounds === 0) return prefill;
    const reused = speculative.reuseDrafts === true;
    // No free token, and no row for it, behind drafts that are gone on from or that a threshold judges.
    const free = !reused && speculative.threshold === undefined;
    const verify = pass(drafted / rounds + (free ? 1 : 0), r - (reused ? speculative.draftRecurrences : 0));
    return prefill + drafted * pass(1, speculative.draftRecurrences) + rounds * verify;
  }
  if (wavefront !== undefined) {
    const { rounds } = report.wavefront!;
    if (rounds === 0) return prefill;
    const inner = wavefront.innerRecurrences!;
    return prefill + rounds * pass((report.corePositions - r * P) / (rounds * inner), inner);
  }
  return prefill + (newTokens - 1) * pass(1, r);
}

/** The same over several runs. */
export function predictedTotal(reports: readonly RunReport[], strategy: Strategy, costs: readonly RowCost[]): number | null {
  let total = 0;
  for (const report of reports) {
    const ms = predictedMs(report, strategy, costs);
    if (ms === null) return null;
    total += ms;
  }
  return total;
}
