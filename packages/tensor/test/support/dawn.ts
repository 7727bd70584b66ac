import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createWebGPUDevice, type GpuLike, type WebGPUDevice, type WebGPUDeviceOptions } from '@unroll/tensor/webgpu';
import { vi } from 'vitest';

// Software drivers compile some shaders for seconds.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });

const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';

const howToInstall =
  'No Vulkan driver was found for the WebGPU tests. On Debian, as root, type "apt-get install -y --no-install-recommends chromium libvulkan1" ' +
  '(it brings SwiftShader), or set VK_DRIVER_FILES to the .json file of a Vulkan driver. Mesa 22 is too old.';

/** Dawn with these flags. The device keeps the object alive: see `createWebGPUDevice`. */
async function dawn(flags: string[]): Promise<GpuLike> {
  const { create } = await import('webgpu');
  return create(flags) as unknown as GpuLike;
}

let vulkan: Promise<GpuLike> | undefined;

/** Dawn on a Vulkan driver: the one of VK_DRIVER_FILES, or SwiftShader out of Debian's chromium. Throws, with the command to type, without any. */
export function dawnOnVulkan(): Promise<GpuLike> {
  if (process.env['VK_DRIVER_FILES'] === undefined && existsSync(swiftShader)) process.env['VK_DRIVER_FILES'] = swiftShader;
  // Only spares a warning of the loader.
  process.env['XDG_RUNTIME_DIR'] ??= tmpdir();
  vulkan ??= dawn(['backend=vulkan']);
  return vulkan;
}

/** A device on software Vulkan or on whatever driver VK_DRIVER_FILES names. */
export async function vulkanDevice(options: Omit<WebGPUDeviceOptions, 'gpu'> = {}): Promise<WebGPUDevice> {
  const gpu = await dawnOnVulkan();
  try {
    return await createWebGPUDevice({ gpu, ...options });
  } catch (error) {
    if (error instanceof Error && error.name === 'UnsupportedError') throw new Error(howToInstall, { cause: error });
    throw error;
  }
}

/** Dawn without a driver: it checks all that is asked of it, shaders included, and computes nothing. */
export function dawnOnNothing(): Promise<GpuLike> {
  return dawn(['backend=null']);
}
