import { forEachTensor, type Tensor, type WeightFormat, weightParts } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { forward, loadRecurrentModel, ParamsError, type TensorSource, type WeightDType } from '../src/index.js';
import { configJson, randomWeights, tinyConfig } from './helpers.js';

const device = createCpuDevice({ threads: 1 });
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

type Entry = { dtype: string; shape: readonly number[]; bytes: Uint8Array };

const entries = (): Map<string, Entry> =>
  new Map(
    [...randomWeights(tinyConfig)].map(([name, { shape, data }]) => [
      name,
      { dtype: 'F32', shape, bytes: new Uint8Array(data.buffer.slice(0)) },
    ]),
  );
const sourceOf = (held: Map<string, Entry>, slices = false): TensorSource => ({
  name: 'test.safetensors',
  entries: held,
  read: async (name) => held.get(name)!.bytes,
  ...(slices ? { readSlice: async (name: string, begin: number, end: number) => held.get(name)!.bytes.subarray(begin, end) } : {}),
});
const load = (held: Map<string, Entry>, dtype?: WeightDType, slices = false) =>
  loadRecurrentModel({ device, config: configJson(tinyConfig), weights: sourceOf(held, slices), ...(dtype ? { dtype } : {}) });

/** A parameter tree as the tensors of a file. */
async function saved(params: unknown): Promise<Map<string, Entry>> {
  const tensors: [string, Tensor][] = [];
  forEachTensor(params, (tensor, path) => tensors.push([path, tensor]));
  const held = new Map<string, Entry>();
  for (const [path, tensor] of tensors) {
    if (tensor.dtype === 'f32' || tensor.dtype === 'i32') {
      held.set(path, { dtype: 'F32', shape: tensor.shape, bytes: new Uint8Array((await tensor.data()).buffer) });
      continue;
    }
    const bytes = await device.readBytes(tensor);
    for (const part of weightParts(tensor.dtype as WeightFormat, tensor.shape))
      held.set(path + part.suffix, { ...part, bytes: bytes.slice(part.offset, part.offset + part.bytes) });
  }
  return held;
}

const tokens = [[1, 2, 3, 4, 5]];

describe.each(['f16', 'bf16', 'q8', 'q4'] as const)('matrices in %s', (dtype) => {
  it('are rounded while loading, whole or in slices, and give nearly the logits of f32', async () => {
    const [plain, whole, sliced] = [await load(entries()), await load(entries(), dtype), await load(entries(), dtype, true)];
    const dtypes = new Set<string>();
    forEachTensor(whole.params, (tensor, path) => {
      expect(tensor.dtype, path).toBe(tensor.shape.length === 2 ? dtype : 'f32');
      dtypes.add(tensor.dtype);
    });
    expect([...dtypes].sort()).toEqual([dtype, 'f32'].sort());
    const [a, b, c] = [plain, whole, sliced].map((model) => forward(model, tokens)) as [Tensor, Tensor, Tensor];
    expect(await b.data()).toEqual(await c.data());
    const [exact, rounded] = [await a.data(), await b.data()];
    const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
    const off = norm(exact.map((x, i) => x - rounded[i]!) as Float32Array) / norm(exact as Float32Array);
    // Random weights and few columns: far worse than a trained model.
    expect(off).toBeLessThan({ f16: 0.005, bf16: 0.04, q8: 0.15, q4: 0.8 }[dtype]);
    expect(off).toBeGreaterThan(0);
    for (const owner of [a, b, c, plain, whole, sliced]) owner.dispose();
  });

  it('decode with a cache as without one, bit by bit', async () => {
    const model = await load(entries(), dtype);
    const whole = forward(model, tokens);
    const cache = model.createCache();
    const steps = [[1, 2], [3], [4], [5]].map((chunk) => forward(model, [chunk], { cache }));
    const last = await steps[steps.length - 1]!.data();
    const values = await whole.data();
    expect([...last]).toEqual([...values.subarray(values.length - last.length)]);
    for (const owner of [whole, cache, ...steps, model]) owner.dispose();
  });

  it('are saved by a map over the tree and load straight', async () => {
    const model = await load(entries(), dtype);
    const again = await load(await saved(model.params), dtype);
    const [a, b] = [forward(model, tokens), forward(again, tokens)];
    expect(await b.data()).toEqual(await a.data());
    expect(again.device.memory().bytes.weights % 2).toBe(0);
    for (const owner of [a, b, model, again]) owner.dispose();
  });

  it('that hold NaN are refused by name, with nothing left', async () => {
    const held = entries();
    const name = 'transformer.adapter.weight';
    const bytes = held.get(name)!.bytes.slice();
    new DataView(bytes.buffer).setFloat32(400, Number.NaN, true);
    held.set(name, { ...held.get(name)!, bytes });
    await expect(load(held, dtype)).rejects.toThrow(ParamsError);
    await expect(load(held, dtype)).rejects.toThrow(`${name}: quantizeRows: the value at row`);
  });
});

