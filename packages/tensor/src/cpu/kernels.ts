import { UnsupportedError } from '../errors.js';
import { kernelSignatures, plainKernels, relaxedKernels } from './kernels.generated.js';

type Args<N extends number, A extends number[] = []> = A['length'] extends N ? A : Args<N, [...A, number]>;
type Kernel<N extends number, R = void> = (...args: Args<N>) => R;

/** The exports of kernels/index.ts; all arguments are addresses in bytes or 32-bit numbers, documented there. */
export interface Kernels {
  readonly attention: Kernel<17, number>;
  readonly rope: Kernel<11>;
  readonly storeStep: Kernel<15, number>;
  readonly binary: Kernel<8>;
  readonly siluMul: Kernel<5>;
  readonly unary: Kernel<7>;
  readonly attentionGrad: Kernel<21, number>;
  readonly crossEntropyGrad: Kernel<8, number>;
  readonly rmsNormGrad: Kernel<8>;
  readonly scatterAddRows: Kernel<6, number>;
  readonly siluMulGrad: Kernel<6>;
  readonly gemm: Kernel<11>;
  readonly packRows: Kernel<7>;
  readonly matmul: Kernel<8>;
  readonly gatherQuantized: Kernel<8, number>;
  readonly matmulQ4: Kernel<9>;
  readonly matmulQ8: Kernel<9>;
  readonly matvec: Kernel<7>;
  readonly gemmQuantized: Kernel<12>;
  readonly packQuantized: Kernel<7>;
  readonly quantizeActivations: Kernel<5>;
  readonly transpose: Kernel<4>;
  readonly crossEntropy: Kernel<7, number>;
  readonly rmsNorm: Kernel<7>;
  readonly softmax: Kernel<5>;
  readonly random: Kernel<8>;
  readonly reduce: Kernel<6>;
  readonly argmax: Kernel<5>;
  readonly topK: Kernel<6>;
  readonly bf16ToF32: Kernel<3>;
  readonly f16ToF32: Kernel<3>;
  readonly copyRuns: Kernel<6>;
  readonly gatherRows: Kernel<6, number>;
  readonly scatterRows: Kernel<6, number>;
  readonly permute: Kernel<4>;
  readonly zero: Kernel<2>;
}

/** What shares calls among threads and runs lists of them: kernels/jobs.ts. */
export interface Jobs {
  readonly abandon: Kernel<1>;
  readonly failed: Kernel<0>;
  readonly fork: Kernel<5, number>;
  readonly ready: Kernel<0, number>;
  readonly run: Kernel<4, number>;
  readonly serve: Kernel<3>;
  readonly stop: Kernel<0>;
}

export type KernelName = keyof Kernels;

/** Names of the kernels; the index is the number by which a kernel is called from memory. */
export const kernelNames = Object.keys(kernelSignatures) as KernelName[];
export const kernelNumbers: ReadonlyMap<KernelName, number> = new Map(kernelNames.map((name, number) => [name, number]));

// (module (func (result v128) i32.const 0 i8x16.splat)): valid only where the engine has SIMD.
const simdProbe = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11]);

/** Throws UnsupportedError, saying what to use instead, on an engine without WebAssembly or its SIMD. */
export function requireSimd(webAssembly: Pick<typeof WebAssembly, 'validate'> | undefined = globalThis.WebAssembly): void {
  if (webAssembly === undefined) {
    throw new UnsupportedError(
      'createCpuDevice: this engine has no WebAssembly; use Node >= 20.19 or a current browser (in lockdown mode, allow this site)',
    );
  }
  if (!webAssembly.validate(simdProbe)) {
    throw new UnsupportedError(
      'createCpuDevice: this engine has no WebAssembly SIMD, which all CPU kernels need; use Node >= 20.19, Chrome 114, Firefox 89 or Safari 16.4, on a processor with SSE4.1 or NEON',
    );
  }
}

// The same with three operands and f32x4.relaxed_madd.
const relaxedProbe = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 19, 1, 17, 0, 65, 0, 253, 15, 65, 0, 253, 15, 65, 0, 253, 15, 253,
  133, 2, 11,
]);

let relaxedIsRight: boolean | undefined;

/**
 * Whether the engine has relaxed SIMD and computes it rightly. V8 11.3 (Node 20, behind a flag) gives wrong sums for
 * i32x4.relaxed_dot_i8x16_i7x16_add_s until it has optimised the function.
 */
export function hasRelaxedSimd(): boolean {
  if (!WebAssembly.validate(relaxedProbe)) return false;
  relaxedIsRight ??= multipliesRightly(kernelModule('relaxed', false));
  return relaxedIsRight;
}

/** A row of 32 numbers times eight rows of ones in 4 bits. */
function multipliesRightly(module: WebAssembly.Module): boolean {
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 65536 });
  const { quantizeActivations, matmulQ4 } = instantiateKernels(module, memory);
  // In the first 64 KiB nothing lies at these places: they are far from the fork's own words.
  const [x, row, weights, scales, out] = [4096, 8192, 12288, 16384, 20480];
  new Float32Array(memory.buffer, x, 32).forEach((_, i, values) => {
    values[i] = i - 8;
  });
  new Uint8Array(memory.buffer, weights, 128).fill(0x99);
  new Uint16Array(memory.buffer, scales, 8).fill(0x3c00);
  quantizeActivations(x, row, 32, 0, 1);
  matmulQ4(row, weights, scales, out, 1, 32, 8, 0, 1);
  // The sum of -8 to 23, less what rounding to int8 loses.
  return new Float32Array(memory.buffer, out, 8).every((sum) => Math.abs(sum - 240) < 4);
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

// The end of the import of env.memory: name, kind memory, limits with a maximum.
const memoryImport = [...'memory'].map((letter) => letter.charCodeAt(0)).concat(2, 1);

/** A module that imports a memory of its own, turned into one that imports a shared memory. */
function forSharedMemory(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const at = bytes.findIndex((_, i) => memoryImport.every((byte, j) => bytes[i + j] === byte));
  bytes[at + memoryImport.length - 1] = 3;
  return bytes;
}

const compiled = new Map<string, WebAssembly.Module>();

/** The kernels' module; compiled once for all devices. */
export function kernelModule(build: 'plain' | 'relaxed', shared: boolean): WebAssembly.Module {
  const key = `${build} ${shared}`;
  const known = compiled.get(key);
  if (known !== undefined) return known;
  const bytes = decodeBase64(build === 'relaxed' ? relaxedKernels : plainKernels);
  const module = new WebAssembly.Module(shared ? forSharedMemory(bytes) : bytes);
  compiled.set(key, module);
  return module;
}

/** An instance of the kernels on a memory. */
export function instantiateKernels(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels & Jobs {
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernels & Jobs;
}
