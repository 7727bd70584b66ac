import { UnsupportedError } from '../errors.js';
import { kernelBytes } from './kernels.generated.js';

type Args<N extends number, A extends number[] = []> = A['length'] extends N ? A : Args<N, [...A, number]>;
type Kernel<N extends number, R = void> = (...args: Args<N>) => R;

/** The exports of kernels/index.ts; all arguments are addresses in bytes or 32-bit numbers, documented there. */
export interface Kernels {
  readonly attention: Kernel<16, number>;
  readonly rope: Kernel<10>;
  readonly storeStep: Kernel<15, number>;
  readonly binary: Kernel<6>;
  readonly siluMul: Kernel<4>;
  readonly unary: Kernel<6>;
  readonly attentionGrad: Kernel<18, number>;
  readonly crossEntropyGrad: Kernel<7, number>;
  readonly rmsNormGrad: Kernel<8>;
  readonly scatterAddRows: Kernel<6, number>;
  readonly siluMulGrad: Kernel<5>;
  readonly gemm: Kernel<10>;
  readonly packRows: Kernel<7>;
  readonly matmul: Kernel<8>;
  readonly matvec: Kernel<7>;
  readonly transpose: Kernel<4>;
  readonly crossEntropy: Kernel<6, number>;
  readonly rmsNorm: Kernel<6>;
  readonly softmax: Kernel<4>;
  readonly random: Kernel<8>;
  readonly reduce: Kernel<6>;
  readonly argmax: Kernel<4>;
  readonly topK: Kernel<6>;
  readonly bf16ToF32: Kernel<3>;
  readonly f16ToF32: Kernel<3>;
  readonly copyRuns: Kernel<6>;
  readonly gatherRows: Kernel<6, number>;
  readonly scatterRows: Kernel<6, number>;
  readonly permute: Kernel<4>;
  readonly zero: Kernel<2>;
}

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

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  return bytes;
}

export function instantiateKernels(memory: WebAssembly.Memory): Kernels {
  const module = new WebAssembly.Module(decodeBase64(kernelBytes));
  return new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Kernels;
}
