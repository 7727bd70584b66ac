import type { Command } from '../command.js';

interface Entry {
  readonly description: string;
  readonly load: () => Promise<{ readonly command: Command }>;
}

/** Commands by name. Each is loaded when it is called, so that a start reads no more than it needs. */
export const commands: Readonly<Record<string, Entry>> = {
  generate: { description: 'continue a text', load: () => import('./generate.js') },
  chat: { description: 'talk with a model', load: () => import('./chat.js') },
  inspect: { description: 'parameters, cost by depth and tensors of a checkpoint', load: () => import('./inspect.js') },
  convert: { description: 'matrices of a checkpoint as bf16, f16, q8 or q4', load: () => import('./convert.js') },
  'make-checkpoint': { description: 'a checkpoint in the public layout with random weights', load: () => import('./make-checkpoint.js') },
  estimate: { description: 'bytes, cost and likely speed of a model here', load: () => import('./estimate.js') },
  eval: { description: 'exact-match accuracy on a file of problems, by depth', load: () => import('./eval.js') },
  compare: { description: 'strategies side by side: accuracy, recurrences, passes, memory, speed', load: () => import('./compare.js') },
  train: { description: 'train a model from a config file', load: () => import('./train.js') },
  parity: { description: "compare with a reference implementation's recorded outputs", load: () => import('./parity.js') },
  bench: { description: 'what a generated token costs, on WebGPU or the CPU, as JSON', load: () => import('./bench.js') },
};
