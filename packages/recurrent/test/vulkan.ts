import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createWebGPUDevice, type GpuLike, type WebGPUDevice, type WebGPUDeviceOptions } from '@unroll/tensor/webgpu';
import { vi } from 'vitest';

// Software drivers compile some shaders for seconds.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });

const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';
let gpu: Promise<GpuLike> | undefined;

async function dawn(): Promise<GpuLike> {
  if (process.env.VK_DRIVER_FILES === undefined && existsSync(swiftShader)) process.env.VK_DRIVER_FILES = swiftShader;
  process.env.XDG_RUNTIME_DIR ??= tmpdir();
  const { create } = await import('webgpu');
  return create(['backend=vulkan']) as unknown as GpuLike;
}

/** A device on the driver of VK_DRIVER_FILES, or on SwiftShader out of Debian's chromium. Throws UnsupportedError without any. */
export async function vulkanDevice(options: Omit<WebGPUDeviceOptions, 'gpu'> = {}): Promise<WebGPUDevice> {
  gpu ??= dawn();
  return createWebGPUDevice({ gpu: await gpu, ...options });
}
