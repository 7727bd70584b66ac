import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';

const swiftShader = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** Lets Dawn find the software driver of Debian's chromium where no other is named. */
export function useSoftwareVulkan(): void {
  if (process.env.VK_DRIVER_FILES === undefined && existsSync(swiftShader)) process.env.VK_DRIVER_FILES = swiftShader;
  process.env.XDG_RUNTIME_DIR ??= tmpdir();
}
