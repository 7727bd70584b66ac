import { type ByteSink, type SafetensorsFile, toFloat32, writeSafetensors } from '@unroll/checkpoint';
import { type RecurrentModel, sandwich } from '@unroll/recurrent';
import { forEachTensor, type Tensor, UnrollError } from '@unroll/tensor';
import type { CurriculumState } from './curriculum.js';
import { crossEntropyObjective } from './objective.js';
import type { Trainer } from './trainer.js';

/** A saved run that does not fit the run that is to go on from it. */
export class ResumeError extends UnrollError {}

const format = 'unroll-training-1';

async function contentOf(tensor: Tensor): Promise<Uint8Array> {
  const data = await tensor.data();
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

const stored = (name: string, tensor: Tensor) => ({ name, dtype: 'F32' as const, shape: tensor.shape, bytes: () => contentOf(tensor) });

/** Saves the parameters of a model alone, by the names of its parameter tree: what `loadRecurrentModel` reads. */
export async function saveModel(sink: ByteSink, model: RecurrentModel): Promise<void> {
  const tensors: ReturnType<typeof stored>[] = [];
  forEachTensor(model.params, (tensor, name) => tensors.push(stored(name, tensor)));
  await writeSafetensors(sink, tensors);
}

/**
 * Saves a run as one safetensors file: weights, optimiser, averages and the place in the data. The sink shows the file when it is
 * whole, so that a run which is killed at any moment leaves the last whole one.
 */
export async function saveTraining(sink: ByteSink, trainer: Trainer): Promise<void> {
  const tensors = [...trainer.tensors()].map(([name, tensor]) => stored(name, tensor));
  const { step, tokens, config, family, objective, curriculum, text } = trainer;
  await writeSafetensors(sink, tensors, {
    metadata: {
      format,
      step: String(step),
      tokens: String(tokens),
      config: JSON.stringify(config),
      family: family.name,
      objective: objective.name,
      ...(curriculum === undefined ? {} : { curriculum: JSON.stringify(curriculum) }),
      ...(text === undefined ? {} : { text: text.key }),
    },
  });
}

// Steps, and with them the end of a schedule, may be moved while a run goes on, and so may what is only measured; anything else would make
// it another run.
const movable = ['steps', 'schedule', 'harder'];

function differences(saved: Readonly<Record<string, unknown>>, now: Readonly<Record<string, unknown>>): string[] {
  const names = new Set([...Object.keys(saved), ...Object.keys(now)]);
  return [...names].filter((name) => !movable.includes(name) && JSON.stringify(saved[name]) !== JSON.stringify(now[name]));
}

/**
 * Puts a saved run into a trainer of the same config, family and objective; steps, schedule and harder alone may differ. Throws ResumeError.
 */
export async function resumeTraining(file: SafetensorsFile, trainer: Trainer): Promise<void> {
  const { metadata } = file;
  const field = (name: string) => metadata.get(name);
  const json = (name: string): unknown => {
    try {
      return JSON.parse(field(name) ?? 'null');
    } catch (error) {
      throw new ResumeError(`resume: "${name}" of the saved run is not JSON; the file is damaged`, { cause: error });
    }
  };
  const count = (name: string): number => {
    const value = json(name);
    if (!Number.isSafeInteger(value) || (value as number) < 0)
      throw new ResumeError(`resume: "${name}" of the saved run must be a whole number; got ${field(name)}. The file is damaged`);
    return value as number;
  };
  if (field('format') !== format) throw new ResumeError(`resume: the file is not a saved training run (format "${format}")`);
  const other = differences((json('config') ?? {}) as Record<string, unknown>, trainer.config as unknown as Record<string, unknown>);
  if (other.length > 0)
    throw new ResumeError(
      `resume: the saved run has another ${other.join(', ')}; start anew, or go on with the config that it was begun with`,
    );
  if (field('text') !== trainer.text?.key)
    throw new ResumeError(`resume: the saved run read another text (${field('text') ?? 'none'}; now ${trainer.text?.key ?? 'none'})`);
  // Runs that were saved without these names are of Huginn's parts and loss.
  for (const [what, now, usual] of [
    ['family', trainer.family.name, sandwich.name],
    ['objective', trainer.objective.name, crossEntropyObjective.name],
  ] as const) {
    const was = field(what) ?? usual;
    if (was !== now) throw new ResumeError(`resume: the saved run has the ${what} "${was}"; the trainer has "${now}"`);
  }
  const tensors = trainer.tensors();
  const missing = [...tensors].filter(([name, { shape }]) => {
    const entry = file.entries.get(name);
    return entry?.dtype !== 'F32' || entry.shape.join() !== shape.join();
  });
  if (missing.length > 0) {
    const names = missing.slice(0, 5).map(([name]) => name);
    throw new ResumeError(`resume: the file lacks ${names.join(', ')}, or has them in other shapes or dtypes`);
  }
  // All that may be wrong is found before the trainer changes.
  const [step, tokens, curriculum] = [count('step'), count('tokens'), savedCurriculum(json('curriculum'), trainer)];
  for (const [name, tensor] of tensors) trainer.device.write(tensor, toFloat32(await file.read(name), 'F32'));
  trainer.step = step;
  trainer.tokens = tokens;
  trainer.optimizer.stepCount = step;
  trainer.curriculum = curriculum;
}

/** Where the levels stood, as the trainer's tasks need it. Throws ResumeError. */
function savedCurriculum(saved: unknown, { curriculum, config }: Trainer): CurriculumState | undefined {
  if (saved === null && curriculum === undefined) return undefined;
  const { level, loss } = (saved ?? {}) as Partial<CurriculumState>;
  const fits = (list: unknown, sound: (value: number, i: number) => boolean) =>
    Array.isArray(list) && list.length === config.tasks.length && list.every((value, i) => typeof value === 'number' && sound(value, i));
  const within = (value: number, i: number) =>
    Number.isInteger(value) && config.tasks[i]!.levels[0] <= value && value <= config.tasks[i]!.levels[1];
  if (curriculum === undefined || !fits(level, within) || !fits(loss, Number.isFinite))
    throw new ResumeError('resume: "curriculum" of the saved run does not fit its tasks; the file is damaged');
  return { level: level!, loss: loss! };
}
