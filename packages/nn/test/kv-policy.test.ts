import { describe, expect, it } from 'vitest';
import { checkPolicy, parseKVPolicy, slotOf } from '../src/index.js';

const counts = { prelude: 2, core: 4, coda: 2 };
const core = (loop: number, layer: number) => ({ part: 'core' as const, loop, layer });

describe('slots', () => {
  it.each([
    ['full', [2, 6, 5 + 4 * 9, 2 + 4 * 40]],
    ['compress-s4', [2, 2, 5, 2]],
    ['compress-s8', [2, 6, 9, 2]],
    ['compress-r4', [2, 3, 11, 42]],
    ['compress-r2', [2, 4, 21, 82]],
    ['compress-anchor1', [2, 6, 37, 34]],
  ])('%s', (name, slots) => {
    const policy = parseKVPolicy(name);
    expect([core(0, 0), core(1, 0), core(9, 3), core(40, 0)].map((call) => slotOf(policy, counts, call))).toEqual(slots);
    expect(slotOf(policy, counts, { part: 'prelude', loop: 0, layer: 1 })).toBe(1);
    expect([0, 1].map((layer) => slotOf(policy, counts, { part: 'coda', loop: 0, layer }))).toEqual([-1, -2]);
  });
});

describe('names', () => {
  it.each([
    ['full', 'own', 'all'],
    ['latest-m4', 'latest', 'all'],
    ['available-m2', 'latest', 'all'],
    ['always-last', 'always-last', 'all'],
    ['skip', 'skip', 'all'],
    ['latest-m4-compress-s4', 'latest', 'modulo'],
    ['always-last-m4-compress-r2', 'always-last', 'div'],
    ['compress-s8', 'own', 'modulo'],
    ['compress-anchor', 'own', 'anchor'],
    ['skip-compress-anchor1', 'skip', 'anchor'],
  ])('%s', (name, lookup, kind) => {
    const policy = parseKVPolicy(name);
    expect([policy.lookup, policy.compression.kind]).toEqual([lookup, kind]);
  });

  it.each(['', 'latest-', 'compress', 'compress-s', 'latest-m4compress-s4', 'full-m4', 'newest', 'latest-m4-'])('refuses "%s"', (name) => {
    expect(() => parseKVPolicy(name)).toThrow(/unknown KV policy/);
  });

  it('refuses a modulo that mixes layers', () => {
    expect(() => checkPolicy(parseKVPolicy('compress-s6'), counts)).toThrow(/modulo 6 is not a multiple of the core's 4 layers/);
    expect(() => checkPolicy(parseKVPolicy('compress-s0'), counts)).toThrow(/whole number of layer calls from 1; got 0/);
  });
});
