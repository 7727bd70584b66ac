import { type Device, matmul, OptionError, refuseUnknownOptions, weightParts } from '@unroll/tensor';
import type { EstimateRates } from './estimate.js';
import { forward } from './forward.js';
import type { WeightDType } from './load-weight.js';
import type { RecurrentModel } from './model.js';

const PROMPT = 8;
// Beyond this a measurement on a slow device would be felt; one token is always finished.
const BUDGET_MS = 1500;
const TOKENS = 3;

/**
 * Milliseconds of a generated token at the model's usual depth on its device, the fastest of a few; compiling is left out by a first token.
 * It takes about a second and a half at most where a token does not take longer, and leaves nothing behind.
 */
export async function measureToken(model: RecurrentModel): Promise<number> {
  const length = Math.min(PROMPT, Math.max(1, model.contextLength - TOKENS - 1));
  const cache = model.createCache();
  const run = async (tokens: number[]): Promise<void> => {
    const logits = forward(model, [tokens], { cache });
    try {
      await logits.data();
    } finally {
      logits.dispose();
    }
  };
  try {
    const began = performance.now();
    await run(Array.from({ length }, (_, i) => i % model.vocabularySize));
    let best = Number.POSITIVE_INFINITY;
    for (let i = 0; i <= TOKENS && cache.length() < model.contextLength; i++) {
      const started = performance.now();
      await run([0]);
      // The first token compiles what a prompt does not use.
      if (i > 0 || performance.now() - began > BUDGET_MS) best = Math.min(best, performance.now() - started);
      if (performance.now() - began > BUDGET_MS) break;
    }
    return best;
  } finally {
    cache.dispose();
  }
}

// Far beyond every cache, and little beside a model that this is asked about.
const MATRIX_BYTES = 192e6;

export interface MeasureRatesOptions {
  /** Columns of the matrices, a multiple of 32: best the width of the model; 4096 when absent. */
  readonly columns?: number;
  /** Milliseconds for each of the two rates; 1000 when absent. */
  readonly ms?: number;
}

/**
 * What products of one row with a large matrix reach on a device, the fastest of those that fit in the time: weights a second in `dtype`,
 * and bytes a second in f32, where a product does little but read. Leaves nothing behind. Throws OptionError, OutOfMemoryError.
 */
export async function measureRates(
  device: Device,
  dtype: WeightDType,
  options: MeasureRatesOptions = {},
): Promise<Required<EstimateRates>> {
  refuseUnknownOptions('measureRates', options, ['columns', 'ms']);
  const { columns: K = 4096, ms = 1000 } = options;
  if (!(Number.isInteger(K) && K > 0 && K % 32 === 0)) throw new OptionError(`measureRates: columns must be a multiple of 32; got ${K}`);
  const weightsPerSecond = await rateOf(device, dtype, K, ms);
  const bytesPerSecond = 4 * (dtype === 'f32' ? weightsPerSecond : await rateOf(device, 'f32', K, ms));
  return { weightsPerSecond, bytesPerSecond };
}

/** Weights a second. */
async function rateOf(device: Device, dtype: WeightDType, K: number, ms: number): Promise<number> {
  // Blocks of 8 rows have the same bytes for each row in every format.
  const last = dtype === 'f32' ? undefined : weightParts(dtype, [1024, K]).at(-1)!;
  const rowBytes = last === undefined ? 4 * K : (last.offset + last.bytes) / 1024;
  const N = 8 * Math.max(1, Math.round(MATRIX_BYTES / rowBytes / 8));
  const matrix = device.zeros([N, K], { dtype, memory: 'weights' });
  const x = device.zeros([1, K]);
  const once = async () => {
    const y = matmul(x, matrix, { transposeB: true });
    try {
      await y.data();
    } finally {
      y.dispose();
    }
  };
  try {
    await once();
    let best = Number.POSITIVE_INFINITY;
    const until = performance.now() + ms;
    do {
      const began = performance.now();
      await once();
      best = Math.min(best, performance.now() - began);
    } while (performance.now() < until);
    return (N * K * 1000) / best;
  } finally {
    x.dispose();
    matrix.dispose();
  }
}
