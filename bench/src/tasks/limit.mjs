import { measureLimit } from '../limits/measure.mjs';
import { median } from '../statistics.mjs';

/** A limit of the machine: the rate of the fastest half of the rounds, which other work disturbed least. */
export async function run(_, { limit }, { threads }) {
  const rates = (await measureLimit(limit, threads)).sort((x, y) => y - x);
  return [
    {
      what: limit,
      kind: 'limit',
      unit: limit === 'stream' ? 'GB/s' : 'GFLOPS',
      value: median(rates.slice(0, Math.ceil(rates.length / 2))),
    },
  ];
}
