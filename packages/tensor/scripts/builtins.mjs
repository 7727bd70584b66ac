// The errors of the functions that the shading language brings along, on the adapter at hand: kernels and their tolerances rest on them.
// Prints one line for each, in Markdown. The driver is that of VK_DRIVER_FILES, as for every program that uses Dawn.
//
//   node packages/tensor/scripts/builtins.mjs
import { pathToFileURL } from 'node:url';

const POINTS = 40_000;

/** @param {number} low @param {number} high */
const even = (low, high) => Float32Array.from({ length: POINTS }, (_, i) => low + ((high - low) * (i + 0.5)) / POINTS);

/** Units of the last place of an f32 of the exact value's size. @type {(actual: number, exact: number) => number} */
const ulp = (actual, exact) => Math.abs(actual - exact) / 2 ** (Math.floor(Math.log2(Math.abs(exact))) - 23);
/** @type {(actual: number, exact: number) => number} */
const relative = (actual, exact) => Math.abs(actual - exact) / Math.abs(exact);
/** @type {(actual: number, exact: number) => number} */
const absolute = (actual, exact) => Math.abs(actual - exact);

/** @typedef {{ name: string, code: string, exact: (x: number) => number, range: [number, number], unit: 'ulp' | 'relative' | 'absolute' }} Builtin */

/** @type {Builtin[]} */
const builtins = [
  { name: 'exp', code: 'exp(x)', exact: Math.exp, range: [-10, 0], unit: 'relative' },
  { name: 'exp', code: 'exp(x)', exact: Math.exp, range: [-87, 88], unit: 'relative' },
  { name: 'inverseSqrt', code: 'inverseSqrt(x)', exact: (x) => 1 / Math.sqrt(x), range: [1e-3, 100], unit: 'ulp' },
  { name: 'sqrt', code: 'sqrt(x)', exact: Math.sqrt, range: [1e-3, 100], unit: 'ulp' },
  { name: '3 / x', code: '3.0 / x', exact: (x) => 3 / x, range: [0.01, 100], unit: 'ulp' },
  { name: 'sin', code: 'sin(x)', exact: Math.sin, range: [-Math.PI, Math.PI], unit: 'absolute' },
  { name: 'cos', code: 'cos(x)', exact: Math.cos, range: [-Math.PI, Math.PI], unit: 'absolute' },
  { name: 'log', code: 'log(x)', exact: Math.log, range: [0.5, 2], unit: 'absolute' },
  { name: 'tanh', code: 'tanh(x)', exact: Math.tanh, range: [0.01, 0.5], unit: 'relative' },
];

/**
 * The values of an expression of x at many points, computed on the device.
 *
 * @param {any} device a GPUDevice
 * @param {string} code
 * @param {Float32Array} inputs
 */
async function evaluate(device, code, inputs) {
  const module = device.createShaderModule({
    code: `@group(0) @binding(0) var<storage, read_write> data: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < ${inputs.length}u) { let x = data[id.x]; data[id.x] = ${code}; }
}`,
  });
  const pipeline = device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'main' } });
  const data = device.createBuffer({ size: inputs.byteLength, usage: 0x80 | 0x8 | 0x4 });
  const back = device.createBuffer({ size: inputs.byteLength, usage: 0x1 | 0x8 });
  device.queue.writeBuffer(data, 0, inputs);
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries: [{ binding: 0, resource: { buffer: data } }] });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(Math.ceil(inputs.length / 64));
  pass.end();
  encoder.copyBufferToBuffer(data, 0, back, 0, inputs.byteLength);
  device.queue.submit([encoder.finish()]);
  await back.mapAsync(1);
  const values = new Float32Array(back.getMappedRange().slice(0));
  back.unmap();
  for (const buffer of [data, back]) buffer.destroy();
  return values;
}

/**
 * The largest error of each function over its range.
 *
 * @param {any} device a GPUDevice
 * @returns {Promise<{ name: string, range: [number, number], unit: string, error: number }[]>}
 */
export async function measureBuiltins(device) {
  const found = [];
  for (const { name, code, exact, range, unit } of builtins) {
    const inputs = even(...range);
    const values = await evaluate(device, code, inputs);
    const measure = { ulp, relative, absolute }[unit];
    let error = 0;
    inputs.forEach((x, i) => {
      const one = measure(/** @type {number} */ (values[i]), exact(x));
      if (!(one <= error)) error = one;
    });
    found.push({ name, range, unit, error });
  }
  return found;
}

async function main() {
  const { create } = await import('webgpu');
  // Collected while Dawn still calls into it, the object would take the process down.
  const gpu = /** @type {any} */ (create([]));
  Object.assign(globalThis, { dawn: gpu });
  const adapter = await gpu.requestAdapter();
  if (adapter === null) throw new Error('no adapter: set VK_DRIVER_FILES to the .json file of a Vulkan driver');
  const { vendor, architecture, description } = adapter.info;
  console.log(`${[vendor, architecture].filter(Boolean).join(' ')} (${description}), ${POINTS} points each\n`);
  console.log('| function | range | largest error |\n|---|---|---|');
  for (const { name, range, unit, error } of await measureBuiltins(await adapter.requestDevice())) {
    console.log(
      `| ${name} | ${range.map((end) => Number(end.toPrecision(3))).join(' to ')} | ${error < 0.01 ? error.toExponential(1) : error.toPrecision(2)} ${unit} |`,
    );
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
