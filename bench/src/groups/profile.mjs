export const title = 'Where the time of unroll goes';
export const about =
  'Time inside the kernels, as `device.profile` measures it, as a share of the time that the same run takes without it; the rest is JavaScript. The embedded model runs at its mean depth; small models are measured behind 40 texts, when the engine has compiled what it will.';
export const threads = [1];

const items = [
  { model: 'embedded', kind: 'f32', what: 'embedded', count: 56 },
  { model: 'tiny', kind: 'f32', what: 'tiny', count: 100 },
  ...['f32', 'q8', 'q4'].map((kind) => ({ model: '110m', kind, what: '110m', count: 33 })),
];

export const jobs = (peers) =>
  peers
    .filter((peer) => peer === 'unroll')
    .flatMap((peer) => items.map((item) => ({ peer, threads: 1, items: [{ task: 'profile', ...item }] })));
