import { decoders, promptFor } from '../models/shapes.mjs';
import { openEmbedded } from '../models/unroll-embedded.mjs';
import { median } from '../statistics.mjs';

const EMBEDDED_PROMPT = [2, 3, 4, 5];

/** Microseconds by kernel of some work, and what a run without the clock around every kernel takes. */
async function profiled(device, work, repetitions) {
  const walls = [];
  for (let i = 0; i < repetitions; i++) walls.push(await work());
  const times = await device.profile(work);
  return { ms: median(walls), kernels: new Map(times.map(({ kernel, microseconds }) => [kernel, microseconds / 1000])) };
}

const listed = (kernels, total) =>
  [...kernels]
    .map(([kernel, ms]) => ({ kernel, share: Number((ms / total).toFixed(4)) }))
    .filter(({ share }) => share >= 0.005)
    .sort((a, b) => b.share - a.share);

/** The share of prefill and of decoding that passes inside kernels, and of which; the rest is the host's. */
export async function run({ device }, { model, kind, count, what }) {
  const decoder =
    model === 'embedded'
      ? await openEmbedded(device)
      : await (await import('../models/unroll-decoder.mjs')).openUnrollDecoder(device, { model, kind });
  const prompt = model === 'embedded' ? EMBEDDED_PROMPT : promptFor(decoders[model]);
  // What the engine has not compiled yet says nothing about the share: small models first give it time, as long runs do.
  const warm = model === '110m' ? 3 : 40;
  for (let i = 0; i < warm; i++) await decoder.run(prompt, count);
  const prefill = await profiled(device, async () => (await decoder.run(prompt, 1)).prefillMs, 5);
  const both = await profiled(device, async () => (await decoder.run(prompt, count)).decodeMs, 5);
  await decoder.close();
  const decode = new Map([...both.kernels].map(([kernel, ms]) => [kernel, ms - (prefill.kernels.get(kernel) ?? 0)]));
  const rows = [
    [`${what}, prefill`, prefill.ms, prefill.kernels],
    [`${what}, decode`, both.ms, decode],
  ];
  return rows.map(([name, ms, kernels]) => {
    const inside = [...kernels.values()].reduce((sum, one) => sum + one, 0);
    return { what: name, kind, unit: '% in kernels', value: Math.min(100, (100 * inside) / ms), ms, kernels: listed(kernels, ms) };
  });
}
