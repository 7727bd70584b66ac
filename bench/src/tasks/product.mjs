import { allowedError, productError, uniform } from '../numbers.mjs';
import { median, timeCalls } from '../statistics.mjs';

/** Operations (or, for one row, weights) a second of a product A (M, K) B (N, K)^T, checked against f64. */
export async function run(session, item) {
  const { M, K, N, kind, what, budgetMs } = item;
  const a = uniform(M * K, 1);
  const b = uniform(N * K, 2);
  const product = await session.gemm(item, a, b);
  const error = productError(item, a, b, await product.result());
  if (!(error <= allowedError[kind])) {
    throw new Error(`wrong result: error ${error.toExponential(1)} where ${allowedError[kind]} is allowed`);
  }
  const ms = median(await timeCalls(product.run, { budgetMs }));
  await product.close();
  const operations = M === 1 ? N * K : 2 * M * N * K;
  return [{ what, kind, unit: M === 1 ? 'G weights/s' : 'GFLOPS', value: operations / ms / 1e6, ms, error }];
}
