// Writes packages/pretrained/models/reckoner/problems.jsonl: held-out problems of each task, so many of each level, from the built @unroll/train.
import { writeFileSync } from 'node:fs';
import { problemFor, Random, tasks } from '@unroll/train';

const EACH = 30;
const range = (least, most, step = 1) => Array.from({ length: (most - least) / step + 1 }, (_, i) => least + i * step);
/** Levels by task, up to harder ones than the model was trained on; its card tells them apart. */
const LEVELS = {
  addition: range(1, 6),
  parity: range(6, 24, 2),
  pointer: [...range(1, 8), 10, 12],
  permutation: [...range(5, 12), 14, 16],
  chain: range(4, 24, 2),
};

const lines = Object.entries(LEVELS).flatMap(([name, levels]) =>
  levels.flatMap((level) => {
    const seen = new Map();
    for (let i = 0; seen.size < EACH && i < 40 * EACH; i++) {
      const { prompt, answer, key } = problemFor(tasks[name], new Random(level, 'validation', i), level, true);
      if (!seen.has(key)) seen.set(key, { prompt, answer, task: name, level });
    }
    return [...seen.values()];
  }),
);
const file = new URL('../../../packages/pretrained/models/reckoner/problems.jsonl', import.meta.url);
writeFileSync(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
console.log(`wrote ${lines.length} problems`);
