import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Device } from '@unroll/tensor';
import type { GpuLike, WebGPUDevice } from '@unroll/tensor/webgpu';
import { CommandError, UsageError } from '../errors.js';

export const DEVICE_NAMES = ['cpu', 'webgpu', 'auto'] as const;
export type DeviceName = (typeof DEVICE_NAMES)[number];

/** The device name that a flag holds. Throws UsageError. */
export function parseDeviceName(name = 'cpu'): DeviceName {
  const known = DEVICE_NAMES.find((one) => one === name);
  if (known === undefined) throw new UsageError(`--device must be ${DEVICE_NAMES.join(', ')}; got "${name}"`);
  return known;
}

/** A device, and how to end its work. */
export interface OpenedDevice {
  readonly device: Device;
  /** Waits for the device's work, so that the process can end cleanly, and frees it. Throws what went wrong in that work. */
  close(): Promise<void>;
}

const PACKAGE = 'webgpu';
// Of the versions up to it, 0.2.12, 0.3.0, 0.5.0, 0.6.0 and 0.6.1 do not load on Debian 12 (their C++ library is newer than its), so exactly
// this one is asked for, tested and typed in messages; manifests name it alike.
const VERSION = '0.6.2';

/** The optional package: beside the program, or else in the folder that the user works in. */
async function importDawn(): Promise<{ create(flags: string[]): unknown } | undefined> {
  const missing = (error: unknown) => {
    const { code, message } = error as NodeJS.ErrnoException;
    return (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND') && message.includes(`'${PACKAGE}'`);
  };
  const name: string = PACKAGE;
  try {
    return await import(name);
  } catch (error) {
    if (!missing(error)) throw error;
  }
  try {
    return await import(pathToFileURL(createRequire(join(process.cwd(), 'any.js')).resolve(PACKAGE)).href);
  } catch (error) {
    if (!missing(error)) throw error;
    return undefined;
  }
}

const holder = globalThis as { __unrollDawn?: GpuLike };

/** Dawn, once for the process. Throws CommandError where the package is missing or does not load. */
async function dawn(): Promise<GpuLike> {
  if (holder.__unrollDawn !== undefined) return holder.__unrollDawn;
  let found: Awaited<ReturnType<typeof importDawn>>;
  try {
    found = await importDawn();
  } catch (error) {
    throw new CommandError(`--device webgpu: the package "${PACKAGE}" is there but does not load: ${(error as Error).message}`);
  }
  if (found === undefined) {
    throw new CommandError(
      `--device webgpu needs the package "${PACKAGE}", which is not installed; type "npm install ${PACKAGE}@${VERSION}" here (beside a global unroll: "npm install --global ${PACKAGE}@${VERSION}"), or use --device cpu`,
    );
  }
  // Collected by V8 while Dawn still calls into it, the object takes the process down; a global is never collected.
  holder.__unrollDawn = found.create([]) as GpuLike;
  return holder.__unrollDawn;
}

export async function openCpu(threads?: number): Promise<OpenedDevice> {
  const { createCpuDevice } = await import('@unroll/tensor/cpu');
  const device = createCpuDevice(threads === undefined ? {} : { threads });
  return { device, close: async () => device.dispose() };
}

/** Throws CommandError without the package, UnsupportedError without an adapter. */
export async function openWebGPU(): Promise<OpenedDevice & { readonly device: WebGPUDevice }> {
  const gpu = await dawn();
  const { createWebGPUDevice } = await import('@unroll/tensor/webgpu');
  const device = await createWebGPUDevice({ gpu });
  return {
    device,
    async close() {
      try {
        await device.idle();
      } finally {
        device.dispose();
      }
    },
  };
}

/** The device that a flag names, for commands that measure nothing beforehand. The caller disposes it. Throws as the functions above. */
export async function openDevice(name?: string): Promise<Device> {
  const chosen = parseDeviceName(name);
  if (chosen === 'auto') throw new UsageError('--device auto measures a loaded model; this command takes cpu or webgpu');
  return (await (chosen === 'cpu' ? openCpu() : openWebGPU())).device;
}
