import { ignoreTarget, type TrainingBatch } from '@unroll/recurrent';
import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import { Random } from './random.js';
import { type Problem, problemFor } from './tasks/task.js';
import { tasks } from './tasks/tasks.js';
import { encodeText, endToken } from './text.js';

/** A task's share of a mixture. */
export interface TaskShare {
  readonly task: string;
  /** Relative to the other shares. */
  readonly weight: number;
  /** Levels that are trained on, both included. */
  readonly levels: readonly [number, number];
}

/** Throws OptionError for unknown tasks, levels that a task does not have, and shares without weight. */
export function checkMixture(mixture: readonly TaskShare[]): void {
  if (mixture.length === 0) throw new OptionError('tasks: needs one share at least');
  for (const share of mixture) {
    refuseUnknownOptions('tasks', share, ['task', 'weight', 'levels']);
    const task = tasks[share.task];
    if (task === undefined) throw new OptionError(`tasks: there is no task "${share.task}"; there are ${Object.keys(tasks).join(', ')}`);
    const [low, high] = share.levels;
    const [least, most] = task.levels;
    if (!(Number.isInteger(low) && Number.isInteger(high) && least <= low && low <= high && high <= most)) {
      throw new OptionError(`tasks: the levels of ${share.task} (${task.level}) are ${least} to ${most}; got ${low} to ${high}`);
    }
    if (!(share.weight > 0 && Number.isFinite(share.weight)))
      throw new OptionError(`tasks: the weight of ${share.task} must be above 0; got ${share.weight}`);
  }
}

function pick(mixture: readonly TaskShare[], random: Random): TaskShare {
  const total = mixture.reduce((sum, { weight }) => sum + weight, 0);
  let left = random.next() * total;
  for (const share of mixture) {
    left -= share.weight;
    if (left < 0) return share;
  }
  return mixture[mixture.length - 1]!;
}

/**
 * `count` problems of the mixture, from place `start` of its endless list. Problem i is a function of (seed, i) alone. Held-out problems
 * come from a list of their own, and the two never meet.
 */
export function drawProblems(mixture: readonly TaskShare[], seed: number, start: number, count: number, heldOut = false): Problem[] {
  return Array.from({ length: count }, (_, i) => {
    const random = new Random(seed, heldOut ? 'validation' : 'problem', start + i);
    const share = pick(mixture, random);
    return problemFor(tasks[share.task]!, random, random.int(share.levels[0], share.levels[1]), heldOut);
  });
}

/**
 * Problems as packed sequences, one behind the other without padding; none sees another. The loss counts the answer and the newline that
 * ends it. Throws OptionError for a problem longer than the context.
 */
export function batchOf(problems: readonly Problem[], contextLength: number): TrainingBatch {
  const tokens: number[] = [];
  const targets: number[] = [];
  const lengths = problems.map(({ prompt, answer }) => {
    const asked = encodeText(prompt);
    const all = [...asked, ...encodeText(answer), endToken];
    // The last token is only ever a target.
    const length = all.length - 1;
    if (length > contextLength) {
      throw new OptionError(`batch: a problem has ${length} tokens, the context ${contextLength}; lower the levels or raise block_size`);
    }
    for (let i = 0; i < length; i++) {
      tokens.push(all[i]!);
      targets.push(i + 1 >= asked.length ? all[i + 1]! : ignoreTarget);
    }
    return length;
  });
  return { batch: problems.length, tokens: Int32Array.from(tokens), targets: Int32Array.from(targets), lengths };
}

/** Documents one behind the other, each closed by `end`, in rows of `length` tokens with every next token as target; what is left over is dropped. */
export function packDocuments(documents: readonly (readonly number[])[], length: number, end: number): TrainingBatch {
  if (!Number.isInteger(length) || length < 1) throw new OptionError(`packDocuments: length must be a whole number from 1; got ${length}`);
  const stream = documents.flatMap((document) => [...document, end]);
  const batch = Math.floor((stream.length - 1) / length);
  if (batch < 1) throw new OptionError(`packDocuments: ${stream.length} tokens do not fill one row of ${length} and its last target`);
  return { batch, tokens: Int32Array.from(stream.slice(0, batch * length)), targets: Int32Array.from(stream.slice(1, batch * length + 1)) };
}
