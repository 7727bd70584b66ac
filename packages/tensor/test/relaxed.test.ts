import { setFlagsFromString } from 'node:v8';
import { type CpuDevice, createCpuDevice } from '@unroll/tensor/cpu';
import { conformAll } from '@unroll/tensor/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hasRelaxedSimd } from '../src/cpu/kernels.js';
import { results, started } from './support/threads.js';

// Node 20 has relaxed SIMD behind a flag, later ones without.
const hadIt = hasRelaxedSimd();
if (!hadIt) setFlagsFromString('--experimental-wasm-relaxed-simd');

// With its flag, Node 20 computes 4-bit products wrongly. Chromium's tests run the relaxed build as well.
it.skipIf(hasRelaxedSimd())(
  'the relaxed build is not taken where the engine computes it wrongly, and refused where it is asked for',
  () => {
    const device = createCpuDevice({ threads: 1 });
    expect(device.description).toBe('cpu: WebAssembly SIMD, 1 thread');
    device.dispose();
    expect(() => createCpuDevice({ simd: 'relaxed' })).toThrow('has no relaxed SIMD, or computes it wrongly');
  },
);

describe.runIf(hasRelaxedSimd())('the relaxed build', () => {
  let device: CpuDevice;
  beforeAll(() => {
    device = createCpuDevice({ threads: 1 });
  });
  afterAll(() => device.dispose());

  it('is chosen where the engine has it', () => {
    expect(device.description).toBe('cpu: WebAssembly relaxed SIMD, 1 thread');
  });

  it('equals the references', async () => {
    expect(await conformAll(device, 1)).toEqual([]);
  });

  it('gives the same bits in any number of threads, other ones than the plain build', async () => {
    const two = await started(2);
    expect(two.description).toMatch(/relaxed SIMD, 2 threads/);
    expect(results(two)).toEqual(results(device));
    two.dispose();
    const plain = createCpuDevice({ threads: 1, simd: 'plain' });
    expect(plain.description).toBe('cpu: WebAssembly SIMD, 1 thread');
    expect(results(plain)).not.toEqual(results(device));
    plain.dispose();
  }, 60_000);
});
