import { forward, type RecurrentModel } from '@unroll/recurrent';
import { generate } from '@unroll/sampler';
import { affine, type KernelTime, tidy } from '@unroll/tensor';
import type { WebGPUDevice } from '@unroll/tensor/webgpu';
import { type Flags, readDepth, readText, readWhole } from '../args.js';
import { measureBareCalls } from '../bench/bare-calls.js';
import { measureCpu } from '../bench/cpu.js';
import type { Command } from '../command.js';
import { EXIT, UsageError } from '../errors.js';
import { modelArgs } from '../flags.js';
import { partSizes } from '../inspect/cost.js';
import type { Io } from '../io.js';
import { type LoadedModel, loadModel, modelChoice } from '../model/load.js';

const DEFAULT_TOKENS = 16;
const PROMPT = 8;
const REPLAYS = 32;
const ROUNDS = 5;
const HOST_ROUNDS = 20;

export const command: Command = {
  name: 'bench',
  description: 'what a generated token costs: on WebGPU dispatches, submits, host and GPU time, on the CPU time by kernel; as JSON',
  args: {
    ...modelArgs,
    device: { type: 'string', valueHint: 'NAME', description: 'webgpu (default) or cpu' },
    depth: { type: 'string', valueHint: 'R', short: 'd', description: "recurrences per token (default: the model's mean)" },
    'max-new-tokens': { type: 'string', valueHint: 'N', short: 'n', description: `tokens to generate (default: ${DEFAULT_TOKENS})` },
  },
  notes: [
    'generate: what the program does for a token. hostMicrosecondsPerDispatch is the time in which a token is encoded, by dispatch, the',
    'shortest of twenty. recordedStep: one core step as decoding replays it, alone and with what notes its keys. bareCallsMicroseconds: the calls of',
    'WebGPU that a dispatch consists of, with nothing around them, the least that it can take. kernels: time on the GPU, where',
    'the adapter has timestamps. A software adapter computes on the CPU: its times say nothing about a GPU.',
    'With --device cpu: time of a token, in a new cache and in one that was used before, the share of it inside kernels, and the time of',
    'each kernel; medians of eleven rounds.',
  ],
  examples: ['unroll bench', 'unroll bench --device cpu', 'unroll bench --model ./checkpoint --depth 32 -n 64'],
  run,
};

interface Generated {
  readonly tokens: number;
  readonly millisecondsPerToken: number;
  readonly dispatchesPerToken: number;
  readonly dispatchesPerBlock: number;
  readonly submitsPerToken: number;
  readonly readbacksPerToken: number;
  readonly bytesReadPerToken: number;
  readonly bytesWrittenPerToken: number;
}

const round = (value: number): number => Number(value.toPrecision(4));

/** Layer calls of one token at a depth. */
function blocksAt({ config }: RecurrentModel, depth: number): number {
  return config.preludeLayers + depth * config.coreLayers + config.codaLayers;
}

/**
 * Generates, and counts from the second token on: the first has the prompt in it. Where the next token is enqueued ahead, that is so at both
 * ends of the count. Reads are counted over the whole run, at whose end none is on its way.
 */
async function measureGenerate(model: RecurrentModel, device: WebGPUDevice, depth: number, tokens: number): Promise<Generated> {
  const prompt = Array.from({ length: PROMPT }, (_, i) => i % model.vocabularySize);
  const options = { model, prompt, recurrences: depth, maxNewTokens: tokens + 2, stopTokens: [], initScale: 0, logprobs: false };
  const start = device.stats();
  let before = start;
  let started = 0;
  let counted = -1;
  let after = before;
  let took = 0;
  for await (const _ of generate(options)) {
    if (++counted === 0) [before, started] = [device.stats(), performance.now()];
    if (counted === tokens) [after, took] = [device.stats(), performance.now() - started];
  }
  const end = device.stats();
  const read = (key: 'reads' | 'bytesRead') => round((end[key] - start[key]) / (tokens + 2));
  const each = (key: 'submits' | 'dispatches' | 'bytesWritten') => round((after[key] - before[key]) / tokens);
  return {
    tokens,
    millisecondsPerToken: round(took / tokens),
    dispatchesPerToken: each('dispatches'),
    dispatchesPerBlock: round(each('dispatches') / blocksAt(model, depth)),
    submitsPerToken: each('submits'),
    readbacksPerToken: read('reads'),
    bytesReadPerToken: read('bytesRead'),
    bytesWrittenPerToken: each('bytesWritten'),
  };
}

/** Microseconds of host time by dispatch of what `encode` enqueues, and of the replays in it; the shortest of some rounds. */
async function hostTime(device: WebGPUDevice, encode: () => void): Promise<{ all: number; replay: number }> {
  const best = { all: Number.POSITIVE_INFINITY, replay: Number.POSITIVE_INFINITY };
  for (let i = 0; i < HOST_ROUNDS; i++) {
    await device.idle();
    const before = device.stats();
    const started = performance.now();
    encode();
    const took = performance.now() - started;
    const after = device.stats();
    best.all = Math.min(best.all, (took * 1000) / (after.dispatches - before.dispatches));
    const [milliseconds, dispatches] = (['milliseconds', 'dispatches'] as const).map((key) => after.replayed[key] - before.replayed[key]);
    best.replay = Math.min(best.replay, (milliseconds! * 1000) / dispatches!);
  }
  await device.idle();
  return { all: round(best.all), replay: round(best.replay) };
}

