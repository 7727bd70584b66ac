import { describe, expect, it } from 'vitest';
import { targetDepth } from '../src/index.js';

/** Runs the controller against a machine where a token costs `fixed` plus `slope` times its depth, in milliseconds. */
function simulate(
  depthOf: (index: number) => number,
  clock: { ms: number },
  tokens: number,
  cost: (depth: number, index: number) => number,
): number[] {
  return Array.from({ length: tokens }, (_, index) => {
    const depth = depthOf(index);
    clock.ms += cost(depth, index);
    return depth;
  });
}

describe('targetDepth', () => {
  it('finds the depth that a speed allows', () => {
    const clock = { ms: 0 };
    const depths = simulate(targetDepth({ tokensPerSecond: 20, most: 64, now: () => clock.ms }), clock, 60, (depth) => 10 + 2 * depth);
    // 50 ms a token: (50 - 10) / 2 = 20.
    for (const depth of depths.slice(30)) expect(Math.abs(depth - 20)).toBeLessThanOrEqual(2);
  });

  it('keeps a budget, and adapts when the machine slows down', () => {
    const clock = { ms: 0 };
    const controller = targetDepth({ budgetMs: 5000, tokens: 100, most: 64, now: () => clock.ms });
    const depths = simulate(controller, clock, 100, (depth, index) => (index === 0 ? 0 : (index < 50 ? 1 : 3) * (5 + depth)));
    expect(clock.ms).toBeGreaterThan(4300);
    expect(clock.ms).toBeLessThan(5700);
    expect(depths[40]!).toBeGreaterThan(2 * depths[95]!);
  });

  it('stays within its limits and refuses contradictory targets', () => {
    const clock = { ms: 0 };
    const depths = simulate(targetDepth({ tokensPerSecond: 1e6, least: 3, most: 9, now: () => clock.ms }), clock, 20, (depth) => depth);
    expect(Math.min(...depths)).toBe(3);
    const fast = { ms: 0 };
    expect(
      Math.max(...simulate(targetDepth({ tokensPerSecond: 0.001, least: 3, most: 9, now: () => fast.ms }), fast, 20, (depth) => depth)),
    ).toBe(9);
    expect(() => targetDepth({})).toThrow(/give tokensPerSecond, or budgetMs/);
    expect(() => targetDepth({ budgetMs: 3 })).toThrow(/needs tokens/);
    expect(() => targetDepth({ tokensPerSecond: 3, least: 4, most: 2 })).toThrow(/least <= most/);
  });
});
