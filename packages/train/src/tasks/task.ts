import type { Random } from '../random.js';

export interface Problem {
  readonly prompt: string;
  readonly answer: string;
  readonly level: number;
  /** The same for problems that are the same to a reader, such as a + b and b + a: what the held-out set is told apart by. */
  readonly key: string;
}

/** A kind of problem that takes more steps to solve as its level grows. */
export interface Task {
  readonly name: string;
  /** What a level is, for the card: "digits of the longer number". */
  readonly level: string;
  /** Levels that the generator makes. */
  readonly levels: readonly [least: number, most: number];
  /** Lower levels have so few problems that all are trained on; held-out problems begin here. */
  readonly heldOutFrom: number;
  /** Tasks of one split hold out the same keys; the name when absent. */
  readonly split?: string;
  /** A problem of this level and, behind it, others of the same or lower levels whose prompts begin alike. */
  generate(random: Random, level: number): readonly [Problem, ...Problem[]];
}

/** FNV-1a with a final mix: which problems are held out may depend on nothing but their key. */
export function hashKey(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/** One problem in sixteen is never trained on, from the level on that has enough of them. */
export const isHeldOut = (task: Task, { key, level }: Problem): boolean =>
  level >= task.heldOutFrom && hashKey(`${task.split ?? task.name} ${key}`) % 16 === 0;

function draw(task: Task, random: Random, level: number, heldOut: boolean): readonly [Problem, ...Problem[]] {
  for (let tries = 0; tries < 10_000; tries++) {
    const problems = task.generate(random, level);
    if (isHeldOut(task, problems[0]) === heldOut) return problems;
  }
  throw new Error(`${task.name}: level ${level} has no ${heldOut ? 'held-out' : 'training'} problem; its problems are too few to be split`);
}

/** A problem for training, or one of the held-out set: drawn until it is on the right side. */
export const problemFor = (task: Task, random: Random, level: number, heldOut: boolean): Problem => draw(task, random, level, heldOut)[0];

/** Problems for training whose prompts begin alike: one of this level, others of the same or lower ones. */
export const familyFor = (task: Task, random: Random, level: number): Problem[] =>
  draw(task, random, level, false).filter((problem) => !isHeldOut(task, problem));