/** Lends what the step of a new token works with, behind a short prompt: what decoding runs for every token. */
async function withToken<R>(
  model: RecurrentModel,
  use: (step: (depth: number) => void, recur: (loops: number) => void) => Promise<R>,
): Promise<R> {
  const { device } = model;
  const cache = model.createCache();
  const prompt = Array.from({ length: PROMPT }, (_, i) => i % model.vocabularySize);
  forward(model, [prompt], { recurrences: REPLAYS, cache, initialState: { scale: 0 } }).dispose();
  const pass = cache.begin(Int32Array.of(PROMPT));
  const token = device.zeros([1, 1], { dtype: 'i32' });
  const [e, state] = [device.zeros([1, 1, model.config.width]), device.zeros([1, 1, model.config.width])];
  try {
    const step = (depth: number) =>
      tidy(device, () => {
        model.readout(model.steps(model.prelude(token, pass), state, { from: 0, to: depth }, pass), pass);
      });
    return await use(step, (loops) => model.steps(e, state, { from: 0, to: loops }, pass).dispose());
  } finally {
    for (const owner of [e, state, token, pass, cache]) owner.dispose();
  }
}

async function measureRecordedStep(model: RecurrentModel, device: WebGPUDevice) {
  return withToken(model, async (_, recur) => {
    const dispatchesOf = (loops: number) => {
      const before = device.stats().dispatches;
      recur(loops);
      return device.stats().dispatches - before;
    };
    dispatchesOf(REPLAYS);
    const dispatches = dispatchesOf(2) - dispatchesOf(1);
    const { all, replay } = await hostTime(device, () => recur(REPLAYS));
    return {
      dispatches,
      dispatchesPerBlock: round(dispatches / model.config.coreLayers),
      hostMicrosecondsPerDispatch: replay,
      passMicrosecondsPerDispatch: all,
    };
  });
}

/** Gigabytes a second, read and written, of a copy on the device: the measure for what reads weights. */
async function measureCopy(device: WebGPUDevice): Promise<number> {
  const megabytes = device.software ? 8 : 128;
  const x = device.zeros([megabytes * 2 ** 18]);
  try {
    let best = 0;
    for (let i = 0; i < ROUNDS; i++) {
      await device.idle();
      const started = performance.now();
      tidy(device, () => void affine(x, { scale: 2 }));
      await device.idle();
      best = Math.max(best, (2 * x.size * 4) / (performance.now() - started) / 1e6);
    }
    return best;
  } finally {
    x.dispose();
  }
}

/** Time on the GPU of one new token at depth 1, as decoding runs it; null without timestamps. */
async function measureKernels(model: RecurrentModel, device: WebGPUDevice): Promise<KernelTime[] | null> {
  if (!device.description.includes('timestamp-query used')) return null;
  return withToken(model, async (step) => {
    step(1);
    const times = await device.profile(() => step(1));
    return times.map((time) => ({ ...time, microseconds: round(time.microseconds) }));
  });
}

async function measure({ name, model, device, family }: LoadedModel, depth: number, tokens: number) {
  const gpu = device as WebGPUDevice;
  await measureGenerate(model, gpu, 1, 1);
  const generated = await measureGenerate(model, gpu, depth, tokens);
  const host = await withToken(model, async (step) => {
    step(depth);
    return hostTime(gpu, () => step(depth));
  });
  const copy = await measureCopy(gpu);
  const { core, adapter, prelude, coda, head, embedding } = partSizes(model.config, family);
  // Matrices are all in one format; what norms and biases take beside them does not count.
  const { weight } = model.params.transformer.wte;
  const readBytes = Math.round(
    (weight.storage.bytes / weight.size) * (prelude + depth * (core + adapter) + coda + (model.config.tiedHead ? embedding : head)),
  );
  return {
    device: gpu.description,
    software: gpu.software,
    ...(gpu.software ? { note: 'a software adapter: the times are of a CPU and say nothing about a GPU; counts hold anywhere' } : {}),
    model: name,
    depth,
    blocksPerToken: blocksAt(model, depth),
    generate: { ...generated, hostMicrosecondsPerDispatch: host.all },
    recordedStep: await measureRecordedStep(model, gpu),
    bareCallsMicroseconds: await measureBareCalls(gpu),
    copyGigabytesPerSecond: round(copy),
    weightBytesPerToken: readBytes,
    shareOfCopyBandwidth: round(readBytes / generated.millisecondsPerToken / 1e6 / copy),
    kernels: await measureKernels(model, gpu),
  };
}

async function run(flags: Flags, io: Io): Promise<number> {
  const device = readText(flags, 'device') ?? 'webgpu';
  if (device !== 'webgpu' && device !== 'cpu') throw new UsageError(`bench: --device must be webgpu or cpu; got "${device}"`);
  const tokens = readWhole(flags, 'max-new-tokens', 1) ?? DEFAULT_TOKENS;
  const depth = readDepth(flags);
  const loaded = await loadModel({ ...modelChoice(flags), device, tokenizer: false }, io);
  try {
    const { name, model } = loaded;
    const recurrences = depth ?? model.meanRecurrence;
    const measured =
      device === 'cpu'
        ? { model: name, ...(await measureCpu(model, loaded.device, recurrences, tokens)) }
        : await measure(loaded, recurrences, tokens);
    io.stdout.write(`${JSON.stringify(measured, null, 2)}\n`);
    return EXIT.ok;
  } finally {
    await loaded.dispose();
  }
}
