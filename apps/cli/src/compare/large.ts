import { initParams, type RecurrentConfig, RecurrentModel } from '@unroll/recurrent';
import { generate, type RunReport } from '@unroll/sampler';
import type { Device } from '@unroll/tensor';
import type { Io } from '../io.js';
import { measureRows, predictedTotal, type RowCost } from './rows.js';
import { plainName, type Strategy } from './strategies.js';

/** ~100 M parameters in 12 layers, as few of them in the vocabulary as the layers leave. */
export const LARGE_CONFIG: RecurrentConfig = {
  vocabularySize: 8192,
  contextLength: 256,
  width: 768,
  heads: 12,
  kvHeads: 12,
  mlpWidth: 2560,
  preludeLayers: 2,
  coreLayers: 8,
  codaLayers: 2,
  meanRecurrence: 8,
  meanBackpropDepth: 8,
  normEps: 1e-6,
  ropeBase: 10_000,
  tiedHead: true,
  qkBias: true,
};

/** The large model with random weights: what it says means nothing, what it costs does. */
export function largeModel(device: Device): RecurrentModel {
  return new RecurrentModel(device, LARGE_CONFIG, initParams(device, LARGE_CONFIG, { seed: 1 }));
}

/** What a strategy should gain on the large model by its own counts and the costs of passes, and what it gains. */
export interface LargeRun {
  readonly name: string;
  /** Milliseconds a token, prefill included. */
  readonly msPerToken: number;
  readonly predictedSpeedUp: number;
  readonly speedUp: number;
}

export interface Large {
  readonly costs: readonly RowCost[];
  readonly runs: readonly LargeRun[];
}

const PROMPT = [1, 2, 3, 4, 5, 6, 7, 8];
const NEW_TOKENS = 20;
const ROW_REPEATS = 3;
const RUN_REPEATS = 2;

/** Random weights agree on no token: every draft is let pass, and windows freeze by the count of their rounds. */
function largeStrategies(depth: number): readonly Strategy[] {
  const base = { recurrences: depth, stopTokens: [] };
  const drafts = (d: number): Strategy => ({
    name: `speculative ${d},4, every draft accepted`,
    kind: 'speculative',
    options: { ...base, speculative: { draftRecurrences: d, lookahead: 4, threshold: 0 } },
  });
  const window = (inner: number): Strategy => ({
    name: `wavefront ${inner}, frozen by count`,
    kind: 'wavefront',
    options: { ...base, wavefront: { innerRecurrences: inner, freeze: 'fixed', stateNoise: 0 } },
  });
  return [{ name: plainName(depth), kind: 'plain', options: base }, drafts(1), drafts(2), window(2), window(4)];
}

/** The cost of passes on a random model, and whole runs on it beside what follows from that cost. */
export async function measureLarge(model: RecurrentModel, io: Io, onProgress: (fraction: number) => void): Promise<Large> {
  const costs = await measureRows(model, ROW_REPEATS, io, (fraction) => onProgress(fraction / 2));
  const strategies = largeStrategies(model.meanRecurrence);
  const done = strategies.map((strategy) => ({ strategy, ms: Number.POSITIVE_INFINITY, report: undefined as RunReport | undefined }));
  for (let turn = 0; turn < RUN_REPEATS; turn++) {
    for (const [i, one] of done.entries()) {
      const started = performance.now();
      for await (const { report } of generate({ ...one.strategy.options, model, prompt: PROMPT, maxNewTokens: NEW_TOKENS }))
        one.report = report ?? one.report;
      one.ms = Math.min(one.ms, performance.now() - started);
      await io.breathe();
      onProgress((1 + (turn * done.length + i + 1) / (RUN_REPEATS * done.length)) / 2);
    }
  }
  const perToken = done.map(({ strategy, ms, report }) => {
    const { newTokens } = report!;
    return { name: strategy.name, real: ms / newTokens, predicted: predictedTotal([report!], strategy, costs)! / newTokens };
  });
  const [plain] = perToken;
  return {
    costs,
    runs: perToken.map(({ name, real, predicted }) => ({
      name,
      msPerToken: real,
      predictedSpeedUp: plain!.predicted / predicted,
      speedUp: plain!.real / real,
    })),
  };
}
