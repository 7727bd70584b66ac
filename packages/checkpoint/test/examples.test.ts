import { describe, expect, it, vi } from 'vitest';

// Generous, for machines that are busy with other things.
vi.setConfig({ testTimeout: 30_000 });

describe('examples of the README', () => {
  it('first-look prints the tensors', async () => {
    const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
    const { values } = await import('../examples/first-look.js');
    expect(values).toEqual(Float32Array.of(1, 2, 3, 0.5));
    expect(log.mock.calls).toEqual([['steps', 'I32', []], ['wte.weight', 'BF16', [2, 2]], [values]]);
    log.mockRestore();
  });

  it('folder-to-device writes shards and loads three of four tensors', async () => {
    const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
    const { device, tensors, written } = await import('../examples/folder-to-device.js');
    expect(written.map(({ file }) => file)).toEqual([
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
      'model.safetensors.index.json',
    ]);
    expect(Object.keys(tensors)).toEqual(['h.0.weight', 'h.1.weight', 'h.2.weight']);
    expect(new Set(await tensors['h.2.weight']?.data())).toEqual(new Set([2]));
    expect(log.mock.calls.at(-2)).toEqual(['49152 of 49152 bytes']);
    expect(log.mock.calls.at(-1)).toEqual(['missing-file', 'model.safetensors']);
    device.dispose();
    log.mockRestore();
  });
});
