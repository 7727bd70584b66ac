import type { Random } from '../random.js';
import type { Task } from './task.js';

const digits = (random: Random, count: number) =>
  Array.from({ length: count }, (_, i) => random.int(i === 0 && count > 1 ? 1 : 0, 9)).join('');

/** `482+917=1399`. Carries run from the last digit to the first, against the order in which the answer is read. */
export const addition: Task = {
  name: 'addition',
  level: 'digits of the longer number',
  levels: [1, 9],
  generate(random, level) {
    const long = digits(random, level);
    const short = digits(random, random.int(1, level));
    const [a, b] = random.int(0, 1) === 0 ? [long, short] : [short, long];
    const [least, most] = [Number(a), Number(b)].sort((x, y) => x - y);
    return { prompt: `${a}+${b}=`, answer: String(Number(a) + Number(b)), key: `${least} ${most}` };
  },
};

/** `#011010:4=1`: the parity of the first 4 bits. The bits behind them do not count. */
export const parity: Task = {
  name: 'parity',
  level: 'bits that count',
  levels: [6, 40],
  generate(random, level) {
    const bits = Array.from({ length: level + random.int(0, 3) }, () => random.int(0, 1));
    const counted = bits.slice(0, level);
    const odd = counted.reduce((sum, bit) => sum ^ bit, 0);
    return { prompt: `#${bits.join('')}:${level}=`, answer: String(odd), key: counted.join('') };
  },
};

/** `@07 74 43 31 (and so on):0*3=3`, without the spaces: from node 0, where do 3 steps along the arrows lead. */
export const pointer: Task = {
  name: 'pointer',
  level: 'steps along the arrows',
  levels: [1, 16],
  generate(random, level) {
    const nodes = 8;
    const names = random.order(10).slice(0, nodes);
    const next = new Map(names.map((name) => [name, names[random.int(0, nodes - 1)]!]));
    const edges = random.order(nodes).map((i) => `${names[i]}${next.get(names[i]!)}`);
    const start = names[random.int(0, nodes - 1)]!;
    let at = start;
    for (let i = 0; i < level; i++) at = next.get(at)!;
    return { prompt: `@${edges.join('')}:${start}*${level}=`, answer: String(at), key: `${[...edges].sort().join('')} ${start} ${level}` };
  },
};

/** `%21345.13245=...`: permutations of five things, applied one after the other, the first first (the word problem of S5). */
export const permutation: Task = {
  name: 'permutation',
  level: 'permutations',
  levels: [2, 8],
  generate(random, level) {
    const all = Array.from({ length: level }, () => random.order(5));
    const product = all.reduce((before, now) => now.map((i) => before[i]!));
    const show = (order: readonly number[]) => order.map((i) => i + 1).join('');
    const text = all.map(show).join('.');
    return { prompt: `%${text}=`, answer: show(product), key: text };
  },
};

/** Every task by name. */
export const tasks: Readonly<Record<string, Task>> = Object.fromEntries(
  [addition, parity, pointer, permutation].map((task) => [task.name, task]),
);
