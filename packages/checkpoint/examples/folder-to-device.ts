// #region folder-to-device
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CheckpointError, fromFloat32, loadTensors, openCheckpoint, writeCheckpoint } from '@unroll/checkpoint';
import { folderFiles, folderSinks } from '@unroll/checkpoint/node';
import { createCpuDevice } from '@unroll/tensor/cpu';

const folder = await mkdtemp(join(tmpdir(), 'model-'));

// Write: one tensor in memory at a time, nothing visible before all of it is on the disk.
const written = await writeCheckpoint(
  folderSinks(folder),
  Array.from({ length: 4 }, (_, layer) => ({
    name: `h.${layer}.weight`,
    dtype: 'F32' as const,
    shape: [64, 64],
    bytes: () => fromFloat32(new Float32Array(64 * 64).fill(layer), 'F32'),
  })),
  { maxShardBytes: 40_000 },
);
console.log(written.map(({ file }) => file)); // two shards and their index

// Load: through one buffer, as large as the largest tensor.
const device = await createCpuDevice();
const checkpoint = await openCheckpoint(folderFiles(folder));
const tensors = await loadTensors(device, checkpoint, {
  filter: ({ name }) => name !== 'h.3.weight',
  onProgress: ({ loadedBytes, totalBytes }) => console.log(`${loadedBytes} of ${totalBytes} bytes`),
});
await checkpoint.close();

// Errors say what and where.
try {
  await openCheckpoint(folderFiles(folder), { weights: 'model.safetensors' });
} catch (error) {
  if (CheckpointError.is(error)) console.log(error.code, error.file); // missing-file model.safetensors
}
// #endregion

await rm(folder, { recursive: true });

export { device, tensors, written };
