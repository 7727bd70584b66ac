import type { KernelTime } from '../profile.js';
import { type GpuBuffer, type GpuCommandEncoder, type GpuDevice, type GpuQuerySet, mapRead, usage } from './gpu.js';

// The most that WebGPU allows in a query set; two a dispatch.
const capacity = 4096;

/** Gives every dispatch a pass of its own with a timestamp at both ends. */
export class Profiler {
  readonly #kernels: string[] = [];
  readonly #set: GpuQuerySet;
  readonly #resolved: GpuBuffer;
  readonly #staging: GpuBuffer;
  /** Dispatches beyond what can be measured at once. */
  missed = 0;

  constructor(gpu: GpuDevice) {
    this.#set = gpu.createQuerySet({ label: 'unroll timestamps', type: 'timestamp', count: capacity });
    this.#resolved = gpu.createBuffer({ label: 'unroll timestamps', size: capacity * 8, usage: usage.queryResolve | usage.copySrc });
    this.#staging = gpu.createBuffer({ label: 'unroll timestamps', size: capacity * 8, usage: usage.mapRead | usage.copyDst });
  }

  next(kernel: string): { querySet: GpuQuerySet; beginningOfPassWriteIndex: number; endOfPassWriteIndex: number } | undefined {
    const at = this.#kernels.length * 2;
    if (at === capacity) {
      this.missed++;
      return undefined;
    }
    this.#kernels.push(kernel);
    return { querySet: this.#set, beginningOfPassWriteIndex: at, endOfPassWriteIndex: at + 1 };
  }

  /** Encodes the way of the timestamps to the host. */
  resolve(encoder: GpuCommandEncoder): void {
    const count = this.#kernels.length * 2;
    if (count === 0) return;
    encoder.resolveQuerySet(this.#set, 0, count, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, this.#staging, 0, count * 8);
  }

  /** The times by kernel, the longest first; call it after the submit of `resolve`. */
  async times(): Promise<KernelTime[]> {
    await this.#staging.mapAsync(mapRead, 0, capacity * 8);
    const stamps = new BigInt64Array(this.#staging.getMappedRange(0, capacity * 8).slice(0));
    const totals = new Map<string, { dispatches: number; microseconds: number }>();
    for (const [i, kernel] of this.#kernels.entries()) {
      const total = totals.get(kernel) ?? { dispatches: 0, microseconds: 0 };
      total.dispatches++;
      total.microseconds += Math.max(0, Number(stamps[2 * i + 1]! - stamps[2 * i]!)) / 1000;
      totals.set(kernel, total);
    }
    return [...totals].map(([kernel, total]) => ({ kernel, ...total })).sort((a, b) => b.microseconds - a.microseconds);
  }

  destroy(): void {
    this.#set.destroy();
    this.#resolved.destroy();
    this.#staging.destroy();
  }
}
