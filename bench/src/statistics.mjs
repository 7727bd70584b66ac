/** @param {readonly number[]} list */
export const median = (list) => {
  const sorted = [...list].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

/** Median, least and greatest of some numbers. */
export const summary = (list) => ({ median: median(list), min: Math.min(...list), max: Math.max(...list) });

// A clock of about a microsecond needs calls of some hundred microseconds to be read off with less than a percent of error.
const LEAST_BATCH_MS = 1;

/**
 * Milliseconds of a call, one number for each batch of calls, until `budgetMs` is used up. Warmed up first: engines compile hot code anew
 * after some calls.
 *
 * @param {() => unknown} run may return a promise
 */
export async function timeCalls(run, { budgetMs = 350, warmMs = 150, least = 3 } = {}) {
  const once = async (count) => {
    const started = performance.now();
    for (let i = 0; i < count; i++) {
      const pending = run();
      if (pending instanceof Promise) await pending;
    }
    return (performance.now() - started) / count;
  };
  const began = performance.now();
  let ms = await once(1);
  for (let i = 0; i < 2 || performance.now() - began < warmMs; i++) ms = await once(1);
  const batch = Math.max(1, Math.ceil(LEAST_BATCH_MS / Math.max(ms, 1e-6)));
  const list = [];
  const start = performance.now();
  while (list.length < least || performance.now() - start < budgetMs) list.push(await once(batch));
  return list;
}
