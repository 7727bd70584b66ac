import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type LoadDevice, loadTensors, openCheckpoint, writeCheckpoint } from '../src/index.js';
import { folderFiles, folderSinks } from '../src/node.js';

// Generous, for machines that are busy with other things.
vi.setConfig({ testTimeout: 30_000 });

const TENSORS = 24;
const TENSOR_BYTES = 4 * 1024 * 1024;
// Headers, file handles and what the test runner itself allocates meanwhile.
const SLACK = 3 * 1024 * 1024;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'unroll-memory-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe(`a checkpoint of ${TENSORS} tensors of 4 MiB`, () => {
  it('is written and loaded with the memory of one', async () => {
    const buffer = new Uint8Array(TENSOR_BYTES);
    const before = process.memoryUsage().arrayBuffers;
    let peak = 0;
    const measure = (): void => {
      peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
    };
    await writeCheckpoint(
      folderSinks(folder),
      Array.from({ length: TENSORS }, (_, at) => ({
        name: `t${at}`,
        dtype: 'F32' as const,
        shape: [TENSOR_BYTES / 4],
        bytes: () => {
          measure();
          return buffer.fill(at);
        },
      })),
      { maxShardBytes: 8 * TENSOR_BYTES },
    );
    expect(peak).toBeLessThan(SLACK);

    peak = 0;
    const sums: number[] = [];
    const device: LoadDevice<{ dispose(): void }> = {
      fromBytes: (bytes) => {
        measure();
        sums.push(bytes[0] as number, bytes[bytes.length - 1] as number);
        return { dispose: () => undefined };
      },
    };
    const checkpoint = await openCheckpoint(folderFiles(folder));
    expect(checkpoint.files.length).toBe(3);
    await loadTensors(device, checkpoint, { onProgress: measure });
    await checkpoint.close();
    expect(sums.length).toBe(2 * TENSORS);
    expect(peak).toBeGreaterThanOrEqual(TENSOR_BYTES);
    expect(peak).toBeLessThan(TENSOR_BYTES + SLACK);
  });
});
