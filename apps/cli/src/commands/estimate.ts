import { hubFiles, isHubRepo, openCheckpoint } from '@unroll/checkpoint';
import { parseKVPolicy } from '@unroll/nn';
import { estimate, familyOf, largestDepth, parseRecurrentConfig } from '@unroll/recurrent';
import { type Device, matmul, type Tensor } from '@unroll/tensor';
import { type Flags, readDepths, readFlag, readNumber, readText } from '../args.js';
import type { Command } from '../command.js';
import { EXIT } from '../errors.js';
import { modelArgs } from '../flags.js';
import type { Io } from '../io.js';
import { openDevice } from '../model/device.js';
import { findModel, type ModelFiles } from '../model/files.js';
import { readJson } from '../model/json.js';
import { modelChoice } from '../model/load.js';
import { bytes, grouped, short, styleFor, table } from '../style.js';

const DEPTHS = [1, 4, 8, 16, 32];
const POLICIES = ['full', 'latest-compress-s'] as const;

export const command: Command = {
  name: 'estimate',
  description: 'bytes, cost and likely speed of a model here, before it is loaded',
  args: {
    model: modelArgs.model,
    revision: modelArgs.revision,
    weights: modelArgs.weights,
    'allow-unknown': modelArgs['allow-unknown'],
    dtype: modelArgs.dtype,
    device: { type: 'string', valueHint: 'NAME', description: 'the device that is measured: cpu (default) or webgpu' },
    depths: { type: 'string', valueHint: 'R,R,…', description: `depths of the table (default: ${DEPTHS.join(',')})` },
    speed: { type: 'string', valueHint: 'X', description: 'tokens a second that are wished: prints the largest depth for it' },
    'no-calibration': { type: 'boolean', description: 'measure nothing: bytes and operations alone' },
    json: { type: 'boolean', description: 'everything as one JSON object' },
  },
  notes: [
    'Reads config.json and the headers of the weights, of a repository on the hub by ranges. The speed is that of products of one row with a',
    'matrix of the dtype, as measured here in two seconds: a bound that attention, norms and a prompt come on top of.',
  ],
  examples: ['unroll estimate --model tomg-group-umd/huginn-0125 --dtype q4 --speed 1'],
  run,
};

async function filesOf(model: string | undefined, revision: string | undefined, io: Io): Promise<ModelFiles> {
  try {
    return await findModel(model, { revision });
  } catch (error) {
    if (model === undefined || !isHubRepo(model)) throw error;
    const { HF_TOKEN: token, HF_ENDPOINT: endpoint } = io.env;
    const options = { ...(revision ? { revision } : {}), ...(token ? { token } : {}), ...(endpoint ? { endpoint } : {}) };
    return { name: model, files: hubFiles({ repo: model, ...options }) };
  }
}

async function run(flags: Flags, io: Io): Promise<number> {
  const { model, revision, weights, allowUnknown, dtype = 'f32' } = modelChoice(flags);
  const depths = readDepths(flags) ?? DEPTHS;
  const wished = readNumber(flags, 'speed', 1e-6, 1e6);
  const { name, files } = await filesOf(model, revision, io);
  const config = parseRecurrentConfig(await readJson(files, 'config.json'), allowUnknown === undefined ? {} : { allowUnknown });
  const checkpoint = await openCheckpoint(files, weights === undefined ? {} : { weights });
  await checkpoint.close();
  const family = familyOf(checkpoint.names.map((tensor) => tensor.replace(/\.(q8|q4|scales)$/, '')));
  const device = readFlag(flags, 'no-calibration') ? undefined : await openDevice(readText(flags, 'device'));
  try {
    const weightsPerSecond = device === undefined ? undefined : await measure(device, dtype);
    const options = { dtype, family, ...(weightsPerSecond === undefined ? {} : { rates: { weightsPerSecond } }) };
    const rows = depths.map((recurrences) => ({ recurrences, ...estimate(config, { ...options, recurrences }) }));
    const kv = POLICIES.map((policy) => {
      const text = policy === 'full' ? policy : `${policy}${config.coreLayers}`;
      const at = (recurrences: number) => estimate(config, { ...options, policy: parseKVPolicy(text), recurrences }).kvBytesPerToken;
      return { policy: text, kvBytesPerToken: depths.map(at) };
    });
    const depthForSpeed =
      wished === undefined || weightsPerSecond === undefined
        ? undefined
        : largestDepth(config, wished, { ...options, rates: { weightsPerSecond } });
    const report = {
      model: name,
      family: family.name,
      dtype,
      device: device?.description,
      weightsPerSecond,
      byDepth: rows,
      kv,
      wished,
      depthForSpeed,
    };
    io.stdout.write(readFlag(flags, 'json') ? `${JSON.stringify(report)}\n` : show(report, io));
    return EXIT.ok;
  } finally {
    device?.dispose();
  }
}

