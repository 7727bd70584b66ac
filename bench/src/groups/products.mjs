// Shapes shared by the groups of matrix products.
import { loadPeer } from '../peers/index.mjs';

/** Jobs of one peer each: every kind of weights that it has and the group wants, over the shapes. */
export async function productJobs(peers, threads, kinds, shapes, budgetMs = 350) {
  const jobs = [];
  for (const peer of peers) {
    const has = (await loadPeer(peer)).kinds.gemm;
    const items = kinds
      .filter((kind) => has.includes(kind))
      .flatMap((kind) => shapes.map((shape) => ({ task: 'product', ...shape, kind, constantB: shape.constantB ?? true, budgetMs })));
    if (items.length > 0) jobs.push({ peer, threads, items });
  }
  return jobs;
}

export const limitJobs = (limits, threads) =>
  limits.map((limit) => ({ peer: 'limit', threads, items: [{ task: 'limit', limit, kind: 'limit' }] }));
