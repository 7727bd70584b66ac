import { decoderJobs, KINDS } from './decoders.mjs';

export const title = 'Cost of a token without arithmetic';
export const about =
  'A decoder of 0.5 M parameters and 2 layers, behind 5,000 tokens that give every engine time to compile: what is left is what a library spends on calls.';
export const threads = [1];

export const jobs = (peers, count) => decoderJobs(peers, count, KINDS, 'tiny', { what: 'tiny', count: 64, repetitions: 41, warm: 80 });
