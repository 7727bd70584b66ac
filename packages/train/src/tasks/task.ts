import type { Random } from '../random.js';

export interface Problem {
  readonly prompt: string;
  readonly answer: string;
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
  generate(random: Random, level: number): Problem;
}

/** FNV-1a with a final mix: which problems are held out may depend on nothing but their key. */
export function hashKey(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/** One problem in sixteen is never trained on. */
export const isHeldOut = (task: Task, { key }: Problem): boolean => hashKey(`${task.name} ${key}`) % 16 === 0;

/** A problem for training, or one of the held-out set: drawn until it is on the right side. */
export function problemFor(task: Task, random: Random, level: number, heldOut: boolean): Problem {
  for (let tries = 0; tries < 10_000; tries++) {
    const problem = task.generate(random, level);
    if (isHeldOut(task, problem) === heldOut) return problem;
  }
  throw new Error(`${task.name}: level ${level} has no ${heldOut ? 'held-out' : 'training'} problem; its problems are too few to be split`);
}
