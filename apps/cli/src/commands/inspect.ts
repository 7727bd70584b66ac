import { type Flags, readDepths, readFlag } from '../args.js';
import type { Command } from '../command.js';
import { CommandError, EXIT } from '../errors.js';
import { modelArgs } from '../flags.js';
import { costAt, type DepthCost, kvBytesPerSlot, type PartSizes, partSizes, type TensorRow, tensorRows } from '../inspect/cost.js';
import type { Io } from '../io.js';
import { openCpu, openWebGPU, parseDeviceName } from '../model/device.js';
import { loadModel, modelChoice, type OpenedModel, openModel } from '../model/load.js';
import { bytes, grouped, type Style, short, styleFor, table } from '../style.js';

const DEFAULT_DEPTHS = [1, 2, 4, 8, 16, 32, 64];

export const command: Command = {
  name: 'inspect',
  description: 'parameters, cost by depth and tensors of a checkpoint',
  args: {
    model: modelArgs.model,
    revision: modelArgs.revision,
    weights: modelArgs.weights,
    'allow-unknown': modelArgs['allow-unknown'],
    device: { type: 'string', valueHint: 'NAME', description: 'open this device too, and tell what it is: cpu, webgpu or auto' },
    depths: { type: 'string', valueHint: 'R,R,…', description: `depths of the cost table (default: ${DEFAULT_DEPTHS.join(',')})` },
    json: { type: 'boolean', description: 'everything as one JSON object' },
  },
  notes: [
    'Only headers are read, so that large checkpoints open at once; with --device auto, which measures, the weights too.',
    'Materialised: parameters of the equivalent model without sharing, the embedding counted once, as head. FLOP per token: two for each of',
    'these, and with a full context four times the width more for each key and layer call. KV: keys and values of one token in f32.',
  ],
  examples: ['unroll inspect', 'unroll inspect --model ./checkpoint --depths 4,32 --json'],
  run,
};

interface Report {
  readonly model: string;
  readonly files: readonly string[];
  /** Where --device asks for one. */
  readonly device?: string;
  readonly bytes: number;
  readonly config: OpenedModel['config'];
  /** What is in a block: `sandwich` is Huginn. */
  readonly family: string;
  readonly parameters: PartSizes;
  readonly kvBytesPerSlot: number;
  readonly byDepth: readonly DepthCost[];
  readonly tensors: readonly TensorRow[];
}

async function run(flags: Flags, io: Io): Promise<number> {
  const depths = readDepths(flags) ?? DEFAULT_DEPTHS;
  const device = await describeDevice(flags, io);
  const opened = await openModel({ ...modelChoice(flags), tokenizer: false }, io);
  const { config, checkpoint, family } = opened;
  await checkpoint.close();
  const report: Report = {
    model: opened.name,
    files: checkpoint.files,
    ...(device === undefined ? {} : { device }),
    bytes: checkpoint.totalBytes,
    config,
    family: family.name,
    parameters: partSizes(config, family),
    kvBytesPerSlot: kvBytesPerSlot(config),
    byDepth: depths.map((depth) => costAt(config, depth, family)),
    tensors: tensorRows(config, checkpoint.entries, family),
  };
  io.stdout.write(readFlag(flags, 'json') ? `${JSON.stringify(report)}\n` : show(report, styleFor(io)));
  const bad = report.tensors.filter(({ problem }) => problem !== null);
  if (bad.length > 0)
    throw new CommandError(`"${opened.name}": ${bad.length} tensors do not fit config.json, first ${bad[0]!.name}: ${bad[0]!.problem}`);
  return EXIT.ok;
}

/** What the device of --device is; undefined without the flag. */
async function describeDevice(flags: Flags, io: Io): Promise<string | undefined> {
  const choice = modelChoice(flags);
  if (choice.device === undefined) return undefined;
  const name = parseDeviceName(choice.device);
  if (name === 'auto') {
    const loaded = await loadModel({ ...choice, tokenizer: false }, io);
    const { description } = loaded.device;
    await loaded.dispose();
    return description;
  }
  const { device, close } = await (name === 'cpu' ? openCpu() : openWebGPU());
  await close();
  return device.description;
}

const PARTS: readonly (readonly [keyof PartSizes, string])[] = [
  ['embedding', 'embedding'],
  ['prelude', 'prelude'],
  ['adapter', 'adapter (in the loop)'],
  ['core', 'core (in the loop)'],
  ['coda', 'coda'],
  ['norm', 'final norm'],
  ['head', 'head'],
];

function show(report: Report, style: Style): string {
  const { config, parameters } = report;
  const share = (count: number) => `${((100 * count) / parameters.total).toFixed(1)} %`;
  const parts = PARTS.map(([key, label]) =>
    key === 'head' && config.tiedHead ? [label, 'tied', 'to the embedding'] : [label, grouped(parameters[key]), share(parameters[key])],
  );
  const cost = report.byDepth.map(({ depth, layerCalls, materialised, flops, flopsFullContext, kvBytes }) =>
    [
      depth,
      layerCalls,
      short(materialised),
      short(flops),
      short(flopsFullContext),
      bytes(kvBytes),
      bytes(kvBytes * config.contextLength),
    ].map(String),
  );
  const costHead = ['depth', 'layer calls', 'materialised', 'FLOP/token', 'full context', 'KV/token', 'KV full context'].map(style.bold);
  const tensors = report.tensors.map(({ name, shape, dtype, problem, unused }) => {
    const note = problem === null ? style.dim(unused ?? '') : style.red(problem);
    return [name, `[${shape.join(', ')}]`, dtype ?? '-', note];
  });
  const facts = [
    ...(report.device === undefined ? [] : [['device', report.device]]),
    ['files', `${report.files.join(', ')} (${bytes(report.bytes)})`],
    [
      'layers',
      `${config.preludeLayers} prelude, ${config.coreLayers} core, ${config.codaLayers} coda; the core runs ${config.meanRecurrence} times unless said otherwise`,
    ],
    [
      'width',
      `${config.width}, ${config.heads} heads${config.kvHeads === config.heads ? '' : ` (${config.kvHeads} for keys)`}, MLP ${config.mlpWidth}`,
    ],
    ...(report.family === 'sandwich' ? [] : [['family', report.family]]),
    ['vocabulary', grouped(config.vocabularySize)],
    ['context', `${grouped(config.contextLength)} tokens`],
  ];
  return [
    `${style.bold(report.model)}\n${table(facts, { left: [0, 1] })}`,
    `\n${style.bold('Parameters')}\n${table([...parts, ['total', style.bold(grouped(parameters.total)), '']])}`,
    `\n${style.bold('Cost of a token by depth')}\n${table([costHead, ...cost], { left: [] })}`,
    `  With one loop's slots (compress-s${config.coreLayers}), KV/token is ${bytes((config.preludeLayers + config.coreLayers + config.codaLayers) * report.kvBytesPerSlot)} at any depth.\n`,
    `\n${style.bold(`Tensors (${report.tensors.length})`)}\n${table(tensors, { left: [0, 1, 2, 3] })}`,
  ].join('');
}
