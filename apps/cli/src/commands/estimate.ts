import { readFile, stat } from 'node:fs/promises';
import { bytesFiles, CheckpointError, hubFiles, isHubRepo, openCheckpoint } from '@unroll/checkpoint';
import { parseKVPolicy } from '@unroll/nn';
import {
  estimate,
  type Fit,
  familyOf,
  fitOf,
  fittingFormats,
  largestDepth,
  llama,
  type ModelFamily,
  measureRates,
  olmo2,
  ouro,
  parseRecurrentConfig,
  type RecurrentConfig,
  sandwich,
  type WeightDType,
} from '@unroll/recurrent';
import { type Flags, readDepths, readFlag, readNumber, readText } from '../args.js';
import type { Command } from '../command.js';
import { CommandError, EXIT, UsageError } from '../errors.js';
import { modelArgs } from '../flags.js';
import type { Io } from '../io.js';
import { openDevice } from '../model/device.js';
import { findModel, type ModelFiles } from '../model/files.js';
import { readJson } from '../model/json.js';
import { modelChoice } from '../model/load.js';
import { bytes, grouped, rounded, short, styleFor, table } from '../style.js';

const DEPTHS = [1, 4, 8, 16, 32];
const FAMILIES: readonly ModelFamily[] = [sandwich, llama, olmo2, ouro];

export const command: Command = {
  name: 'estimate',
  description: 'bytes, cost and likely speed of a model here, before it is loaded',
  args: {
    model: {
      ...modelArgs.model,
      description: `${modelArgs.model.description}, or a config.json`,
    },
    revision: modelArgs.revision,
    weights: modelArgs.weights,
    'allow-unknown': modelArgs['allow-unknown'],
    family: {
      type: 'string',
      valueHint: 'NAME',
      description: `what is in a block, where no weights tell: ${FAMILIES.map(({ name }) => name).join(', ')} (default: sandwich, or ouro by config.json)`,
    },
    dtype: modelArgs.dtype,
    device: { type: 'string', valueHint: 'NAME', description: 'the device that is measured: cpu (default) or webgpu' },
    depths: { type: 'string', valueHint: 'R,R,…', description: `depths of the table (default: ${DEPTHS.join(',')})` },
    speed: { type: 'string', valueHint: 'X', description: 'tokens a second that are wished: prints the largest depth for it' },
    'no-calibration': { type: 'boolean', description: 'measure nothing: bytes and operations alone' },
    json: { type: 'boolean', description: 'everything as one JSON object' },
  },
  notes: [
    'Reads config.json and, where there are weights, their headers, of a repository on the hub by ranges. The speed is a bound, which',
    'attention, norms and a prompt come on top of: the slower of the weights of a token by the rate of products of one row in the dtype,',
    'and their bytes by the rate of such products in f32, which do little but read. Both are measured here, in two seconds.',
  ],
  examples: ['unroll estimate --model tomg-group-umd/huginn-0125 --dtype q4 --speed 1', 'unroll estimate --model ./config.json --dtype q4'],
  run,
};

/** The files of a model that is not fetched: a folder, a config.json alone, or a repository on the hub. */
async function filesOf(model: string | undefined, revision: string | undefined, io: Io): Promise<ModelFiles> {
  if (model?.endsWith('.json') && (await stat(model).catch(() => undefined))?.isFile())
    return { name: model, files: bytesFiles({ 'config.json': await readFile(model, 'utf8') }, model) };
  try {
    return await findModel(model, { revision });
  } catch (error) {
    if (model === undefined || !isHubRepo(model)) throw error;
    const { HF_TOKEN: token, HF_ENDPOINT: endpoint } = io.env;
    const options = { ...(revision ? { revision } : {}), ...(token ? { token } : {}), ...(endpoint ? { endpoint } : {}) };
    return { name: model, files: hubFiles({ repo: model, ...options }) };
  }
}

function parseFamily(name: string | undefined): ModelFamily | undefined {
  const known = FAMILIES.find((family) => family.name === name);
  if (name !== undefined && known === undefined)
    throw new UsageError(`--family must be ${FAMILIES.map((family) => family.name).join(', ')}; got "${name}"`);
  return known;
}

/** By the names of the weights; without any, what was asked for, or what config.json says. Throws CommandError where they disagree. */
async function familyFor({ files, name }: ModelFiles, json: unknown, asked: ModelFamily | undefined, weights: string | undefined) {
  try {
    const checkpoint = await openCheckpoint(files, weights === undefined ? {} : { weights });
    await checkpoint.close();
    const found = familyOf(checkpoint.names);
    if (asked !== undefined && asked !== found)
      throw new CommandError(`"${name}": --family ${asked.name}, but its tensors are those of ${found.name}`);
    return found;
  } catch (error) {
    if (weights !== undefined || !CheckpointError.is(error) || error.code !== 'missing-file') throw error;
    return asked ?? ((json as { model_type?: unknown }).model_type === 'ouro' ? ouro : sandwich);
  }
}

/** Names of the policies whose slots a token keeps in equal number stand together. */
function policies({ coreLayers }: RecurrentConfig): [string, string][] {
  return [
    ['full, latest, always-last, skip', 'full'],
    ['compress-anchor', 'latest-compress-anchor'],
    ...[4, 2, 1].map((loops): [string, string] => [`compress-s${loops * coreLayers}`, `latest-compress-s${loops * coreLayers}`]),
    [`compress-r${coreLayers}`, `latest-compress-r${coreLayers}`],
    ['last-only (decoded)', 'last-only'],
  ];
}