describe('quantised checkpoints', () => {
  const name = 'transformer.adapter.weight';
  const quantised = async () => {
    const model = await load(entries(), 'q8');
    const held = await saved(model.params);
    model.dispose();
    return held;
  };

  it('stay what they are and refuse to become another dtype', async () => {
    const held = await quantised();
    const model = await load(held);
    expect(model.params.transformer.adapter!.weight.dtype).toBe('q8');
    model.dispose();
    await expect(load(held, 'q4')).rejects.toThrow(`${name} is stored as q8 and cannot become q4`);
  });

  it('with missing, mis-shaped, truncated or damaged parts are refused by name', async () => {
    const lacking = await quantised();
    lacking.delete(`${name}.scales`);
    await expect(load(lacking)).rejects.toThrow(`${name}.scales is missing; it must be F16 [3,2,8]`);
    const bent = await quantised();
    bent.set(`${name}.q8`, { ...bent.get(`${name}.q8`)!, shape: [3, 1, 8, 8, 4] });
    await expect(load(bent)).rejects.toThrow(`${name}.q8 is I8 [3,1,8,8,4]; it must be I8 [3,2,8,8,4]`);
    const short = await quantised();
    short.set(`${name}.q8`, { ...short.get(`${name}.q8`)!, bytes: new Uint8Array(10) });
    await expect(load(short)).rejects.toThrow('q8[24,48] needs');
    const damaged = await quantised();
    damaged.get(`${name}.scales`)!.bytes.fill(0xff);
    await expect(load(damaged)).rejects.toThrow(`${name}: q8[24,48]: scale 0 is NaN`);
  });

  it.each(['f32', 'q8', 'q4', 'bf16'] as const)('go to the device in slices with the same bytes, stored as %s', async (dtype) => {
    const made = await load(entries(), dtype);
    const held = await saved(made.params);
    const slices: string[] = [];
    const into: TensorSource = {
      ...sourceOf(held),
      read: () => Promise.reject(new Error('not asked for')),
      readSlice: async (name, begin, end, target) => {
        slices.push(name);
        target!.set(held.get(name)!.bytes.subarray(begin, end));
        return target!.subarray(0, end - begin);
      },
    };
    const model = await loadRecurrentModel({ device, config: configJson(tinyConfig), weights: into, dtype });
    // The source may as well give an array of its own.
    const other = await load(held, dtype, true);
    expect(new Set(slices)).toEqual(new Set(held.keys()));
    for (const one of [model, other]) expect(await saved(one.params)).toEqual(held);
    for (const owner of [made, model, other]) owner.dispose();
  });

  it('whose slices are short, fail or are damaged are refused with nothing left', async () => {
    const held = await quantised();
    const source = sourceOf(held, true);
    const broken = (slice: (name: string, begin: number, end: number) => Promise<Uint8Array>) =>
      loadRecurrentModel({ device, config: configJson(tinyConfig), weights: { ...source, readSlice: slice } });
    const failing = async (name: string, begin: number, end: number) =>
      name.includes('coda') ? Promise.reject(new Error('disk gone')) : source.readSlice!(name, begin, end);
    await expect(broken(failing)).rejects.toThrow('disk gone');
    const short = broken((one, begin, end) => source.readSlice!(one, begin, one === `${name}.q8` ? end - 1 : end));
    await expect(short).rejects.toThrow(ParamsError);
    await expect(short).rejects.toThrow(/adapter.weight.q8: bytes 0 to \d+ were asked for; the source gave \d+/);
    held.get(`${name}.scales`)!.bytes.fill(0xff);
    await expect(load(held, undefined, true)).rejects.toThrow(`${name}: q8[24,48]: scale 0 is NaN`);
    const plain = entries();
    new Float32Array(plain.get('transformer.ln_f.weight')!.bytes.buffer)[3] = Number.NaN;
    await expect(load(plain, undefined, true)).rejects.toThrow('transformer.ln_f.weight holds NaN or infinite values');
  });

  it.each([
    ['as they are', undefined, 2],
    ['rounded', 'q4', 1],
  ] as const)('are read two at a time at most: %s', async (_, dtype, most) => {
    const source = sourceOf(entries(), true);
    const under = new Set<string>();
    let atOnce = 0;
    const readSlice = async (one: string, begin: number, end: number) => {
      under.add(one);
      atOnce = Math.max(atOnce, under.size);
      // The first that is asked for comes last.
      await new Promise((resolve) => setTimeout(resolve, one.includes('wte') ? 50 : 0));
      under.delete(one);
      return source.readSlice!(one, begin, end);
    };
    const weights = { ...source, readSlice };
    const model = await loadRecurrentModel({ device, config: configJson(tinyConfig), weights, ...(dtype ? { dtype } : {}) });
    const plain = await load(entries(), dtype, false);
    expect(atOnce).toBe(most);
    expect([...(await saved(model.params))]).toEqual([...(await saved(plain.params))]);
    for (const owner of [model, plain]) owner.dispose();
  });

  it('stop between two slices when they are aborted', async () => {
    const source = sourceOf(await quantised(), true);
    const stop = new AbortController();
    let after = 0;
    const weights: TensorSource = {
      ...source,
      readSlice: async (one, begin, end) => {
        if (stop.signal.aborted) after++;
        if (one === `${name}.q8`) stop.abort(new Error('stopped'));
        return source.readSlice!(one, begin, end);
      },
    };
    const loading = loadRecurrentModel({ device, config: configJson(tinyConfig), weights, signal: stop.signal });
    await expect(loading).rejects.toThrow('stopped');
    expect(after).toBe(0);
  });

  it('an unknown dtype is refused', async () => {
    await expect(load(entries(), 'q5' as WeightDType)).rejects.toThrow('loadParams: dtype must be f32, f16, bf16, q8 or q4; got q5');
  });
});
