// Decoders as jobs: a process for each peer and kind of weights, since some hold all of a model's memory to the end.
import { loadPeer } from '../peers/index.mjs';

// At 3 to 15 tokens a second a full run would take as long as all other peers together.
const SLOW = { 'onnxruntime-web': ['q8', 'q4'] };

export async function decoderJobs(peers, threads, kinds, model, { task = 'decoder', count, repetitions, warm = 0, what }) {
  const jobs = [];
  for (const peer of peers) {
    const has = (await loadPeer(peer)).kinds.decoder;
    for (const kind of kinds.filter((one) => has.includes(one))) {
      if (task === 'decoder' && model === '110m' && SLOW[peer]?.includes(kind)) continue;
      const fewer = SLOW[peer]?.includes(kind) && model !== 'tiny';
      jobs.push({
        peer,
        threads,
        items: [{ task, model, kind, what, count: fewer ? 8 : count, repetitions: fewer ? 1 : repetitions, warm }],
      });
    }
  }
  return jobs;
}

export const KINDS = ['f32', 'q8', 'q4', 'dynq8'];
