import { OptionError } from './errors.js';

const rotations = [13, 15, 26, 6, 17, 29, 16, 24] as const;

/**
 * Threefry-2x32 with 20 rounds: two random 32-bit words as a function of key and counter, with no state (Salmon, Moraes, Dror, Shaw 2011).
 * The definition that the kernels are compared with.
 */
export function threefry2x32(key: readonly [number, number], counter: readonly [number, number]): [number, number] {
  const ks = [key[0] >>> 0, key[1] >>> 0, (key[0] ^ key[1] ^ 0x1bd11bda) >>> 0];
  let x0 = (counter[0] + ks[0]!) >>> 0;
  let x1 = (counter[1] + ks[1]!) >>> 0;
  for (let round = 0; round < 20; round++) {
    const r = rotations[round % 8]!;
    x0 = (x0 + x1) >>> 0;
    x1 = (((x1 << r) | (x1 >>> (32 - r))) ^ x0) >>> 0;
    if (round % 4 === 3) {
      const s = (round + 1) / 4;
      x0 = (x0 + ks[s % 3]!) >>> 0;
      x1 = (x1 + ks[(s + 1) % 3]! + s) >>> 0;
    }
  }
  return [x0, x1];
}

/** What random numbers are for; each use has a stream of its own, so that one seed never gives the same numbers to two uses. */
export type RandomStream = 'state' | 'sampling' | 'init' | 'noise';
const streams: Record<RandomStream, number> = { state: 1, sampling: 2, init: 3, noise: 4 };

/** The two key words of a seed in a stream, as i32 values for the keys of `randomRows`. Throws OptionError unless the seed is a whole number from 0 to 2^53 - 1. */
export function randomKey(seed: number, stream: RandomStream): [number, number] {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new OptionError(`randomKey: seed must be a whole number from 0 to ${Number.MAX_SAFE_INTEGER}; got ${seed}`);
  }
  if (!Object.hasOwn(streams, stream))
    throw new OptionError(`randomKey: stream must be one of ${Object.keys(streams).join(', ')}; got ${stream}`);
  // The upper word of a seed has at most 21 bits: the stream takes bits above them.
  return [seed | 0, Math.floor(seed / 2 ** 32) | (streams[stream] << 24)];
}
