import type { KernelTime } from '../profile.js';
import { type KernelName, type Kernels, kernelNames } from './kernels.js';

/** Microseconds between two looks at the clock with nothing between. */
function clockCost(): number {
  const costs = Array.from({ length: 101 }, () => {
    const start = performance.now();
    let end = start;
    for (let i = 0; i < 100; i++) end = performance.now();
    return (end - start) * 10;
  });
  return costs.sort((a, b) => a - b)[50]!;
}

/** Times every kernel call, and gives the clock's own time back. */
export class CpuProfiler {
  readonly kernels: Kernels;
  readonly #times = new Map<KernelName, { calls: number; milliseconds: number }>();
  readonly #clock = clockCost();

  constructor(kernels: Kernels) {
    const timed = (name: KernelName) => {
      const kernel = kernels[name] as unknown as (...args: number[]) => number | undefined;
      return (...args: number[]) => {
        const start = performance.now();
        const result = kernel(...args);
        this.#add(name, performance.now() - start);
        return result;
      };
    };
    this.kernels = Object.fromEntries(kernelNames.map((name) => [name, timed(name)])) as unknown as Kernels;
  }

  /** The largest first. */
  times(): KernelTime[] {
    return [...this.#times]
      .map(([kernel, { calls, milliseconds }]) => ({
        kernel,
        dispatches: calls,
        microseconds: Math.max(0, milliseconds * 1000 - calls * this.#clock),
      }))
      .sort((a, b) => b.microseconds - a.microseconds);
  }

  #add(name: KernelName, milliseconds: number): void {
    const entry = this.#times.get(name) ?? { calls: 0, milliseconds: 0 };
    entry.calls++;
    entry.milliseconds += milliseconds;
    this.#times.set(name, entry);
  }
}
