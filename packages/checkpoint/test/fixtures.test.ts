import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { describe, expect, it, vi } from 'vitest';
import { bytesSource, encodeSafetensors, fromFloat32, loadTensors, openCheckpoint, openSafetensors, toFloat32 } from '../src/index.js';
import { folderFiles } from '../src/node.js';

// Generous, for machines that are busy with other things.
vi.setConfig({ testTimeout: 30_000 });

// Checkpoints of the reference implementation. They are given beside the repository, not in it.
const FIXTURES = join(import.meta.dirname, '../../../../shared/fixtures');
const present = existsSync(FIXTURES);
if (!present)
  console.warn(`NOT TESTED: the reference's own safetensors files, because there is no folder shared/fixtures beside the repository.`);

describe.skipIf(!present)('files of the reference implementation', async () => {
  const folders = present ? (await readdir(FIXTURES, { withFileTypes: true })).filter((entry) => entry.isDirectory()) : [];

  for (const { name } of folders) {
    it(`${name}: every file opens, and its tensors survive our writer`, async () => {
      const files = folderFiles(join(FIXTURES, name));
      const weights = ((await files.list?.()) ?? []).filter((file) => file.endsWith('.safetensors'));
      expect(weights.length).toBeGreaterThan(1);
      for (const file of weights) {
        const checkpoint = await openCheckpoint(files, { weights: file });
        expect(checkpoint.names.length).toBeGreaterThan(0);
        const tensors = Array.from(checkpoint.entries.values(), (entry) => ({ ...entry, bytes: () => checkpoint.read(entry.name) }));
        const again = await openSafetensors(bytesSource(await encodeSafetensors(tensors)));
        for (const entry of checkpoint.entries.values()) {
          expect(again.entries.get(entry.name)).toMatchObject({ dtype: entry.dtype, shape: entry.shape });
          expect(Buffer.compare(await again.read(entry.name), await checkpoint.read(entry.name))).toBe(0);
        }
        await checkpoint.close();
      }
    });

    it(`${name}: bf16 weights are the f32 ones, rounded to nearest`, async () => {
      const files = folderFiles(join(FIXTURES, name));
      const full = await openCheckpoint(files);
      const half = await openCheckpoint(files, { weights: 'model-bf16.safetensors' });
      expect(half.names).toEqual(full.names);
      for (const tensor of full.names) {
        const rounded = fromFloat32(toFloat32(await full.read(tensor), 'F32'), 'BF16');
        expect([tensor, Buffer.compare(rounded, await half.read(tensor))]).toEqual([tensor, 0]);
      }
      await Promise.all([full.close(), half.close()]);
    });

    it(`${name}: bf16 loads to the same bits as its values stored as F32`, async () => {
      const half = await openCheckpoint(folderFiles(join(FIXTURES, name)), { weights: 'model-bf16.safetensors' });
      const widened = await openSafetensors(
        bytesSource(
          await encodeSafetensors(
            Array.from(half.entries.values(), ({ name: tensor, shape }) => ({
              name: tensor,
              dtype: 'F32' as const,
              shape,
              bytes: async () => fromFloat32(toFloat32(await half.read(tensor), 'BF16'), 'F32'),
            })),
          ),
        ),
      );
      const device = await createCpuDevice();
      const [left, right] = [await loadTensors(device, half), await loadTensors(device, widened)];
      for (const tensor of half.names) {
        const [a, b] = [await left[tensor]?.data(), await right[tensor]?.data()];
        expect(new Uint32Array((a as Float32Array).slice().buffer)).toEqual(new Uint32Array((b as Float32Array).slice().buffer));
      }
      device.dispose();
      await half.close();
    });
  }

  it('adder: the header agrees with config.json', async () => {
    const config = JSON.parse(await readFile(join(FIXTURES, 'adder', 'config.json'), 'utf8')) as { n_embd: number };
    const checkpoint = await openCheckpoint(folderFiles(join(FIXTURES, 'adder')));
    expect(checkpoint.entries.get('transformer.ln_f.weight')?.shape).toEqual([config.n_embd]);
    await checkpoint.close();
  });
});
