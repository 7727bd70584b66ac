import { loadPeer } from '../peers/index.mjs';

export const title = 'Training';
export const about =
  "A training step of the default model's recipe at its mean depth, beside the same model in plain torch; of torch, the faster of two layouts of the batch (packed, padded).";
export const threads = [1];

const items = [
  { task: 'train', batch: 'default', what: 'default batch', seconds: 4 },
  { task: 'train', batch: 'row', what: 'one sequence of 32 tokens', seconds: 2 },
];

/** Each library with one thread and with two; the peers that can train. A process for each batch, as memory is measured. */
export async function jobs(peers) {
  const list = [];
  for (const item of items) {
    for (const threads of [1, 2]) {
      for (const peer of peers) if ((await loadPeer(peer)).kinds.train) list.push({ peer, threads, items: [item] });
    }
  }
  return list;
}
