export type { GpuFeature, WebGPUDeviceOptions } from './webgpu/adapter.js';
export { createWebGPUDevice, WebGPUDevice, type WebGPUStats } from './webgpu/device.js';
export type { GpuLike } from './webgpu/gpu.js';
export type { GpuProgram } from './webgpu/program.js';
