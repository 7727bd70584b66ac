import { OutOfMemoryError } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { describe, expect, it } from 'vitest';
import {
  estimate,
  fitOf,
  fittingFormats,
  loadParams,
  ModelSizeError,
  parameterShapes,
  type RecurrentConfig,
  type TensorSource,
  type WeightDType,
} from '../src/index.js';
import { randomWeights, tinyConfig, tinyModel } from './helpers.js';

const huginn: RecurrentConfig = {
  ...tinyConfig,
  vocabularySize: 65536,
  contextLength: 4096,
  width: 5280,
  heads: 55,
  kvHeads: 55,
  mlpWidth: 17920,
  preludeLayers: 2,
  coreLayers: 4,
  codaLayers: 2,
  meanRecurrence: 32,
};

/** The tensors of a checkpoint, by their headers alone: reading one is a failure. */
function headersOf(config: RecurrentConfig, quantized?: 'q8'): TensorSource {
  const entries = new Map<string, { dtype: string; shape: readonly number[] }>();
  for (const [name, shape] of parameterShapes(config)) {
    if (quantized === undefined || shape.length !== 2) entries.set(name, { dtype: 'F32', shape });
    else {
      const [N8, G] = [Math.ceil(shape[0]! / 8), Math.ceil(shape[1]! / 32)];
      entries.set(`${name}.q8`, { dtype: 'I8', shape: [N8, G, 8, 8, 4] });
      entries.set(`${name}.scales`, { dtype: 'F16', shape: [N8, G, 8] });
    }
  }
  return {
    name: 'huginn.safetensors',
    entries,
    read: async (name) => {
      throw new Error(`${name} was read`);
    },
  };
}

async function refusal(attempt: Promise<unknown>): Promise<ModelSizeError> {
  const error = await attempt.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(ModelSizeError);
  expect(error).toBeInstanceOf(OutOfMemoryError);
  return error as ModelSizeError;
}

describe('room on the CPU', () => {
  it('refuses the full size in f32, f16 and bf16, with the bytes, the reason and what would fit, before anything is read', async () => {
    const device = createCpuDevice();
    const fitting = fittingFormats(huginn, device);
    expect(fitting).toContain('q4');
    for (const dtype of ['f32', 'f16', 'bf16'] as const) {
      expect(fitting).not.toContain(dtype);
      const error = await refusal(loadParams(device, huginn, headersOf(huginn), { dtype }));
      expect(error.fitting).toEqual(fitting);
      expect(error.fit.needed).toBeGreaterThanOrEqual(estimate(huginn, { dtype }).weightBytes);
      expect(error.fit.had).toBe(2 ** 32 - 16384);
      expect(error.message).toBe(
        `huginn.safetensors: no room for the model: its parameters take ${error.fit.needed} bytes in ${dtype}, and ${error.fit.had} are left on the cpu device (WebAssembly addresses 4 GiB); ${fitting.map((one) => `${one} (${fitOf(huginn, device, one).needed} bytes)`).join(', ')} would fit: load it with that dtype`,
      );
    }
    // The default is f32.
    expect((await refusal(loadParams(device, huginn, headersOf(huginn)))).message).toMatch(/bytes in f32/);
    expect(device.memory().buffers).toBe(0);
    device.dispose();
  });

  it('sends those who have a quantised checkpoint to the one that it was made from', async () => {
    const device = createCpuDevice({ maxBytes: 3 * 2 ** 30 });
    const error = await refusal(loadParams(device, huginn, headersOf(huginn, 'q8')));
    expect(error.fitting).toEqual(['q4']);
    expect(error.message).toMatch(
      /take \d+ bytes as it is stored, and 3221209088 are left on the cpu device \(the device was made with maxBytes 3221225472\); q4 \(\d+ bytes\) would fit: load it with that dtype, from the checkpoint that this one was made from$/,
    );
    device.dispose();
  });

  it('says so where no format fits, and counts what is on the device already', async () => {
    const device = createCpuDevice({ maxBytes: 2 ** 31 });
    expect(fittingFormats(huginn, device)).toEqual(['q4']);
    const other = device.zeros([2 ** 26], { memory: 'weights' });
    const error = await refusal(loadParams(device, huginn, headersOf(huginn), { dtype: 'q4' }));
    expect(error.fitting).toEqual([]);
    expect(error.fit.had).toBe(2 ** 31 - 16384 - 2 ** 28);
    expect(error.message).toMatch(/; even q4 takes \d+ bytes: use a smaller model, or another device$/);
    other.dispose();
    device.dispose();
  });

  it.each(['f32', 'f16', 'bf16', 'q8', 'q4'] as WeightDType[])('needs for %s what a loaded model takes', async (dtype) => {
    const device = createCpuDevice();
    const { needed } = fitOf(tinyConfig, device, dtype);
    const weights = randomWeights(tinyConfig);
    const params = await loadParams(
      device,
      tinyConfig,
      {
        name: 'tiny',
        entries: new Map([...weights].map(([name, { shape }]) => [name, { dtype: 'F32', shape }])),
        read: async (name) => new Uint8Array(weights.get(name)!.data.buffer),
      },
      { dtype },
    );
    const model = tinyModel(device, tinyConfig);
    // Without the second model: its parameters in f32, but not its table.
    const table = device.memory().bytes.weights - estimate(tinyConfig, { dtype: 'f32' }).weightBytes;
    expect(table).toBe(estimate(tinyConfig, { dtype }).weightBytes + 4 * model.rope.size);
    expect(needed).toBeGreaterThanOrEqual(table);
    expect(needed).toBeLessThan(table * 1.13 + 64 * parameterShapes(tinyConfig).size);
    expect(params.transformer.wte).toBeDefined();
    device.dispose();
  });
});

describe('room elsewhere', () => {
  const gpu = (tensorBytes: number, bytes = Number.POSITIVE_INFINITY) => ({
    capacity: { bytes, tensorBytes, why: 'told', taken: (size: number) => size },
    memory: () => ({ bytes: { weights: 0, kv: 0, scratch: 0 }, buffers: 0, reserved: 0, peak: 0 }),
  });

  it('is also bounded by the largest tensor', () => {
    const gigabyte = gpu(2 ** 30);
    expect(fitOf(huginn, gigabyte, 'f32').tooLarge).toEqual({
      name: 'transformer.wte.weight',
      bytes: 65536 * 5280 * 4,
      most: 2 ** 30,
    });
    expect(fittingFormats(huginn, gigabyte)).toEqual(['f16', 'bf16', 'q8', 'q4']);
    expect(fittingFormats(huginn, gpu(2 ** 28))).toEqual(['q4']);
    expect(fittingFormats(huginn, gpu(2 ** 40, 4e9))).toEqual(['q8', 'q4']);
  });
});
