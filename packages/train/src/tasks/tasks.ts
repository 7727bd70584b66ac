import type { Random } from '../random.js';
import type { Problem, Task } from './task.js';

const digits = (random: Random, count: number) =>
  Array.from({ length: count }, (_, i) => random.int(i === 0 && count > 1 ? 1 : 0, 9)).join('');

/** `482+917=1399`. Carries run from the last digit to the first, against the order in which the answer is read. */
export const addition: Task = {
  name: 'addition',
  level: 'digits of the longer number',
  levels: [1, 9],
  heldOutFrom: 1,
  generate(random, level) {
    const long = digits(random, level);
    const short = digits(random, random.int(1, level));
    const [a, b] = random.int(0, 1) === 0 ? [long, short] : [short, long];
    const [least, most] = [Number(a), Number(b)].sort((x, y) => x - y);
    return [{ prompt: `${a}+${b}=`, answer: String(Number(a) + Number(b)), level, key: `${least} ${most}` }];
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

const mostNodes = 8;
const questions = 6;

/** `@07.74.43 (and so on):0*3=3`, without the spaces: from node 0, where do 3 steps along the arrows lead. One arrow leads to each node. */
export const pointer: Task = {
  name: 'pointer',
  level: 'steps along the arrows',
  levels: [1, 16],
  heldOutFrom: 1,
  generate(random, level, small = false) {
    const nodes = small ? random.int(2, mostNodes - 1) : mostNodes;
    const names = random.order(10).slice(0, nodes);
    const to = random.order(nodes);
    const next = new Map(names.map((name, i) => [name, names[to[i]!]!]));
    const edges = random.order(nodes).map((i) => `${names[i]}${next.get(names[i]!)}`);
    const graph = [...edges].sort().join('');
    const ask = (start: number, steps: number): Problem => {
      let at = start;
      for (let i = 0; i < steps; i++) at = next.get(at)!;
      return { prompt: `@${edges.join('.')}:${start}*${steps}=`, answer: String(at), level: steps, key: `${graph} ${start} ${steps}` };
    };
    const starts = random.order(nodes).slice(0, questions);
    return starts.map((i, question) => ask(names[i]!, question === 0 ? level : random.int(1, level))) as [Problem, ...Problem[]];
  },
};

/**
 * `%21345.13245=...`: permutations of five things, applied one after the other, the first first (the word problem of S5). Every beginning
 * of the list is a problem of its own.
 */
export const permutation: Task = {
  name: 'permutation',
  level: 'permutations',
  levels: [1, 12],
  heldOutFrom: 2,
  generate(random, level, small = false) {
    const things = small ? random.int(2, 4) : 5;
    const show = (order: readonly number[]) => order.map((i) => i + 1).join('');
    const texts: string[] = [];
    let product = Array.from({ length: things }, (_, i) => i);
    const prefixes = Array.from({ length: level }, (_, i): Problem => {
      const now = random.order(things);
      product = now.map((place) => product[place]!);
      texts.push(show(now));
      const key = texts.join('.');
      return { prompt: `%${key}=`, answer: show(product), level: i + 1, key };
    });
    return prefixes.reverse() as [Problem, ...Problem[]];
  },
};

/** Every task by name. */
export const tasks: Readonly<Record<string, Task>> = Object.fromEntries(
  [addition, parity, pointer, permutation].map((task) => [task.name, task]),
);
