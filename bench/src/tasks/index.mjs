/** What a sample process can do: each module's `run(session, item, job)` gives rows of { what, kind, unit, value, ... }. */
export const loadTask = {
  product: () => import('./product.mjs'),
  limit: () => import('./limit.mjs'),
  decoder: () => import('./decoder.mjs'),
  memory: () => import('./memory.mjs'),
  profile: () => import('./profile.mjs'),
  quality: () => import('./quality.mjs'),
  start: () => import('./start.mjs'),
  size: () => import('./size.mjs'),
  train: () => import('./train.mjs'),
};
