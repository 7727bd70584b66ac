import { OutOfMemoryError } from '../errors.js';
import type { Encoder } from './encoder.js';
import { type GpuBuffer, type GpuDevice, mapRead, usage } from './gpu.js';
import type { PooledBuffer } from './pool.js';

/** Size of the device's fault record: site, value, place. */
export const faultBytes = 12;
const minBytes = 256;
// Larger staging buffers are not kept: they would hold memory for a read that may never come again.
const keepBytes = 1 << 22;

export interface ReadResult {
  readonly bytes: ArrayBuffer;
  /** The device's fault record; site 0 is no fault. */
  readonly site: number;
  readonly value: number;
  readonly place: number;
}

/**
 * Copies values to the host without holding up the calling thread or later work: each read has a staging buffer of its own, and all reads
 * begun in one turn of the event loop share a submit.
 */
export class Readback {
  readonly #waiting: GpuBuffer[] = [];
  #submitted: Promise<void> | null = null;
  reads = 0;

  constructor(
    readonly device: GpuDevice,
    readonly encoder: Encoder,
  ) {}

  async read(of: PooledBuffer, bytes: number): Promise<ReadResult> {
    const staging = this.#acquire(bytes + faultBytes);
    of.touched = this.encoder.batch;
    this.encoder.copy(of.buffer, 0, staging, 0, bytes);
    this.encoder.copy(this.encoder.faultBuffer, 0, staging, bytes, faultBytes);
    this.reads++;
    await this.#submitSoon();
    try {
      await staging.mapAsync(mapRead, 0, bytes + faultBytes);
    } catch (error) {
      staging.destroy();
      throw error;
    }
    const mapped = staging.getMappedRange(0, bytes + faultBytes).slice(0);
    staging.unmap();
    this.#release(staging);
    const [site, value, place] = new Int32Array(mapped, bytes, 3);
    return { bytes: mapped, site: site!, value: value!, place: place! };
  }

  destroy(): void {
    for (const staging of this.#waiting) staging.destroy();
    this.#waiting.length = 0;
  }

  #submitSoon(): Promise<void> {
    this.#submitted ??= Promise.resolve().then(() => {
      this.#submitted = null;
      this.encoder.flush();
    });
    return this.#submitted;
  }

  #acquire(bytes: number): GpuBuffer {
    const size = 2 ** Math.ceil(Math.log2(Math.max(minBytes, bytes)));
    const at = this.#waiting.findIndex((staging) => staging.size === size);
    if (at >= 0) return this.#waiting.splice(at, 1)[0]!;
    const descriptor = { label: 'unroll readback', size: size <= keepBytes ? size : bytes, usage: usage.mapRead | usage.copyDst };
    return this.encoder.failures().scoped(
      'out-of-memory',
      () => this.device.createBuffer(descriptor),
      (message) =>
        new OutOfMemoryError(
          `webgpu device: the driver has no ${descriptor.size} bytes to read a tensor back; read it in slices. The driver says: ${message}`,
        ),
    );
  }

  #release(staging: GpuBuffer): void {
    if (staging.size <= keepBytes && this.#waiting.length < 8) this.#waiting.push(staging);
    else staging.destroy();
  }
}
