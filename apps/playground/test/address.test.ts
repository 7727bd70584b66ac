import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ADDRESS_PACE, paced } from '../src/state/address.js';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test('a value is written at once; in a flood the latest is, and no 30 seconds have more than 100', () => {
  const written: { value: number; at: number }[] = [];
  const put = paced<number>((value) => written.push({ value, at: performance.now() }), ADDRESS_PACE);
  put(-1);
  expect(written.map(({ value }) => value)).toEqual([-1]);
  for (let i = 0; i < 6000; i++) {
    put(i);
    vi.advanceTimersByTime(16);
  }
  vi.advanceTimersByTime(ADDRESS_PACE.everyMs);
  expect(written.at(-1)!.value).toBe(5999);
  const most = Math.max(...written.map(({ at }) => written.filter((other) => other.at >= at && other.at < at + 30_000).length));
  expect(most).toBeGreaterThan(60);
  expect(most).toBeLessThanOrEqual(100);
  // After a rest there is room again.
  vi.advanceTimersByTime(ADDRESS_PACE.everyMs);
  put(7);
  expect(written.at(-1)!.value).toBe(7);
});
