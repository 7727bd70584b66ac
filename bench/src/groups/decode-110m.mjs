import { decoderJobs, KINDS } from './decoders.mjs';

export const title = 'A decoder of ~110 M parameters';
export const about =
  'A Llama-like decoder with random weights, the same for all peers: a prompt of 128 tokens, then greedy decoding. On two threads llama.cpp spins at barriers and collapses as soon as anything else runs on either core.';
export const threads = [1, 2];

export const jobs = (peers, count) => decoderJobs(peers, count, KINDS, '110m', { what: '110m', count: 32, repetitions: 2 });
