import { limitJobs, productJobs } from './products.mjs';

export const title = 'GEMM with quantised weights';
export const about =
  'A (128, 1024) in f32 times a constant weight (1024, 4096) kept in 8 or 4 bits. dynq8: one scale for the whole weight (DynamicQuantizeLinear and MatMulInteger).';
export const threads = [1, 2];

export const jobs = async (peers, count) => [
  ...limitJobs(['int16-dot', 'int8-relaxed-dot'], count),
  ...(await productJobs(peers, count, ['q8', 'q4', 'dynq8'], [{ what: '128 x 1024 x 4096', M: 128, K: 1024, N: 4096 }])),
];

export const limitOf = () => ['int16-dot'];
