import { matmul, type Tensor, tidy } from '@unroll/tensor';
import { type CpuDevice, createCpuDevice } from '@unroll/tensor/cpu';
import { Generate } from '@unroll/tensor/testing';

/** A device whose workers have started: they come when tens of millions of multiply-adds were done. */
export async function started(threads: number, options: { readonly workerUrl?: URL | string } = {}): Promise<CpuDevice> {
  const device = createCpuDevice({ threads, ...options });
  const x = device.zeros([512, 512]);
  for (let i = 0; i < 1000 && device.jobs.ready() < threads - 1; i++) {
    if (i < 2) matmul(x, x).dispose();
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  x.dispose();
  if (device.jobs.ready() < threads - 1) throw new Error(`only ${device.jobs.ready()} workers came: ${device.description}`);
  return device;
}

/** A digest of the bits of what the shared kernels compute on a device, one word for each result: the same for any number of threads. */
export function results(device: CpuDevice): number[] {
  const g = new Generate(3);
  const f32 = (...shape: number[]) => device.tensor(g.f32(shape).data, shape);
  const digests: number[] = [];
  const note = (x: Tensor) => {
    let digest = 0;
    for (const word of new Int32Array(device.readSync(x).buffer)) digest = (Math.imul(digest, 16777619) ^ word) | 0;
    digests.push(digest);
  };
  tidy(device, () => {
    const b = f32(300, 1100);
    for (let round = 0; round < 3; round++) {
      for (const rows of [1, 5, 70]) note(matmul(f32(rows, 1100), b, { transposeB: true }));
      note(matmul(f32(70, 300), b));
      note(matmul(f32(300, 70), b, { transposeA: true }));
    }
  });
  return digests;
}
