import { decoders, parameters } from '../models/shapes.mjs';

const mebi = 2 ** 20;

/** Resident memory that loading a decoder takes at its peak, over what the process had before. */
export async function run(session, { model, kind, what }) {
  await session.prepare?.();
  const before = process.memoryUsage.rss();
  const decoder = await session.decoder({ model, kind });
  // Kilobytes on every system.
  const peak = process.resourceUsage().maxRSS * 1024;
  const rows = [{ what: `${what}, peak over start`, kind, unit: 'MiB', value: (peak - before) / mebi }];
  const weights = session.device?.memory().bytes.weights;
  if (weights !== undefined) {
    const largest = Math.max(...parameters(decoders[model]).map(([, shape]) => shape.reduce((a, b) => a * b, 4)));
    rows.push(
      { what: `${what}, weights`, kind, unit: 'MiB', value: weights / mebi },
      { what: `${what}, peak less one stored tensor / weights`, kind, unit: 'x', value: (peak - before - largest) / weights },
    );
  }
  await decoder.close();
  return rows;
}
