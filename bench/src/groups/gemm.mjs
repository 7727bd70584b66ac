import { limitJobs, productJobs } from './products.mjs';

export const title = 'f32 GEMM';
export const about =
  'A (M, K) times B (K, N) in f32. In the squares both operands are fed to each call, in the last B is a constant weight.';
export const threads = [1, 2];

const shapes = [
  ...[256, 512, 1024].map((n) => ({ what: `${n} x ${n} x ${n}`, M: n, K: n, N: n, constantB: false })),
  { what: '128 x 1024 x 4096', M: 128, K: 1024, N: 4096 },
];

export const jobs = async (peers, count) => [
  ...limitJobs(['f32-plain', 'f32-relaxed'], count),
  ...(await productJobs(peers, count, ['f32'], shapes)),
];

/** The limit that a row is a share of. */
export const limitOf = () => ['f32-plain', 'f32-relaxed'];