async function run(flags: Flags, io: Io): Promise<number> {
  const { model, revision, weights, allowUnknown, dtype = 'f32' } = modelChoice(flags);
  const depths = readDepths(flags) ?? DEPTHS;
  const wished = readNumber(flags, 'speed', 1e-6, 1e6);
  const asked = parseFamily(readText(flags, 'family'));
  const found = await filesOf(model, revision, io);
  const json = await readJson(found.files, 'config.json');
  const config = parseRecurrentConfig(json, allowUnknown === undefined ? {} : { allowUnknown });
  const family = await familyFor(found, json, asked, weights);
  const device = readFlag(flags, 'no-calibration') ? undefined : await openDevice(readText(flags, 'device'));
  try {
    const rates = device === undefined ? undefined : await measureRates(device, dtype);
    const options = { dtype, family, ...(rates === undefined ? {} : { rates }) };
    const report: Report = {
      model: found.name,
      family: family.name,
      dtype,
      device: device?.description,
      rates,
      fit: device === undefined ? undefined : { ...fitOf(config, device, dtype, family), fitting: fittingFormats(config, device, family) },
      byDepth: depths.map((recurrences) => ({ recurrences, ...estimate(config, { ...options, recurrences }) })),
      kv: policies(config).map(([name, text]) => {
        const at = (recurrences: number) => estimate(config, { ...options, policy: parseKVPolicy(text), recurrences }).kvBytesPerToken;
        return { policy: name, kvBytesPerToken: depths.map(at) };
      }),
      wished,
      depthForSpeed: wished === undefined || rates === undefined ? undefined : largestDepth(config, wished, { ...options, rates }),
    };
    io.stdout.write(readFlag(flags, 'json') ? `${JSON.stringify(report)}\n` : show(report, io));
    return EXIT.ok;
  } finally {
    device?.dispose();
  }
}

interface Report {
  readonly model: string;
  readonly family: string;
  readonly dtype: WeightDType;
  readonly device: string | undefined;
  readonly rates: { readonly weightsPerSecond: number; readonly bytesPerSecond: number } | undefined;
  /** Whether the parameters have room on the device, and in which formats they have. */
  readonly fit: (Fit & { readonly fitting: readonly WeightDType[] }) | undefined;
  readonly byDepth: readonly ({ readonly recurrences: number } & ReturnType<typeof estimate>)[];
  readonly kv: readonly { readonly policy: string; readonly kvBytesPerToken: readonly number[] }[];
  readonly wished: number | undefined;
  readonly depthForSpeed: number | undefined;
}

function room({ fits, needed, had, tooLarge, fitting }: NonNullable<Report['fit']>): string {
  if (fits)
    return Number.isFinite(had)
      ? `yes: ${bytes(needed)} of ${bytes(had)}`
      : `no tensor is too large; how much memory there is, the device does not tell`;
  const why =
    tooLarge === undefined
      ? `${bytes(needed)} do not fit in ${bytes(had)}`
      : `${tooLarge.name} has ${bytes(tooLarge.bytes)}, a tensor at most ${bytes(tooLarge.most)}`;
  return `no: ${why}; ${fitting.length === 0 ? 'no dtype would' : `--dtype ${fitting.join(', ')} would`}`;
}

function show(report: Report, io: Io): string {
  const style = styleFor(io);
  const { rates, fit } = report;
  const [{ parameters, weightBytes }] = report.byDepth as [Report['byDepth'][number]];
  const facts = [
    ['family', report.family],
    ['parameters', grouped(parameters)],
    ['weights', `${bytes(weightBytes)} in ${report.dtype}`],
    ...(rates === undefined
      ? []
      : [
          ['device', report.device!],
          ['measured', `${short(rates.weightsPerSecond)} weights/s in ${report.dtype}, ${bytes(rates.bytesPerSecond)}/s read`],
        ]),
    ...(fit === undefined ? [] : [['room', room(fit)]]),
    ...(report.depthForSpeed === undefined
      ? []
      : [[`at ${report.wished} tokens/s`, report.depthForSpeed === 0 ? 'not even depth 1' : `depth ${report.depthForSpeed}`]]),
  ];
  const head = ['depth', 'weights/token', 'bytes/token', 'FLOP/token', 's/token at least', 'tokens/s at most'];
  const rows = report.byDepth.map((row) =>
    [
      row.recurrences,
      short(row.weightsPerToken),
      bytes(row.bytesPerToken),
      short(row.flopsPerToken),
      row.secondsPerToken === undefined ? '-' : rounded(row.secondsPerToken),
      row.secondsPerToken === undefined ? '-' : rounded(1 / row.secondsPerToken),
    ].map(String),
  );
  const kvHead = ['depth', ...report.byDepth.map(({ recurrences }) => String(recurrences))];
  const kv = report.kv.map(({ policy, kvBytesPerToken }) => [policy, ...kvBytesPerToken.map((value) => bytes(value))]);
  return [
    `${style.bold(report.model)}\n${table(facts, { left: [0, 1] })}`,
    `\n${table([head.map(style.bold), ...rows], { left: [] })}`,
    `\n${style.bold('Keys and values of a token, by policy')}\n${table([kvHead.map(style.bold), ...kv], { left: [0] })}`,
  ].join('');
}
