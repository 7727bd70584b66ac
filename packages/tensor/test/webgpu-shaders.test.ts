import { existsSync, readdirSync } from 'node:fs';
import type { Tensor } from '@unroll/tensor';
import { type AnyOp, Generate, opList, type SampleInput, tensorOf } from '@unroll/tensor/testing';
import { createWebGPUDevice, type WebGPUDevice } from '@unroll/tensor/webgpu';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GpuDevice } from '../src/webgpu/gpu.js';
import type { Kernel } from '../src/webgpu/kernel.js';
import { compileReport } from '../src/webgpu/pipelines.js';
import type { GpuTraits } from '../src/webgpu/traits.js';
import { dawnOnNothing } from './support/dawn.js';

// Dawn without a driver compiles shaders and runs nothing: no shader variant depends on the machine here.
let device: WebGPUDevice;
beforeAll(async () => {
  device = await createWebGPUDevice({ gpu: await dawnOnNothing() });
});
afterAll(() => device.dispose());

// With the eight arrays that WebGPU promises; more of them bind more.
const families: Partial<GpuTraits>[] = [
  { software: true, subgroups: false, f16: false, storageBuffers: 8 },
  { software: true, subgroups: false, f16: false },
  { software: true, subgroups: false, f16: true },
  { software: false, subgroups: true, f16: false },
  { software: false, subgroups: true, f16: true },
  { software: false, subgroups: false },
  { software: true, subgroups: false, packedDot: false },
  { software: false, subgroups: false, packedDot: false },
];

/** The kernels that a call of an operation takes on adapters of all families. */
function kernelsOf(op: AnyOp, inputs: readonly SampleInput[], attrs: unknown): Kernel[] {
  const tensors: Tensor[] = inputs.map((input) => tensorOf(device, input));
  const outputs = op.infer(tensors, attrs).map(({ shape, dtype }) => device.zeros(shape, { dtype }));
  const dispatches = families.flatMap((family) => op.wgsl(tensors, attrs, outputs, { ...device.traits, ...family }));
  for (const tensor of [...tensors, ...outputs]) tensor.dispose();
  return dispatches.map((dispatch) => dispatch.kernel);
}

const g = new Generate(1);
const f32 = (...shape: number[]) => g.f32(shape);
const i32 = (...shape: number[]) => g.i32(shape, 0, 0);

// One call for each shader that a reviewer should read; the sizes that are part of a shader are those of a usual model.
const weights = ['f16', 'bf16', 'q8', 'q4'] as const;
const shown: Record<string, readonly [inputs: SampleInput[], attrs: unknown][]> = {
  addNormGatedMatmul: [
    [[f32(1, 8), f32(1, 8), f32(8), f32(8), f32(16, 8)], { eps: 1e-6 }],
    [[f32(1, 64), f32(1, 64), f32(64), f32(64), g.weight([16, 64], 'q8')], { eps: 1e-6 }],
  ],
  addNormMatmul: [[[f32(1, 8), f32(1, 8), f32(8), f32(8), f32(8, 8)], { eps: 1e-6 }]],
  addRmsNorm: [[[f32(2, 8), f32(2, 8), f32(8), f32(8)], { eps: 1e-6 }]],
  argmax: [[[f32(2, 8)], { markNaN: true }]],
  attention: [[[f32(1, 2, 4, 64), f32(8, 2, 64), f32(8, 2, 64), i32(1, 8), i32(1, 2)], { scale: 1 }]],
  copy: [[[f32(4)], null]],
  attentionGrad: [[[f32(1, 2, 4, 64), f32(8, 2, 64), f32(8, 2, 64), i32(1, 8), i32(1, 2), f32(1, 2, 4, 64)], { scale: 1 }]],
  concatMatmul: [
    [[f32(1, 8), f32(1, 8), f32(8, 16)], null],
    [[f32(1, 32), f32(1, 32), g.weight([8, 64], 'q8')], null],
  ],
  crossEntropy: [[[f32(2, 8), i32(2)], { ignoreIndex: -100 }]],
  crossEntropyGrad: [[[f32(2, 8), i32(2), f32(2)], { ignoreIndex: -100 }]],
  decodeAttention: [
    [[f32(1, 1, 512), f32(8, 32, 2), f32(8, 2, 64), f32(8, 2, 64), i32(1, 1, 8), i32(1, 1), f32(6, 64)], { heads: 4, call: 0, scale: 1 }],
  ],
  gatedMatmul: [[[f32(1, 8), f32(16, 8)], null]],
  gatherRows: [
    [[f32(4, 8), i32(2)], null],
    ...weights.map((format) => [[g.weight([8, 64], format), i32(2)], null] as [SampleInput[], unknown]),
  ],
  matmul: [
    [[f32(1, 8), f32(8, 8)], { transposeA: false, transposeB: true }],
    [[f32(8, 8), f32(8, 8)], { transposeA: false, transposeB: true }],
    [[f32(16, 8), f32(16, 8)], { transposeA: false, transposeB: true }],
    [[f32(16, 8), f32(8, 16)], { transposeA: false, transposeB: false }],
    [[f32(7, 16), f32(7, 16)], { transposeA: true, transposeB: false }],
    ...weights.flatMap((format) =>
      [1, 4, 16].map(
        (M) => [[f32(M, 64), g.weight([16, 64], format)], { transposeA: false, transposeB: true }] as [SampleInput[], unknown],
      ),
    ),
  ],
  normMatmul: [[[f32(1, 8), f32(8), f32(8, 8)], { eps: 1e-6 }]],
  permute: [[[f32(2, 3, 4)], { axes: [1, 0, 2] }]],
  randomRows: ['uniform', 'truncatedNormal', 'gumbel'].map((distribution) => [
    [i32(2, 2), i32(2)],
    { distribution, width: 8, std: 1, bound: 3 },
  ]),
  reduce: ['sum', 'mean', 'max', 'min', 'logSumExp'].flatMap((kind) => [
    [[f32(2, 8)], { kind, axis: 1, keepDims: false }],
    [[f32(2, 8)], { kind, axis: 0, keepDims: false }],
  ]),
  rmsNorm: [[[f32(2, 8), f32(8)], { eps: 1e-6 }]],
  rmsNormGrad: [[[f32(2, 8), f32(8), f32(2, 8)], { eps: 1e-6 }]],
  rope: ['interleaved', 'half'].map((layout) => [[f32(2, 2, 8), f32(4, 4, 2), i32(2)], { layout, back: false }]),
  scatterAddRows: [[[i32(2), f32(2, 8)], { rows: 4 }]],
  scatterRows: [[[f32(4, 8), i32(2), f32(2, 8)], null]],
  siluMul: [[[f32(2, 16)], null]],
  siluMulGrad: [[[f32(2, 16), f32(2, 8)], null]],
  softmax: [[[f32(2, 8)], null]],
  topK: [
    [[f32(2, 64)], { k: 50 }],
    [[f32(1, 2048)], { k: 2000 }],
  ],
};
const unary = [
  'neg',
  'abs',
  'exp',
  'log',
  'sqrt',
  'rsqrt',
  'reciprocal',
  'square',
  'sigmoid',
  'silu',
  'tanh',
  'gelu',
  'relu',
  'affine',
  'sign',
  'atan',
];
for (const name of unary) shown[name] = [[[f32(2, 8)], { scale: 1, shift: 0 }]];
for (const name of ['add', 'sub', 'mul', 'div', 'maximum', 'minimum']) shown[name] = [[[f32(2, 8), f32(8)], null]];
// These copy by the shader that `copy` shows.
const sharing = ['assign', 'concat', 'slice'];

