import { threefry2x32 } from '@unroll/tensor';

/** What a run draws numbers for; each has its own, so that drawing more for one changes nothing for another. */
export type Purpose = 'depth' | 'state' | 'task' | 'problem' | 'validation';
const purposes: readonly Purpose[] = ['depth', 'state', 'task', 'problem', 'validation'];

/**
 * Random numbers of one (seed, purpose, index), such as the problem in row 7 of step 300: functions of these three, never of what was
 * drawn before. A run that goes on from a checkpoint therefore has nothing to restore but the number of its step.
 */
export class Random {
  readonly #key: readonly [number, number];
  #count = 0;

  constructor(seed: number, purpose: Purpose, index: number) {
    const [a, b] = threefry2x32([seed | 0, Math.floor(seed / 2 ** 32) | 0], [purposes.indexOf(purpose), 0]);
    this.#key = threefry2x32([a!, b!], [index | 0, Math.floor(index / 2 ** 32) | 0]) as readonly [number, number];
  }

  /** 32 random bits. */
  word(): number {
    return threefry2x32([this.#key[0], this.#key[1]], [this.#count++, 1])[0]! >>> 0;
  }

  /** Uniform in [0, 1). */
  next(): number {
    return this.word() / 2 ** 32;
  }

  /** A whole number from low to high, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }

  /** Mean 0, standard deviation 1 (Box & Muller 1958). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.next())) * Math.cos(2 * Math.PI * this.next());
  }

  /** Of mean `rate` (Knuth's product of uniforms, in pieces that do not underflow). */
  poisson(rate: number): number {
    let count = 0;
    for (let left = rate; left > 0; left -= 16) {
      const limit = Math.exp(-Math.min(16, left));
      for (let product = this.next(); product > limit; product *= this.next()) count++;
    }
    return count;
  }

  /** A random order of 0 to n - 1. */
  order(n: number): number[] {
    const items = Array.from({ length: n }, (_, i) => i);
    for (let i = n - 1; i > 0; i--) {
      const j = this.int(0, i);
      [items[i], items[j]] = [items[j]!, items[i]!];
    }
    return items;
  }
}
