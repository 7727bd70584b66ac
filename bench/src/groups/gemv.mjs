import { limitJobs, productJobs } from './products.mjs';

export const title = 'GEMV';
export const about =
  'One row times a constant weight (K, N): what a token of decoding does. 4096 x 4096 in f32 is 64 MiB and fits no cache; 1024 x 4096 is 16 MiB.';
export const threads = [1, 2];

const shapes = [
  { what: '1 x 4096 x 4096', M: 1, K: 4096, N: 4096 },
  { what: '1 x 1024 x 4096', M: 1, K: 1024, N: 4096 },
];

export const jobs = async (peers, count) => [
  ...limitJobs(['stream', 'int16-dot'], count),
  ...(await productJobs(peers, count, ['f32', 'q8', 'q4', 'dynq8'], shapes, 250)),
];

export const limitOf = ({ kind }) => (kind === 'f32' ? ['stream'] : ['int16-dot']);
