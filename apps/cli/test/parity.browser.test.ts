import { bytesFiles, type FileSet, openCheckpoint } from '@unroll/checkpoint';
import { loadRecurrentModel, type RecurrentModel } from '@unroll/recurrent';
import type { Device } from '@unroll/tensor';
import { createWebGPUDevice, type GpuLike } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Check } from '../src/parity/check.js';
import { openFixture } from '../src/parity/fixture.js';
import { compareGenerations } from '../src/parity/generations.js';
import { compareTensors } from '../src/parity/tensors.js';

// What `unroll parity DIR --device webgpu` compares, with the WebGPU of this browser. The reference outputs lie beside the repository
// (`../shared/fixtures`), and the test server hands them out (tooling/scripts/fixtures.mjs).

async function fetchFolder(name: string): Promise<FileSet | undefined> {
  const files: Record<string, Uint8Array> = {};
  for (const file of ['config.json', 'model.safetensors', 'expected.json', 'expected.safetensors']) {
    const response = await fetch(`/shared-fixtures/${name}/${file}`);
    if (response.status === 404) return undefined;
    files[file] = new Uint8Array(await response.arrayBuffer());
  }
  return bytesFiles(files, name);
}

// Every tensor, loss and gradient is compared; of the generations one of each kind for the trained model and two for the other, since a
// software GPU takes seconds for each. The command compares all of them on Dawn.
const folders: Record<string, readonly RegExp[]> = {
  adder: [
    /^minimal_r4$/,
    /^continuous/,
    /^cache_compress-s2_/,
    /^adaptive_latent-diff/,
    /^speculative_d2_l4$/,
    /^diffusion_latent-diff_0.1_i4_e0.1/,
  ],
  'huginn-steady': [/^minimal_r4$/, /^adaptive_latent-diff/],
};
const found = new Map<string, FileSet>();
for (const name of Object.keys(folders)) {
  const files = await fetchFolder(name);
  if (files !== undefined) found.set(name, files);
}

describe('the reference folders', () => {
  it(`are ${found.size === 0 ? 'MISSING beside the repository: parity in the browser is NOT tested' : 'there, all of them'}`, () => {
    expect([0, Object.keys(folders).length]).toContain(found.size);
  });
});

describe.each([...found])('parity of %s', (name, files) => {
  let device: Device;
  let model: RecurrentModel;
  beforeAll(async () => {
    device = await createWebGPUDevice({ gpu: (navigator as { gpu?: GpuLike }).gpu });
    const checkpoint = await openCheckpoint(files);
    model = await loadRecurrentModel({ device, config: JSON.parse(await files.readText('config.json')), weights: checkpoint });
  }, 60_000);
  afterAll(() => {
    model.dispose();
    device.dispose();
  });

  const io = { breathe: () => new Promise<void>((resolve) => setTimeout(resolve)) };
  const failures = (checks: readonly Check[]) =>
    checks.filter(({ status }) => status !== 'pass').map((check) => `${check.name}: ${check.status} ${check.reason}`);

  it('every tensor, loss and gradient is within the tolerance of a GPU', async () => {
    const fixture = await openFixture(files);
    const { checks, losses } = await compareTensors(model, fixture, io, () => {});
    expect(checks.length).toBeGreaterThan(20);
    expect(failures(checks)).toEqual([]);
    expect(losses.filter(({ status }) => status !== 'pass')).toEqual([]);
    await fixture.close();
  }, 300_000);

  it('generations give the recorded tokens, depths and counts', async () => {
    const fixture = await openFixture(files);
    const kinds = folders[name]!;
    const chosen = kinds.map((kind) => [...fixture.generations].find(([generation]) => kind.test(generation))!);
    expect(
      chosen.every((one) => one !== undefined),
      `${name} has a generation for each pattern`,
    ).toBe(true);
    const { checks } = await compareGenerations(model, { ...fixture, generations: new Map(chosen) }, io, () => {});
    expect(failures(checks)).toEqual([]);
    expect(checks.filter(({ name }) => name.endsWith('.tokens')).length).toBe(kinds.length);
    await fixture.close();
  }, 300_000);
});
