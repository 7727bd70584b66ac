import type { Device } from './device.js';
import { OutOfMemoryError } from './errors.js';

/** A run of which one allocation failed, and what was left of it. */
export interface Leak {
  /** Which of the run's allocations failed, from 1. */
  readonly allocation: number;
  /** Buffers that were there after it and not before it. */
  readonly buffers: number;
  /** The calls that led to the allocation, innermost first. */
  readonly calls: readonly string[];
}

/**
 * Runs `f` time and again, each time with another of its allocations refused by an OutOfMemoryError, and gives the runs that left buffers on
 * the device. At most `most` allocations are refused, spread over the run; 1000 when absent. Throws what `f` throws as long as nothing is
 * refused, and any other error that comes of a refusal: it must reach whoever asked.
 */
export async function findLeaks(device: Device, f: () => unknown, most = 1000): Promise<Leak[]> {
  // Behind the class's back, which has no such place for anybody else.
  const open = device as unknown as { allocate: (bytes: number) => unknown };
  const allocate = open.allocate;
  let count = 0;
  let refused = Number.POSITIVE_INFINITY;
  const refusals: Error[] = [];
  open.allocate = (bytes) => {
    if (++count !== refused) return allocate.call(device, bytes);
    refusals.push(new OutOfMemoryError(`findLeaks: allocation ${refused} was refused, of ${bytes} bytes`));
    throw refusals[refusals.length - 1];
  };
  const leaks: Leak[] = [];
  try {
    // What is made once and kept is made by now.
    await f();
    count = 0;
    await f();
    const total = count;
    for (let turn = 0; turn < Math.min(most, total); turn++) {
      refused = 1 + Math.floor((turn * total) / Math.min(most, total));
      count = 0;
      const before = device.memory().buffers;
      try {
        await f();
      } catch (error) {
        if (error !== refusals[refusals.length - 1]) throw error;
      }
      // Reads that were under way have ended.
      await new Promise((resolve) => setTimeout(resolve, 0));
      const buffers = device.memory().buffers - before;
      if (buffers === 0) continue;
      const calls = (refusals[refusals.length - 1]?.stack ?? '').split('\n').slice(2);
      leaks.push({ allocation: refused, buffers, calls: calls.map((line) => line.trim()) });
    }
  } finally {
    Reflect.deleteProperty(open, 'allocate');
  }
  return leaks;
}
