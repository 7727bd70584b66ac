import { decoderJobs, KINDS } from './decoders.mjs';

export const title = 'Memory while loading';
export const about =
  'Resident memory at its peak while a decoder of ~110 M parameters is loaded from a local file (for unroll, an f32 file quantised on the way).';
export const threads = [1];

export const jobs = (peers, count) =>
  decoderJobs(
    peers.filter((peer) => peer !== 'tfjs-wasm' && peer !== 'jax-js'),
    count,
    KINDS,
    '110m',
    { task: 'memory', what: '110m' },
  );
