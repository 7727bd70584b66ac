import { decoders, promptFor } from '../models/shapes.mjs';
import { median } from '../statistics.mjs';

/**
 * Tokens a second of prefill and of greedy decoding behind it, medians of some repetitions behind `warm` others that give an engine time to
 * compile, and the first tokens.
 */
export async function run(session, { model, kind, count, repetitions, warm = 0, what }) {
  const prompt = promptFor(decoders[model]);
  const began = performance.now();
  const decoder = await session.decoder({ model, kind });
  const loadMs = performance.now() - began;
  await decoder.run(prompt, Math.min(8, count));
  for (let i = 0; i < warm; i++) await decoder.run(prompt, count);
  const runs = [];
  for (let i = 0; i < repetitions; i++) runs.push(await decoder.run(prompt, count));
  await decoder.close();
  const rates = (of) => median(runs.map(of));
  const tokens = runs[0].tokens.slice(0, 8);
  return [
    { what: `${what}, decode`, kind, unit: 'tok/s', value: rates(({ decodeMs }) => ((count - 1) / decodeMs) * 1000), tokens, loadMs },
    { what: `${what}, prefill`, kind, unit: 'tok/s', value: rates(({ prefillMs }) => (prompt.length / prefillMs) * 1000) },
  ];
}