const folder = new URL('./__wgsl__/', import.meta.url);

describe('the WGSL that reviewers read', () => {
  const files = new Set<string>();

  it.each(opList.map((op) => [op.name, op] as const).filter(([name]) => !sharing.includes(name)))(
    'of %s is as in __wgsl__',
    async (name, op) => {
      const calls = shown[name];
      expect(calls, `${name} needs a call in this test`).toBeDefined();
      const kernels = new Map(calls!.flatMap(([inputs, attrs]) => kernelsOf(op, inputs, attrs)).map((kernel) => [kernel.name, kernel]));
      expect(kernels.size).toBeGreaterThan(0);
      for (const kernel of kernels.values()) {
        files.add(`${kernel.name}.wgsl`);
        await expect(kernel.source()).toMatchFileSnapshot(`./__wgsl__/${kernel.name}.wgsl`);
      }
    },
  );

  it('has no file that nothing makes any more', () => {
    expect(existsSync(folder) ? readdirSync(folder).filter((file) => !files.has(file)) : []).toEqual([]);
  });
});

/** What is wrong with a shader, or ''. */
async function refusal(raw: GpuDevice, name: string, code: string): Promise<string> {
  raw.pushErrorScope('validation');
  const module = raw.createShaderModule({ label: name, code });
  raw.createComputePipeline({ label: name, layout: 'auto' as unknown as object, compute: { module, entryPoint: 'main' } });
  const error = await raw.popErrorScope();
  return error === null ? '' : `${name}: ${(await compileReport(module, code)) || error.message}`;
}

describe('every shader variant of the samples', () => {
  it.each(opList.map((op) => [op.name, op] as const))('of %s compiles', async (_, op) => {
    const raw = device.gpuDevice as GpuDevice;
    const kernels = new Map<string, Kernel>();
    for (const seed of [1, 2, 3, 4]) {
      for (const sample of op.samples(new Generate(seed))) {
        for (const kernel of kernelsOf(op, sample.inputs, sample.attrs)) kernels.set(kernel.name, kernel);
      }
    }
    expect(kernels.size).toBeGreaterThan(0);
    for (const kernel of kernels.values()) expect(await refusal(raw, kernel.name, kernel.source())).toBe('');
  });

  it('would not pass with a mistake in it', async () => {
    expect(await refusal(device.gpuDevice as GpuDevice, 'bad', '@compute @workgroup_size(1)\nfn main() { let x = nothing; }')).toContain(
      'let x = nothing',
    );
  });
});
