import { ignoreTarget, type TrainingBatch } from '@unroll/recurrent';
import { OptionError, refuseUnknownOptions } from '@unroll/tensor';
import { Random } from './random.js';
import { familyFor, type Problem, problemFor } from './tasks/task.js';
import { tasks } from './tasks/tasks.js';
import { encodeText, endToken } from './text.js';

/** A task's share of a mixture. */
export interface TaskShare {
  readonly task: string;
  /** Relative to the other shares. */
  readonly weight: number;
  /** Levels that are trained on, both included. */
  readonly levels: readonly [number, number];
  /** Where a curriculum begins; the lowest level when absent. */
  readonly start?: number;
}

/** Throws OptionError for unknown tasks, levels that a task does not have, and shares without weight. */
export function checkMixture(mixture: readonly TaskShare[]): void {
  if (mixture.length === 0) throw new OptionError('tasks: needs one share at least');
  for (const share of mixture) {
    refuseUnknownOptions('tasks', share, ['task', 'weight', 'levels', 'start']);
    const task = tasks[share.task];
    if (task === undefined) throw new OptionError(`tasks: there is no task "${share.task}"; there are ${Object.keys(tasks).join(', ')}`);
    const [low, high] = share.levels;
    const [least, most] = task.levels;
    if (!(Number.isInteger(low) && Number.isInteger(high) && least <= low && low <= high && high <= most)) {
      throw new OptionError(`tasks: the levels of ${share.task} (${task.level}) are ${least} to ${most}; got ${low} to ${high}`);
    }
    const { start = low } = share;
    if (!(Number.isInteger(start) && low <= start && start <= high))
      throw new OptionError(`tasks: the start of ${share.task} must be one of its levels ${low} to ${high}; got ${start}`);
    if (!(share.weight > 0 && Number.isFinite(share.weight)))
      throw new OptionError(`tasks: the weight of ${share.task} must be above 0; got ${share.weight}`);
  }
}

function pick(mixture: readonly TaskShare[], random: Random, scale?: readonly number[]): number {
  const weights = mixture.map(({ weight }, i) => weight * (scale?.[i] ?? 1));
  let left = random.next() * weights.reduce((sum, weight) => sum + weight, 0);
  for (const [i, weight] of weights.entries()) {
    left -= weight;
    if (left < 0) return i;
  }
  return mixture.length - 1;
}

/** Problems whose prompts begin alike, of one share of the mixture. */
export interface Family {
  readonly share: number;
  readonly problems: readonly Problem[];
}

/** How far each share's levels go at the moment, and the share of problems at its highest; the whole range, evenly, when absent. */
export interface Reach {
  readonly level: readonly number[];
  readonly focus: number;
  /** Multiplies the weight of each share; 1 when absent. */
  readonly scale?: readonly number[];
}

/**
 * `count` families of problems for training, from place `start` of the mixture's endless list. Family i is a function of (seed, i) and
 * reach alone.
 */
export function drawFamilies(mixture: readonly TaskShare[], seed: number, start: number, count: number, reach?: Reach): Family[] {
  return Array.from({ length: count }, (_, i) => {
    const random = new Random(seed, 'problem', start + i);
    const share = pick(mixture, random, reach?.scale);
    const { task, levels } = mixture[share]!;
    const highest = reach?.level[share] ?? levels[1];
    const level = random.next() < (reach?.focus ?? 0) ? highest : random.int(levels[0], highest);
    return { share, problems: familyFor(tasks[task]!, random, level) };
  });
}

/**
 * `count` problems of the held-out set, which no training problem is ever in, of the tasks whose levels reach that far. Problem i is a
 * function of (seed, i) alone. Throws OptionError where no task's do.
 */
export function drawHeldOut(mixture: readonly TaskShare[], seed: number, count: number): Problem[] {
  const shares = mixture.filter(({ task, levels }) => levels[1] >= tasks[task]!.heldOutFrom);
  if (shares.length === 0) {
    const need = mixture.map(({ task }) => `${task} ${tasks[task]!.heldOutFrom}`).join(', ');
    throw new OptionError(`tasks: of such low levels every problem is trained on, and none is held out; raise one of them to ${need}`);
  }
  return Array.from({ length: count }, (_, i) => {
    const random = new Random(seed, 'validation', i);
    const { task, levels } = shares[pick(shares, random)]!;
    const from = Math.max(levels[0], tasks[task]!.heldOutFrom);
    return problemFor(tasks[task]!, random, random.int(from, levels[1]), true);
  });
}

/** Packed problems: what `tokenLosses` takes, and where each problem's answer is in it. */
export interface PackedProblems {
  readonly data: TrainingBatch;
  /** Of each problem, in order, the tokens whose targets are its answer and the newline behind it. */
  readonly answers: readonly (readonly number[])[];
}

/**
 * Problems as packed sequences without padding. Those of one family share the tokens that they begin with; otherwise none sees another.
 * The loss counts the answer and the newline that ends it. Throws OptionError for a problem longer than the context.
 */
export function packProblems(families: readonly (readonly Problem[])[], contextLength: number): PackedProblems {
  const tokens: number[] = [];
  const targets: number[] = [];
  const parents: number[] = [];
  const answers: number[][] = [];
  let batch = 0;
  for (const family of families) {
    const known = new Map<string, number>();
    for (const { prompt, answer } of family) {
      const asked = encodeText(prompt);
      const all = [...asked, ...encodeText(answer), endToken];
      // The last token is only ever a target.
      if (all.length - 1 > contextLength) {
        throw new OptionError(
          `batch: a problem has ${all.length - 1} tokens, the context ${contextLength}; lower the levels or raise block_size`,
        );
      }
      let at = -1;
      const own: number[] = [];
      for (let i = 0; i < all.length - 1; i++) {
        const step = `${at} ${all[i]}`;
        let here = known.get(step);
        if (here === undefined) {
          here = tokens.push(all[i]!) - 1;
          parents.push(at);
          targets.push(ignoreTarget);
          known.set(step, here);
          if (at < 0) batch++;
        }
        at = here;
        if (i + 1 < asked.length) continue;
        targets[at] = all[i + 1]!;
        own.push(at);
      }
      answers.push(own);
    }
  }
  const data = { batch, tokens: Int32Array.from(tokens), targets: Int32Array.from(targets), parents: Int32Array.from(parents) };
  return { data, answers };
}

/** Documents one behind the other, each closed by `end`, in rows of `length` tokens with every next token as target; what is left over is dropped. */
export function packDocuments(documents: readonly (readonly number[])[], length: number, end: number): TrainingBatch {
  if (!Number.isInteger(length) || length < 1) throw new OptionError(`packDocuments: length must be a whole number from 1; got ${length}`);
  const stream = documents.flatMap((document) => [...document, end]);
  const batch = Math.floor((stream.length - 1) / length);
  if (batch < 1) throw new OptionError(`packDocuments: ${stream.length} tokens do not fill one row of ${length} and its last target`);
  return { batch, tokens: Int32Array.from(stream.slice(0, batch * length)), targets: Int32Array.from(stream.slice(1, batch * length + 1)) };
}
