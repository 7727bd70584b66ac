import { expect, test } from 'vitest';

// (module (func (result v128) v128.const i32x4 0 0 0 0)), as the smallest module that uses SIMD
const SIMD_MODULE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 22, 1, 20, 0, 253, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  0, 11,
]);

test('the test page is cross-origin isolated, so that shared memory and threads can be tested', () => {
  expect(globalThis.crossOriginIsolated).toBe(true);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true });
  expect(memory.buffer).toBeInstanceOf(SharedArrayBuffer);
});

test('this Chromium runs WebAssembly SIMD', () => {
  expect(WebAssembly.validate(SIMD_MODULE)).toBe(true);
  const broken = SIMD_MODULE.slice();
  broken[24] = 255;
  expect(WebAssembly.validate(broken)).toBe(false);
});

test('this Chromium gives a WebGPU adapter', async () => {
  const gpu = (navigator as { gpu?: { requestAdapter(): Promise<object | null> } }).gpu;
  expect(await gpu?.requestAdapter()).toBeTruthy();
});
