import type { Random } from '../random.js';
import type { Problem, Task } from './task.js';

const digits = (random: Random, count: number) =>
  Array.from({ length: count }, (_, i) => random.int(i === 0 && count > 1 ? 1 : 0, 9)).join('');

const sums = 8;

/**
 * `482+017=0499`: numbers of one length, a sum one digit longer. Carries run from the last digit to the first, against the order in which
 * the answer is read. Behind the problem, others that add to the same first number.
 */
export const addition: Task = {
  name: 'addition',
  level: 'digits of the longer number',
  levels: [1, 9],
  heldOutFrom: 1,
  generate(random, level) {
    const long = digits(random, level);
    const short = digits(random, random.int(1, level)).padStart(level, '0');
    const [a, b] = random.int(0, 1) === 0 ? [long, short] : [short, long];
    const add = (other: string): Problem => {
      const [least, most] = [a, other].sort();
      const answer = String(Number(a) + Number(other)).padStart(level + 1, '0');
      return { prompt: `${a}+${other}=`, answer, level, key: `${least} ${most}` };
    };
    // The larger of the two has its level's length, so that the problem is of that level.
    const others = Array.from({ length: sums - 1 }, () => (a === long ? digits(random, random.int(1, level)) : digits(random, level)));
    return [
      add(b),
      ...[...new Set(others)]
        .map((other) => other.padStart(level, '0'))
        .filter((other) => other !== b)
        .map(add),
    ];
  },
};

/** `#011010=1`: is the number of ones odd. Every beginning of the bits is a problem of its own: prefix parity. */
export const parity: Task = {
  name: 'parity',
  level: 'bits',
  levels: [1, 40],
  heldOutFrom: 6,
  generate(random, level) {
    const bits = Array.from({ length: level }, () => random.int(0, 1));
    let odd = 0;
    const prefixes = bits.map((bit, i): Problem => {
      const key = bits.slice(0, i + 1).join('');
      odd ^= bit;
      return { prompt: `#${key}=`, answer: String(odd), level: i + 1, key };
    });
    return prefixes.reverse() as [Problem, ...Problem[]];
  },
};

const nodes = 8;

function chase(random: Random, level: number, write: (edges: string, start: number, steps: number) => string): [Problem, ...Problem[]] {
  const names = random.order(10).slice(0, nodes);
  const to = random.order(nodes);
  const next = new Map(names.map((name, i) => [name, names[to[i]!]!]));
  const edges = random.order(nodes).map((i) => `${names[i]}${next.get(names[i]!)}`);
  const graph = [...edges].sort().join('');
  const walk = (start: number): Problem[] => {
    let at = start;
    return Array.from({ length: level }, (_, i): Problem => {
      at = next.get(at)!;
      return {
        prompt: write(edges.join('.'), start, i + 1),
        answer: String(at),
        level: i + 1,
        key: `${graph} ${start} ${i + 1}`,
      };
    }).reverse();
  };
  // As many walks as make some sixteen questions: what costs is the graph that they share.
  const begins = random.order(nodes).slice(0, Math.max(3, Math.ceil(16 / level)));
  return begins.flatMap((i) => walk(names[i]!)) as [Problem, ...Problem[]];
}

/**
 * `@07.74.40=0**0`, but of eight arrows between eight nodes, one from and one to each: from node 0, where do three steps along the arrows
 * lead: one, and one more for each star. Every smaller number of steps is a problem of its own. In a small graph a guess that never
 * composes two arrows is right too often to be given up.
 */
export const pointer: Task = {
  name: 'pointer',
  level: 'steps along the arrows',
  levels: [1, 24],
  heldOutFrom: 1,
  generate: (random, level) => chase(random, level, (edges, start, steps) => `@${edges}=${start}${'*'.repeat(steps - 1)}`),
};

/**
 * The same problems as `@07.74.40:0***=0`, a star for each step. What a step needs is then two tokens away from where it is asked for, which
 * a small model learns far later.
 */
export const pointerMarked: Task = {
  ...pointer,
  name: 'pointerMarked',
  split: 'pointer',
  generate: (random, level) => chase(random, level, (edges, start, steps) => `@${edges}:${start}${'*'.repeat(steps)}=`),
};

/**
 * `%3142=24135`: the word problem of S5 over the swaps of neighbours. Five things lie in order, 12345; digit i swaps those in places i and
 * i + 1. Every beginning of the word is a problem of its own.
 */
export const permutation: Task = {
  name: 'permutation',
  level: 'swaps',
  levels: [1, 24],
  heldOutFrom: 5,
  generate(random, level) {
    const things = [1, 2, 3, 4, 5];
    let word = '';
    const prefixes = Array.from({ length: level }, (_, i): Problem => {
      const place = random.int(1, 4);
      [things[place - 1], things[place]] = [things[place]!, things[place - 1]!];
      word += place;
      return { prompt: `%${word}=`, answer: things.join(''), level: i + 1, key: word };
    });
    return prefixes.reverse() as [Problem, ...Problem[]];
  },
};

/**
 * `&3142=0`: a modular chain, the sum of the digits modulo 5. Every beginning of the digits is a problem of its own.
 */
export const chain: Task = {
  name: 'chain',
  level: 'terms',
  levels: [1, 40],
  heldOutFrom: 4,
  generate(random, level) {
    let terms = '';
    let sum = 0;
    const prefixes = Array.from({ length: level }, (_, i): Problem => {
      const term = random.int(0, 4);
      terms += term;
      sum = (sum + term) % 5;
      return { prompt: `&${terms}=`, answer: String(sum), level: i + 1, key: terms };
    });
    return prefixes.reverse() as [Problem, ...Problem[]];
  },
};

/** Every task by name. */
export const tasks: Readonly<Record<string, Task>> = Object.fromEntries(
  [addition, parity, pointer, pointerMarked, permutation, chain].map((task) => [task.name, task]),
);
