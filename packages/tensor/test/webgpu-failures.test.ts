import { add, DeviceLostError, DisposedError, GpuError, OutOfMemoryError, relu, type Tensor } from '@unroll/tensor';
import { defineOp } from '@unroll/tensor/testing';
import { createWebGPUDevice } from '@unroll/tensor/webgpu';
import { describe, expect, it } from 'vitest';
import { apply1 } from '../src/op.js';
import { kernel, perThread } from '../src/webgpu/kernel.js';
import { dawnOnVulkan, vulkanDevice } from './support/dawn.js';
import { replacing } from './support/fake-gpu.js';

const ones = new Float32Array(8).fill(1);

describe('a lost device', () => {
  const destroy = (device: { gpuDevice: object }) => (device.gpuDevice as { destroy(): void }).destroy();

  it('ends in DeviceLostError at a read that is on its way, and at all that follows', async () => {
    const device = await vulkanDevice();
    const x = device.tensor(ones);
    const reading = add(x, x).data();
    destroy(device);
    await expect(reading).rejects.toThrow(DeviceLostError);
    await expect(reading).rejects.toThrow(/lost \(destroyed.+Make a new device/);
    expect(() => add(x, x)).toThrow(DeviceLostError);
    expect(() => device.tensor(ones)).toThrow(DeviceLostError);
    await expect(x.data()).rejects.toThrow(DeviceLostError);
    x.dispose();
    device.dispose();
  });

  it('leaves another device of the same adapter alone', async () => {
    const [gone, other] = [await vulkanDevice(), await vulkanDevice()];
    destroy(gone);
    const x = other.tensor(ones);
    expect([...(await add(x, x).data())]).toEqual([...ones.map((v) => v + v)]);
    gone.dispose();
    other.dispose();
  });

  it('is not what dispose() makes of it', async () => {
    const device = await vulkanDevice();
    const x = device.tensor(ones);
    const reading = add(x, x).data();
    device.dispose();
    await expect(reading).rejects.toThrow(DisposedError);
    expect(() => device.tensor(ones)).toThrow(DisposedError);
  });
});

function custom(name: string, body: string) {
  const op = defineOp<null>({
    name,
    infer: (inputs) => [inputs[0]!],
    reference: () => {},
    cpu: () => {},
    wgsl([x], _, [y], traits) {
      const k = kernel(name, [], () => ({ params: { n: 'u32' }, read: { x: 'f32' }, write: { y: 'f32' }, body }));
      return [perThread(k, x!.size, traits, { bind: [x!, y!], params: { n: x!.size } })];
    },
    samples: () => [],
  });
  return (x: Tensor) => apply1(op, [x], null);
}

describe('a shader that does not compile', () => {
  it('is told with the operation, the shapes, the place and the line of source', async () => {
    const device = await vulkanDevice();
    const broken = custom('broken', 'if (index >= p.n) { return; }\n  y[index] = undeclared;');
    const x = device.tensor(ones, [2, 4]);
    const y = broken(x);
    const reading = y.data();
    await expect(reading).rejects.toThrow(GpuError);
    await expect(reading).rejects.toThrow(
      /broken f32\[2,4\]: the shader broken was refused.\n\d+:\d+ unresolved value 'undeclared'\n {4}y\[index\] = undeclared;/,
    );
    expect(() => broken(x)).toThrow(GpuError);
    // What rests on it is not given out; what does not, is.
    expect(() => add(y, y)).toThrow(GpuError);
    const z = device.tensor(ones);
    expect([...(await add(z, z).data())]).toEqual([...ones.map((v) => v + v)]);
    device.dispose();
  });

  it('does not give out values of the same batch', async () => {
    const device = await vulkanDevice();
    const x = device.tensor(ones);
    const before = relu(x);
    custom('broken2', 'y[index] = nothing;')(x);
    await expect(before.data()).rejects.toThrow(/broken2/);
    device.dispose();
  });
});

describe('bindings that do not fit', () => {
  it('are told with the operation, the shapes and the shader', async () => {
    const device = await vulkanDevice();
    const k = () =>
      kernel('twice', [], () => ({ params: { n: 'u32' }, read: { x: 'f32' }, write: { y: 'f32' }, body: 'y[index] = x[index];' }));
    const op = defineOp<null>({
      name: 'twice',
      infer: (inputs) => [inputs[0]!],
      reference: () => {},
      cpu: () => {},
      wgsl: ([x], _, [y], traits) => [perThread(k(), 1, traits, { bind: [x!, y!, x!], params: { n: 1 } })],
      samples: () => [],
    });
    const x = device.tensor(ones);
    const reading = apply1(op, [x], null).data();
    await expect(reading).rejects.toThrow(GpuError);
    await expect(reading).rejects.toThrow(/twice f32\[8\] \(twice\): the bindings were refused[\s\S]+shader:\nstruct Params/);
    device.dispose();
  });
});

describe('a driver without memory', () => {
  it('ends in OutOfMemoryError with the sizes, never in values', async () => {
    let refuse = false;
    const gpu = replacing(await dawnOnVulkan(), (device) => {
      let filter = '';
      return {
        pushErrorScope: (name: 'validation' | 'out-of-memory') => {
          filter = name;
          device.pushErrorScope(name);
        },
        popErrorScope: async () => {
          const refused = refuse && filter === 'out-of-memory';
          const error = await device.popErrorScope();
          return refused ? { message: 'vkAllocateMemory failed' } : error;
        },
      };
    });
    const device = await createWebGPUDevice({ gpu });
    const x = device.tensor(new Float32Array(1000));
    refuse = true;
    const y = add(x, x);
    refuse = false;
    const reading = y.data();
    await expect(reading).rejects.toThrow(OutOfMemoryError);
    await expect(reading).rejects.toThrow(/no 4000 bytes.+Dispose tensors, lower the context.+vkAllocateMemory failed/);
    expect(() => relu(y)).toThrow(OutOfMemoryError);
    y.dispose();
    expect([...(await add(x, x).data())]).toEqual([...new Float32Array(1000)]);
    device.dispose();
  });
});
