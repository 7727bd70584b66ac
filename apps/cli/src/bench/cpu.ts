import type { RecurrentModel } from '@unroll/recurrent';
import { generate } from '@unroll/sampler';
import type { Device, KernelTime } from '@unroll/tensor';

const PROMPT = 8;
const ROUNDS = 11;
const WARM_ROUNDS = 3;

const round = (value: number): number => Number(value.toPrecision(4));
const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

/** Generates behind a prompt, whose pass and the first token's are not in `measure`. */
async function decode(model: RecurrentModel, depth: number, tokens: number, measure: (rest: () => Promise<void>) => Promise<void>) {
  const prompt = Array.from({ length: PROMPT }, (_, i) => i % model.vocabularySize);
  const options = { model, prompt, recurrences: depth, maxNewTokens: tokens + 1, stopTokens: [], initScale: 0 };
  const steps = generate(options)[Symbol.asyncIterator]();
  await steps.next();
  await measure(async () => {
    while (!(await steps.next()).done);
  });
}

/**
 * A generated token on the CPU: its time without a profile, and the share of the time that a profiled run spends inside kernels. The profile
 * calls every kernel from JavaScript, which a recorded program does not, so that the share is rather too small.
 */
export async function measureCpu(model: RecurrentModel, device: Device, depth: number, tokens: number) {
  const free: number[] = [];
  const shares: number[] = [];
  const kernels = new Map<string, KernelTime[]>();
  const clock = async (rest: () => Promise<void>) => {
    const started = performance.now();
    await rest();
    return (performance.now() - started) * 1000;
  };
  for (let i = 0; i < WARM_ROUNDS + ROUNDS; i++) {
    await decode(model, depth, tokens, async (rest) => {
      const took = await clock(rest);
      if (i >= WARM_ROUNDS) free.push(took / tokens);
    });
    await decode(model, depth, tokens, async (rest) => {
      let took = 0;
      const times = await device.profile(async () => {
        took = await clock(rest);
      });
      if (i < WARM_ROUNDS) return;
      shares.push(times.reduce((sum, { microseconds }) => sum + microseconds, 0) / took);
      for (const time of times) kernels.set(time.kernel, [...(kernels.get(time.kernel) ?? []), time]);
    });
  }
  const microseconds = median(free);
  return {
    device: device.description,
    depth,
    tokens,
    rounds: ROUNDS,
    microsecondsPerToken: { median: round(microseconds), best: round(Math.min(...free)) },
    tokensPerSecond: { median: round(1e6 / microseconds), best: round(1e6 / Math.min(...free)) },
    shareInsideKernels: { median: round(median(shares)), least: round(Math.min(...shares)), most: round(Math.max(...shares)) },
    kernels: [...kernels]
      .map(([kernel, times]) => ({
        kernel,
        callsPerToken: round(times[0]!.dispatches / tokens),
        microsecondsPerToken: round(median(times.map((time) => time.microseconds / tokens))),
      }))
      .sort((a, b) => b.microsecondsPerToken - a.microsecondsPerToken),
  };
}
