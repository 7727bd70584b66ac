import type { GpuLike } from '@unroll/tensor/webgpu';
import type { GpuAdapter, GpuDevice } from '../../src/webgpu/gpu.js';

type Replacements = (device: GpuDevice) => Partial<Record<keyof GpuDevice, unknown>>;

/** A WebGPU whose devices have some members replaced, for what a test cannot make a driver do. */
export function replacing(gpu: GpuLike, replacements: Replacements): GpuLike {
  return {
    async requestAdapter() {
      const adapter = (await gpu.requestAdapter()) as GpuAdapter;
      return {
        limits: adapter.limits,
        features: adapter.features,
        info: adapter.info,
        requestDevice: async (descriptor: Parameters<GpuAdapter['requestDevice']>[0]) => {
          const device = await adapter.requestDevice(descriptor);
          const replaced = replacements(device);
          return new Proxy(device, {
            get(target, name) {
              if (name in replaced) return replaced[name as keyof GpuDevice];
              const value: unknown = Reflect.get(target, name, target);
              return typeof value === 'function' ? value.bind(target) : value;
            },
          });
        },
      };
    },
  };
}
