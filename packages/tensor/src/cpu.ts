export { CpuDevice, type CpuDeviceOptions, createCpuDevice } from './cpu/device.js';
