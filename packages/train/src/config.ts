import { adamw, checkSchedule, ellisAdam, muon, type ParameterGroup, type Schedule } from '@unroll/nn/optim';
import { parseRecurrentConfig } from '@unroll/recurrent';
import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import { checkMixture, type TaskShare } from './batch.js';
import { type CurriculumConfig, checkCurriculum } from './curriculum.js';
import { checkDepth, type DepthConfig } from './depth.js';
import { checkHarder, type HarderConfig } from './harder.js';
import { checkText, type TextConfig } from './rows.js';
import { vocabularySize } from './text.js';

export const optimizerNames = ['adamw', 'ellisAdam', 'muon'] as const;

/** A training run, all of it: the same config and seed give the same weights, bit for bit, on one machine's CPU. */
export interface TrainingConfig {
  /** `config.json` of the model, in the public layout. */
  readonly model: Readonly<Record<string, unknown>>;
  readonly seed: number;
  readonly steps: number;
  /** The mixture of tasks; empty where the run is on text. */
  readonly tasks: readonly TaskShare[];
  /** Running text in place of tasks; the trainer is then given its tokens. */
  readonly text?: TextConfig;
  /** Levels that enter one by one; all from the start when absent. */
  readonly curriculum?: CurriculumConfig;
  /** What the trained model is tested on beyond what it was trained on: more steps, more recurrences. */
  readonly harder?: HarderConfig;
  /** Scale of the random initial state, 0 for zeros; 1, as the paper trains, when absent. */
  readonly stateScale?: number;
  /** A step has microBatch * accumulate families of problems that begin alike, or rows of text. */
  readonly microBatch: number;
  /** Micro-batches whose mean gradient makes a step; 1 when absent. */
  readonly accumulate?: number;
  readonly depth: DepthConfig;
  readonly schedule: Schedule;
  readonly optimizer: {
    /** `muon` moves the matrices of the blocks and leaves the rest to AdamW. */
    readonly name: (typeof optimizerNames)[number];
    readonly weightDecay?: number;
    /** Learning rate of what AdamW moves beside Muon, relative to the schedule; 0.1 when absent. */
    readonly otherRate?: number;
  };
  /** Largest norm of a step's gradient; 1 when absent. */
  readonly clip?: number;
  /** Decay of the moving average of the weights; none is kept when absent. */
  readonly ema?: number;
  /** Computes recurrences again in the backward pass: less memory, a third more time. */
  readonly recompute?: boolean;
}

const fields = [
  'model',
  'seed',
  'steps',
  'tasks',
  'text',
  'curriculum',
  'harder',
  'stateScale',
  'microBatch',
  'accumulate',
  'depth',
  'schedule',
  'optimizer',
  'clip',
  'ema',
  'recompute',
];

const whole = (name: string, value: unknown, least: number) => {
  if (!Number.isInteger(value) || (value as number) < least)
    throw new OptionError(`training config: ${name} must be a whole number from ${least}; got ${String(value)}`);
};

/** Checks a config that came from a file. Throws OptionError, or ConfigError for the model's part. */
export function parseTrainingConfig(json: unknown): TrainingConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new OptionError('training config: must be one JSON object');
  refuseUnknownOptions('training config', json, fields);
  const given = json as TrainingConfig;
  const config: TrainingConfig = given.text === undefined ? given : { ...given, tasks: given.tasks ?? [] };
  for (const name of ['model', 'seed', 'steps', 'tasks', 'microBatch', 'depth', 'schedule', 'optimizer'] as const) {
    if (config[name] === undefined) throw new OptionError(`training config: "${name}" is missing`);
  }
  whole('seed', config.seed, 0);
  whole('steps', config.steps, 1);
  whole('microBatch', config.microBatch, 1);
  whole('accumulate', config.accumulate ?? 1, 1);
  checkData(config);
  if (!((config.stateScale ?? 1) >= 0 && (config.stateScale ?? 1) <= 100))
    throw new OptionError(`training config: stateScale must be from 0 to 100; got ${config.stateScale}`);
  checkDepth(config.depth);
  checkSchedule(config.schedule);
  refuseUnknownOptions('training config: optimizer', config.optimizer, ['name', 'weightDecay', 'otherRate']);
  if (!optimizerNames.includes(config.optimizer.name))
    throw new OptionError(`training config: optimizer.name must be one of ${optimizerNames.join(', ')}; got ${config.optimizer.name}`);
  if (!((config.clip ?? 1) > 0)) throw new OptionError(`training config: clip must be above 0; got ${config.clip}`);
  if (config.recompute !== undefined && typeof config.recompute !== 'boolean')
    throw new OptionError('training config: recompute must be true or false');
  return config;
}

/** What is trained on, and whether the model has its vocabulary. */
function checkData({ model: shape, tasks, text, curriculum, harder }: TrainingConfig): void {
  const model = parseRecurrentConfig(shape);
  if (!Array.isArray(tasks)) throw new OptionError('training config: tasks must be a list');
  if (text === undefined) checkMixture(tasks);
  else checkText(text, model.contextLength);
  const [what, tokens] = text === undefined ? ['the tasks are', vocabularySize] : ['the text is', text.vocabulary];
  if (model.vocabularySize !== tokens)
    throw new OptionError(`training config: ${what} written in ${tokens} tokens; model.vocab_size is ${model.vocabularySize}`);
  if (text !== undefined && (tasks.length > 0 || curriculum !== undefined || harder !== undefined))
    throw new OptionError('training config: a run is on text or on tasks; leave out tasks, curriculum and harder, or text');
  if (curriculum !== undefined) checkCurriculum(curriculum, tasks);
  if (harder !== undefined) checkHarder(harder, tasks);
}

/** Norms, biases and the embedding are not decayed. */
const isMatrix = (path: string) => /\.(Wqkv|proj|fc)\.weight$|adapter\.weight$/.test(path);

export function groupsOf({ optimizer: { name, weightDecay, otherRate = 0.1 } }: TrainingConfig): ParameterGroup[] {
  const decay = weightDecay === undefined ? {} : { weightDecay };
  const match = isMatrix;
  if (name === 'muon')
    return [
      { match, rule: muon(decay) },
      { rule: adamw(), rateScale: otherRate },
    ];
  if (name === 'adamw') return [{ match, rule: adamw(decay) }, { rule: adamw() }];
  return [{ match, rule: ellisAdam(decay) }, { rule: ellisAdam({ weightDecay: 0 }) }];
}
