import type { KVCache } from '@unroll/nn';
import type { RecurrentModel } from '@unroll/recurrent';
import { generate } from '@unroll/sampler';
import type { Device, KernelTime } from '@unroll/tensor';

const PROMPT = 8;
const ROUNDS = 11;
const WARM_ROUNDS = 3;

const round = (value: number): number => Number(value.toPrecision(4));
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** Generates behind a prompt, whose pass and the first token's are not in `measure`; with a cache of its own, or with one that was used before. */
async function decode(
  model: RecurrentModel,
  depth: number,
  tokens: number,
  cache: KVCache | undefined,
  measure: (rest: () => Promise<void>) => Promise<void>,
) {
  const prompt = Array.from({ length: PROMPT }, (_, i) => i % model.vocabularySize);
  cache?.truncate(0);
  const options = { model, prompt, recurrences: depth, maxNewTokens: tokens + 1, stopTokens: [], initScale: 0, ...(cache && { cache }) };
  const steps = generate(options)[Symbol.asyncIterator]();
  await steps.next();
  await measure(async () => {
    while (!(await steps.next()).done);
  });
}

/**
 * A generated token on the CPU: its time without a profile, in a new cache for each generation and in one that is used again, as a session
 * does, and with that the share of the time that a profiled run spends inside kernels. The profile calls every kernel from JavaScript, which a
 * recorded program does not, so that the share is rather too small.
 */
export async function measureCpu(model: RecurrentModel, device: Device, depth: number, tokens: number) {
  const fresh: number[] = [];
  const used: number[] = [];
  const shares: { readonly took: number; readonly share: number }[] = [];
  const kernels = new Map<string, KernelTime[]>();
  const clock = async (rest: () => Promise<void>) => {
    const started = performance.now();
    await rest();
    return (performance.now() - started) * 1000;
  };
  const cache = model.createCache();
  for (let i = 0; i < WARM_ROUNDS + ROUNDS; i++) {
    const counts = i >= WARM_ROUNDS;
    for (const [times, of] of [
      [fresh, undefined],
      [used, cache],
    ] as const) {
      await decode(model, depth, tokens, of, async (rest) => {
        const took = await clock(rest);
        if (counts) times.push(took / tokens);
      });
    }
    await decode(model, depth, tokens, cache, async (rest) => {
      let took = 0;
      const times = await device.profile(async () => {
        took = await clock(rest);
      });
      if (!counts) return;
      shares.push({ took, share: times.reduce((sum, { microseconds }) => sum + microseconds, 0) / took });
      for (const time of times) kernels.set(time.kernel, [...(kernels.get(time.kernel) ?? []), time]);
    });
  }
  cache.dispose();
  const token = (times: readonly number[]) => ({
    microseconds: { median: round(median(times)), best: round(Math.min(...times)) },
    perSecond: { median: round(1e6 / median(times)), best: round(1e6 / Math.min(...times)) },
  });
  return {
    device: device.description,
    depth,
    tokens,
    rounds: ROUNDS,
    tokenInNewCache: token(fresh),
    tokenInUsedCache: token(used),
    shareInsideKernels: {
      median: round(median(shares.map(({ share }) => share))),
      // Of the round that took the least time, and so was disturbed least by other programs.
      ofBest: round(shares.reduce((best, other) => (other.took < best.took ? other : best)).share),
    },
    kernels: [...kernels]
      .map(([kernel, times]) => ({
        kernel,
        callsPerToken: round(times[0]!.dispatches / tokens),
        microsecondsPerToken: round(median(times.map((time) => time.microseconds / tokens))),
      }))
      .sort((a, b) => b.microsecondsPerToken - a.microsecondsPerToken),
  };
}