// Far beyond every cache, and little beside a model that this is asked about.
const MATRIX_BYTES = 192e6;
const K = 4096;
const BYTES_PER_WEIGHT = { f32: 4, f16: 2, bf16: 2, q8: 34 / 32, q4: 18 / 32 };
const MEASURE_MS = 2000;

/** Weights a second of products of one row with a matrix of the dtype: the fastest of those that fit in two seconds. */
async function measure(device: Device, dtype: keyof typeof BYTES_PER_WEIGHT): Promise<number> {
  const N = 8 * Math.round(MATRIX_BYTES / BYTES_PER_WEIGHT[dtype] / K / 8);
  const matrix: Tensor = device.zeros([N, K], { dtype, memory: 'weights' });
  const x = device.zeros([1, K]);
  const once = async () => {
    const y = matmul(x, matrix, { transposeB: true });
    await y.data();
    y.dispose();
  };
  try {
    await once();
    let best = Number.POSITIVE_INFINITY;
    for (const until = performance.now() + MEASURE_MS; performance.now() < until; ) {
      const began = performance.now();
      await once();
      best = Math.min(best, performance.now() - began);
    }
    return (N * K * 1000) / best;
  } finally {
    for (const tensor of [matrix, x]) tensor.dispose();
  }
}

interface Report {
  readonly model: string;
  readonly family: string;
  readonly dtype: string;
  readonly device: string | undefined;
  readonly weightsPerSecond: number | undefined;
  readonly byDepth: readonly ({ readonly recurrences: number } & ReturnType<typeof estimate>)[];
  readonly kv: readonly { readonly policy: string; readonly kvBytesPerToken: readonly number[] }[];
  readonly wished: number | undefined;
  readonly depthForSpeed: number | undefined;
}

function show(report: Report, io: Io): string {
  const style = styleFor(io);
  const [{ parameters, weightBytes }] = report.byDepth as [Report['byDepth'][number]];
  const facts = [
    ['family', report.family],
    ['parameters', grouped(parameters)],
    ['weights', `${bytes(weightBytes)} in ${report.dtype}`],
    ...(report.weightsPerSecond === undefined ? [] : [['measured', `${short(report.weightsPerSecond)} weights/s; ${report.device}`]]),
    ...(report.depthForSpeed === undefined
      ? []
      : [[`at ${report.wished} tokens/s`, report.depthForSpeed === 0 ? 'not even depth 1' : `depth ${report.depthForSpeed}`]]),
  ];
  const head = [
    'depth',
    'weights/token',
    'bytes/token',
    'FLOP/token',
    ...report.kv.map(({ policy }) => `KV ${policy}`),
    'tokens/s at most',
  ];
  const rows = report.byDepth.map((row, i) =>
    [
      row.recurrences,
      short(row.weightsPerToken),
      bytes(row.bytesPerToken),
      short(row.flopsPerToken),
      ...report.kv.map(({ kvBytesPerToken }) => bytes(kvBytesPerToken[i]!)),
      row.secondsPerToken === undefined ? '-' : (1 / row.secondsPerToken).toPrecision(3),
    ].map(String),
  );
  return `${style.bold(report.model)}\n${table(facts, { left: [0, 1] })}\n${table([head.map(style.bold), ...rows], { left: [] })}`;
}
