import type { WebGPUDevice } from '@unroll/tensor/webgpu';

const DISPATCHES = 704;
const GROUPS = 22;
const ROUNDS = 20;

// The part of WebGPU that this file calls.
interface Pass {
  setPipeline(pipeline: object): void;
  setBindGroup(index: number, group: object, offsets: number[]): void;
  dispatchWorkgroups(x: number): void;
  end(): void;
}
interface Gpu {
  createBindGroupLayout(descriptor: object): object;
  createPipelineLayout(descriptor: object): object;
  createShaderModule(descriptor: object): object;
  createComputePipeline(descriptor: object): object;
  createBindGroup(descriptor: object): object;
  createBuffer(descriptor: object): { destroy(): void };
  createCommandEncoder(descriptor: object): { beginComputePass(descriptor: object): Pass; finish(): object };
  readonly queue: { submit(commands: object[]): void; onSubmittedWorkDone(): Promise<unknown> };
}

const SHADER = `struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> c: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main(@builtin(global_invocation_id) id: vec3u) { if (id.x < p.n) { y[id.x] = a[id.x] + b[id.x] + c[id.x]; } }`;

/** Microseconds of host time of the calls that a dispatch consists of, without anything around them. */
export interface BareCalls {
  readonly setPipeline: number;
  readonly setBindGroup: number;
  readonly dispatchWorkgroups: number;
  /** The three in turn, as neighbouring dispatches of a core step need them. */
  readonly together: number;
}

/** The shortest of some rounds: the least that a replayed dispatch can take here. */
export async function measureBareCalls(device: WebGPUDevice): Promise<BareCalls> {
  const gpu = device.gpuDevice as Gpu;
  const storage = [1, 2, 3, 4].map((binding) => ({
    binding,
    visibility: 4,
    buffer: { type: binding === 4 ? 'storage' : 'read-only-storage' },
  }));
  const layout = gpu.createBindGroupLayout({
    entries: [{ binding: 0, visibility: 4, buffer: { type: 'uniform', hasDynamicOffset: true } }, ...storage],
  });
  const module = gpu.createShaderModule({ code: SHADER });
  const made = { layout: gpu.createPipelineLayout({ bindGroupLayouts: [layout] }), compute: { module, entryPoint: 'main' } };
  const pipelines = [gpu.createComputePipeline(made), gpu.createComputePipeline(made)];
  const uniforms = gpu.createBuffer({ size: 256 * GROUPS, usage: 0x40 });
  const buffers = Array.from({ length: 4 * GROUPS }, () => gpu.createBuffer({ size: 1024, usage: 0x80 }));
  const groups = Array.from({ length: GROUPS }, (_, g) =>
    gpu.createBindGroup({
      layout,
      entries: [
        { binding: 0, resource: { buffer: uniforms, offset: 0, size: 256 } },
        ...storage.map(({ binding }, i) => ({ binding, resource: { buffer: buffers[4 * g + i] } })),
      ],
    }),
  );
  const offsets = groups.map((_, g) => [256 * g]);
  const time = async (calls: (pass: Pass) => void): Promise<number> => {
    let best = Number.POSITIVE_INFINITY;
    for (let round = 0; round < ROUNDS; round++) {
      const encoder = gpu.createCommandEncoder({});
      const pass = encoder.beginComputePass({});
      pass.setPipeline(pipelines[0]!);
      pass.setBindGroup(0, groups[0]!, offsets[0]!);
      const started = performance.now();
      calls(pass);
      best = Math.min(best, ((performance.now() - started) * 1000) / DISPATCHES);
      pass.end();
      gpu.queue.submit([encoder.finish()]);
      await gpu.queue.onSubmittedWorkDone();
    }
    return Number(best.toPrecision(3));
  };
  try {
    return {
      setPipeline: await time((pass) => {
        for (let i = 0; i < DISPATCHES; i++) pass.setPipeline(pipelines[i % 2]!);
      }),
      setBindGroup: await time((pass) => {
        for (let i = 0; i < DISPATCHES; i++) pass.setBindGroup(0, groups[i % GROUPS]!, offsets[i % GROUPS]!);
      }),
      dispatchWorkgroups: await time((pass) => {
        for (let i = 0; i < DISPATCHES; i++) pass.dispatchWorkgroups(1);
      }),
      together: await time((pass) => {
        for (let i = 0; i < DISPATCHES; i++) {
          pass.setPipeline(pipelines[i % 2]!);
          pass.setBindGroup(0, groups[i % GROUPS]!, offsets[i % GROUPS]!);
          pass.dispatchWorkgroups(1);
        }
      }),
    };
  } finally {
    for (const buffer of [uniforms, ...buffers]) buffer.destroy();
  }
}
