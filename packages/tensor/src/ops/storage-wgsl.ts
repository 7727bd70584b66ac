import { Tensor } from '../tensor.js';
import type { Operand } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';
import { halfBits } from '../webgpu/upload.js';

/** How a kernel reads a matrix: f32; halves widened by whole-number arithmetic; or `half`, f16 values of the shading language. */
export type MatrixStorage = 'f32' | 'f16' | 'bf16' | 'half';

/** How products read `b`. Undefined for quantised matrices, which have kernels of their own. */
export function storageOf(b: Operand, traits: GpuTraits): MatrixStorage | undefined {
  const dtype = b instanceof Tensor ? b.dtype : 'f32';
  if (dtype === 'f16') return traits.f16 ? 'half' : 'f16';
  if (dtype === 'f32' || dtype === 'bf16') return dtype;
  return undefined;
}

export const bytesOf: Record<MatrixStorage, number> = { f32: 4, f16: 2, bf16: 2, half: 2 };

/** What the source of a kernel needs to read the array `b`, by vectors of four or by single values. */
export interface MatrixReads {
  /** Element type of the array. */
  readonly type: string;
  readonly enable: readonly string[];
  readonly outside: string;
  /** The vec4f, or the f32, at an index. */
  at(index: string): string;
}

// Subnormal halves become whole numbers times 2^-24: both are normal in f32, so a GPU that flushes subnormals gives them too.
const wide = {
  bf16: 'fn wide_f(h: vec4u) -> vec4f { return bitcast<vec4f>(h << vec4u(16u)); }',
  f16: `fn wide_f(h: vec4u) -> vec4f {
  let m = h & vec4u(0x3ffu);
  let e = (h >> vec4u(10u)) & vec4u(0x1fu);
  let small = bitcast<vec4u>(vec4f(m) * 5.9604644775390625e-8);
  let usual = ((e + 112u) << vec4u(23u)) | (m << vec4u(13u));
  return bitcast<vec4f>(((h & vec4u(0x8000u)) << vec4u(16u)) | select(usual, small, e == vec4u()));
}`,
};
const single = (dtype: 'f16' | 'bf16') => `fn wide_f(h: u32) -> f32 {
  ${halfBits(dtype)}
  return bitcast<f32>(bits);
}`;

export function matrixReads(storage: MatrixStorage, vectors: boolean): MatrixReads {
  switch (storage) {
    case 'f32':
      return { type: vectors ? 'vec4f' : 'f32', enable: [], outside: '', at: (i) => `b[${i}]` };
    case 'half':
      return vectors
        ? { type: 'vec4<f16>', enable: ['f16'], outside: '', at: (i) => `vec4f(b[${i}])` }
        : { type: 'f16', enable: ['f16'], outside: '', at: (i) => `f32(b[${i}])` };
    default:
      return vectors
        ? {
            type: 'vec2u',
            enable: [],
            outside: `${wide[storage]}\nfn b_at(i: u32) -> vec4f { let h = b[i]; return wide_f(vec4u(h.x & 0xffffu, h.x >> 16u, h.y & 0xffffu, h.y >> 16u)); }`,
            at: (i) => `b_at(${i})`,
          }
        : {
            type: 'u32',
            enable: [],
            outside: `${single(storage)}\nfn b_at(i: u32) -> f32 { return wide_f((b[i >> 1u] >> ((i & 1u) * 16u)) & 0xffffu); }`,
            at: (i) => `b_at(${i})`,
          };
  }
}
