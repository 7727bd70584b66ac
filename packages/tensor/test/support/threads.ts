import { add, attention, crossEntropy, exp, grad, matmul, rmsNorm, rope, siluMul, softmax, sum, type Tensor, tidy } from '@unroll/tensor';
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
    const x = f32(150, 512);
    const ints = (length: number, f: (i: number) => number, shape: number[]) =>
      device.tensor(
        Int32Array.from({ length }, (_, i) => f(i)),
        shape,
        { dtype: 'i32' },
      );
    const targets = ints(150, (i) => i % 512, [150]);
    for (const y of [exp(x), add(x, f32(512)), siluMul(x), rmsNorm(x, f32(512)), softmax(x), crossEntropy(x, targets)]) note(y);
    const positions = ints(150, (i) => i, [150]);
    note(rope(f32(150, 8, 64), f32(160, 32, 2), positions, { layout: 'half' }));
    const [T, S] = [75, 80];
    const qkv = { q: f32(2, T, 4, 24), k: f32(S, 2, 24), v: f32(S, 2, 24) };
    const rows = ints(2 * S, (i) => (i % 7 === 3 ? -1 : (i * 3) % S), [2, S]);
    const visible = ints(2 * T, (i) => (i % T) + 5, [2, T]);
    note(attention(qkv.q, qkv.k, qkv.v, rows, visible));
    const grads = grad((p) => sum(attention(p.q, p.k, p.v, rows, visible)), qkv);
    for (const g of Object.values(grads)) note(g);
    note(grad((p: Tensor) => sum(add(siluMul(p), f32(150, 256))), x));
    note(grad((p: Tensor) => sum(crossEntropy(p, targets)), x));
  });
  return digests;
}
