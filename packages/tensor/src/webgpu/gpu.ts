// The part of WebGPU that this package uses, as structural types: `navigator.gpu` under TypeScript 6 and later, under `@webgpu/types`,
// and Dawn's object in Node all fit, and no consumer needs ambient WebGPU types.

/** What `createWebGPUDevice` needs: `navigator.gpu` in a browser, the result of `create([])` of the package `webgpu` in Node. */
export interface GpuLike {
  /** What the shader language offers beyond its first version; a set of names. */
  readonly wgslLanguageFeatures?: { has(name: string): boolean };
  requestAdapter(options?: { readonly powerPreference?: 'low-power' | 'high-performance' }): Promise<object | null>;
}

export interface GpuLimits {
  readonly maxBufferSize: number;
  readonly maxStorageBufferBindingSize: number;
  readonly maxStorageBuffersPerShaderStage: number;
  readonly maxComputeWorkgroupStorageSize: number;
  readonly maxComputeInvocationsPerWorkgroup: number;
  readonly maxComputeWorkgroupSizeX: number;
  readonly maxComputeWorkgroupsPerDimension: number;
  readonly minStorageBufferOffsetAlignment: number;
  readonly minUniformBufferOffsetAlignment: number;
}

export interface GpuAdapterInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  readonly isFallbackAdapter?: boolean;
  readonly subgroupMinSize?: number;
  readonly subgroupMaxSize?: number;
}

export interface GpuAdapter {
  readonly limits: GpuLimits;
  readonly features: ReadonlySet<string>;
  readonly info?: GpuAdapterInfo;
  requestDevice(descriptor: { label: string; requiredFeatures: string[]; requiredLimits: Record<string, number> }): Promise<GpuDevice>;
}

export interface GpuBuffer {
  readonly size: number;
  destroy(): void;
  mapAsync(mode: number, offset?: number, size?: number): Promise<void>;
  getMappedRange(offset?: number, size?: number): ArrayBuffer;
  unmap(): void;
}

export interface GpuErrorInfo {
  readonly message: string;
}

export interface GpuPipeline {
  readonly label: string;
}

export interface GpuShaderModule {
  getCompilationInfo(): Promise<{ readonly messages: readonly { type: string; message: string; lineNum: number; linePos: number }[] }>;
}

export interface GpuBindGroup {
  readonly label: string;
}

export interface GpuLayout {
  readonly label: string;
}

export interface GpuQuerySet {
  destroy(): void;
}

export interface GpuComputePass {
  setPipeline(pipeline: GpuPipeline): void;
  setBindGroup(index: number, group: GpuBindGroup, offsets: number[]): void;
  dispatchWorkgroups(x: number, y?: number, z?: number): void;
  end(): void;
}

export interface GpuCommandEncoder {
  beginComputePass(descriptor: {
    label: string;
    timestampWrites?: { querySet: GpuQuerySet; beginningOfPassWriteIndex: number; endOfPassWriteIndex: number };
  }): GpuComputePass;
  copyBufferToBuffer(from: GpuBuffer, fromOffset: number, to: GpuBuffer, toOffset: number, size: number): void;
  clearBuffer(buffer: GpuBuffer, offset: number, size: number): void;
  resolveQuerySet(set: GpuQuerySet, first: number, count: number, to: GpuBuffer, offset: number): void;
  finish(descriptor: { label: string }): object;
}

export interface GpuQueue {
  writeBuffer(buffer: GpuBuffer, offset: number, data: ArrayBufferView | ArrayBuffer, dataOffset?: number, size?: number): void;
  submit(commands: object[]): void;
  onSubmittedWorkDone(): Promise<unknown>;
}

export interface GpuBindGroupEntry {
  binding: number;
  resource: { buffer: GpuBuffer; offset: number; size: number };
}

export interface GpuDevice {
  readonly limits: GpuLimits;
  readonly features: ReadonlySet<string>;
  readonly queue: GpuQueue;
  readonly lost: Promise<{ readonly reason: string; readonly message: string }>;
  createBuffer(descriptor: { label: string; size: number; usage: number }): GpuBuffer;
  createShaderModule(descriptor: { label: string; code: string }): GpuShaderModule;
  createBindGroupLayout(descriptor: { label: string; entries: object[] }): GpuLayout;
  createPipelineLayout(descriptor: { label: string; bindGroupLayouts: GpuLayout[] }): object;
  createComputePipeline(descriptor: {
    label: string;
    layout: object;
    compute: { module: GpuShaderModule; entryPoint: string };
  }): GpuPipeline;
  createBindGroup(descriptor: { label: string; layout: GpuLayout; entries: GpuBindGroupEntry[] }): GpuBindGroup;
  createCommandEncoder(descriptor: { label: string }): GpuCommandEncoder;
  createQuerySet(descriptor: { label: string; type: 'timestamp'; count: number }): GpuQuerySet;
  pushErrorScope(filter: 'validation' | 'out-of-memory' | 'internal'): void;
  popErrorScope(): Promise<GpuErrorInfo | null>;
  addEventListener(type: 'uncapturederror', listener: (event: { readonly error: GpuErrorInfo }) => void): void;
  destroy(): void;
}

// The numbers of GPUBufferUsage and GPUMapMode: Node has no such globals unless a program makes them.
export const usage = { mapRead: 0x1, copySrc: 0x4, copyDst: 0x8, uniform: 0x40, storage: 0x80, queryResolve: 0x200 } as const;
export const mapRead = 0x1;
export const shaderStageCompute = 0x4;
