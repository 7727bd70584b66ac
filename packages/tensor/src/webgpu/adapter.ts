import { OptionError, refuseUnknownOptions, UnsupportedError } from '../errors.js';
import type { GpuAdapter, GpuDevice, GpuLike, GpuLimits } from './gpu.js';

/** What an adapter may offer beyond the least that WebGPU promises. */
export type GpuFeature = 'shader-f16' | 'subgroups' | 'timestamp-query';

export interface WebGPUDeviceOptions {
  /** `navigator.gpu` in a browser; the result of `create([])` of the package `webgpu` in Node. */
  readonly gpu: GpuLike | null | undefined;
  readonly powerPreference?: 'low-power' | 'high-performance';
  /** Most bytes of buffers, in use and waiting for reuse; no limit of its own unless given. */
  readonly maxBytes?: number;
  /** Most bytes of freed buffers that wait for reuse; 256 MiB unless given. */
  readonly poolBytes?: number;
  /** Lowers the adapter's limit of bytes in one binding; larger matrices are split by rows. */
  readonly maxBindingBytes?: number;
  /** Features not to use although the adapter has them. */
  readonly disable?: readonly GpuFeature[];
  /** Which kernels suit the adapter: `auto` takes those for software where the adapter computes on the CPU. */
  readonly tuning?: 'auto' | 'gpu' | 'software';
}

const features: readonly GpuFeature[] = ['shader-f16', 'subgroups', 'timestamp-query'];

/** What was found and taken. */
export interface Chosen {
  readonly adapter: GpuAdapter;
  readonly device: GpuDevice;
  readonly name: string;
  readonly software: boolean;
  readonly features: ReadonlySet<string>;
  readonly packedDot: boolean;
  /** Of each optional feature, whether it is used or why not. */
  readonly notes: readonly string[];
}

const noGpu =
  'createWebGPUDevice: there is no WebGPU here. Node: install the package "webgpu" and pass gpu: create([]) of it. ' +
  'Browser: pass navigator.gpu, on https or localhost, in Chrome or Edge 113, Safari 26 or Firefox 141 and later';
const noAdapter =
  'createWebGPUDevice: WebGPU is here but found no adapter. Node: install a Vulkan driver and loader (on Debian, as root: ' +
  '"apt-get install libvulkan1" and a driver; without a GPU, that of the package "chromium" serves: set ' +
  'VK_DRIVER_FILES=/usr/lib/chromium/vk_swiftshader_icd.json; Mesa 22 is too old for the package "webgpu"). Chromium without a GPU: start it with --enable-unsafe-webgpu';

function checkOptions(options: WebGPUDeviceOptions): void {
  const known = ['gpu', 'powerPreference', 'maxBytes', 'poolBytes', 'maxBindingBytes', 'disable', 'tuning'];
  refuseUnknownOptions('createWebGPUDevice', options, known);
  for (const name of ['maxBytes', 'poolBytes', 'maxBindingBytes'] as const) {
    const value = options[name];
    const least = name === 'maxBindingBytes' ? 1024 : 0;
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= least)) {
      throw new OptionError(`createWebGPUDevice: ${name} must be a whole number of bytes, at least ${least}; got ${value}`);
    }
  }
  for (const name of options.disable ?? []) {
    if (!features.includes(name)) throw new OptionError(`createWebGPUDevice: disable takes ${features.join(', ')}; got "${name}"`);
  }
  const tuning = options.tuning ?? 'auto';
  if (!['auto', 'gpu', 'software'].includes(tuning)) {
    throw new OptionError(`createWebGPUDevice: tuning must be auto, gpu or software; got "${tuning}"`);
  }
}

// V8 collects Dawn's object after its last use in JavaScript, while Dawn still calls into it: the process crashes or hangs at a later
// callback. So it is held for as long as the process lives.
const pinned = Symbol.for('unroll.webgpu.pinned');
function pin(gpu: GpuLike): void {
  const holder = globalThis as { [pinned]?: Set<GpuLike> };
  holder[pinned] ??= new Set();
  holder[pinned].add(gpu);
}

function nameOf(adapter: GpuAdapter): string {
  const { info } = adapter;
  if (info === undefined) return 'adapter without a name';
  const name = [info.vendor, info.architecture].filter((part) => part !== '').join(' ');
  return info.description === '' ? name : `${name} (${info.description})`;
}

function isSoftware(adapter: GpuAdapter): boolean {
  const { info } = adapter;
  return info?.isFallbackAdapter === true || /swiftshader|llvmpipe|software|warp|basic render/i.test(nameOf(adapter));
}

/** Asks for an adapter and a device with its true limits: the default device gets a fraction of them. Throws UnsupportedError, OptionError. */
export async function chooseDevice(options: WebGPUDeviceOptions): Promise<Chosen> {
  checkOptions(options);
  const { gpu, powerPreference, disable = [] } = options;
  if (gpu === undefined || gpu === null) throw new UnsupportedError(noGpu);
  pin(gpu);
  const adapter = (await gpu.requestAdapter(powerPreference === undefined ? {} : { powerPreference })) as GpuAdapter | null;
  if (adapter === null) throw new UnsupportedError(noAdapter);
  const use = features.filter((feature) => adapter.features.has(feature) && !disable.includes(feature));
  const notes = features.map((feature) => {
    if (use.includes(feature)) return `${feature} used`;
    return disable.includes(feature) ? `${feature} disabled by option` : `${feature} not offered`;
  });
  const device = await adapter.requestDevice({ label: 'unroll', requiredFeatures: use, requiredLimits: wantedLimits(adapter.limits) });
  const tuning = options.tuning ?? 'auto';
  const software = tuning === 'auto' ? isSoftware(adapter) : tuning === 'software';
  const packedDot = gpu.wgslLanguageFeatures?.has('packed_4x8_integer_dot_product') === true;
  notes.push(`int8 dot products ${packedDot ? 'used' : 'not offered'}`);
  return { adapter, device, name: nameOf(adapter), software, features: new Set(use), packedDot, notes };
}

function wantedLimits(limits: GpuLimits): Record<string, number> {
  const names = [
    'maxBufferSize',
    'maxStorageBufferBindingSize',
    'maxStorageBuffersPerShaderStage',
    'maxComputeWorkgroupStorageSize',
    'maxComputeInvocationsPerWorkgroup',
    'maxComputeWorkgroupSizeX',
    'maxComputeWorkgroupsPerDimension',
  ] as const;
  return Object.fromEntries(names.map((name) => [name, limits[name]]));
}
