export const title = 'Quality of quantised weights';
export const about =
  'The trained model `reckoner` on its held-out problems, at every depth from 1 to 64, with zero initial states; accuracy also by `unroll eval --dtype q8 --depths 1,2,4`. Top-1 agreement is over the tokens of the right answers. The last two kinds round the matrices alone, by groups of 32: `q4` of the library (symmetric, 4.5 bits) and 4 bits with a zero point for each group (5 bits).';
export const threads = [1];
/** Other work on the machine changes nothing. */
export const timed = false;

export const jobs = (peers) =>
  peers.filter((peer) => peer === 'unroll').map((peer) => ({ peer, threads: 1, items: [{ task: 'quality', model: 'reckoner' }] }));
