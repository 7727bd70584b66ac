import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { forward, initParams, loadRecurrentModel, parameterShapes, type TensorSource } from '../src/index.js';
import { configJson, namesOf, randomWeights, tinyConfig, tinyModel } from './helpers.js';

const device = createCpuDevice();
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

type Entry = { dtype: string; shape: readonly number[]; bytes: Uint8Array };

function entriesOf(config = tinyConfig): Map<string, Entry> {
  return new Map(
    [...randomWeights(config)].map(([name, { shape, data }]) => [
      name,
      { dtype: 'F32', shape, bytes: new Uint8Array(data.buffer.slice(0)) },
    ]),
  );
}

const sourceOf = (entries: Map<string, Entry>): TensorSource => ({
  name: 'test.safetensors',
  entries,
  read: async (name) => entries.get(name)!.bytes,
});
const load = (entries: Map<string, Entry>, config = tinyConfig) =>
  loadRecurrentModel({ device, config: configJson(config), weights: sourceOf(entries) });

describe('loading by name', () => {
  it('gives the model that the weights describe', async () => {
    const loaded = await load(entriesOf());
    const built = tinyModel(device);
    expect(namesOf(loaded.params).sort()).toEqual([...parameterShapes(tinyConfig).keys()].sort());
    const [a, b] = [forward(loaded, [[1, 2, 3]]), forward(built, [[1, 2, 3]])];
    expect(await a.data()).toEqual(await b.data());
    for (const owner of [a, b, loaded, built]) owner.dispose();
  });

  it('refuses unknown options, and bytes that are not opened', async () => {
    const given = { device, config: configJson(tinyConfig), weights: sourceOf(entriesOf()) };
    await expect(loadRecurrentModel({ ...given, dType: 'q8' } as never)).rejects.toThrow(/loadRecurrentModel: unknown option "dType"/);
    await expect(loadRecurrentModel({ ...given, weights: new Uint8Array(8) as never })).rejects.toThrow(
      /got bytes. Open them: await openSafetensors/,
    );
    await expect(loadRecurrentModel({ ...given, weights: 'model.safetensors' as never })).rejects.toThrow(/got string. Open them/);
  });

  it('drops the duplicate head and the rotary table of the upload', async () => {
    const entries = entriesOf();
    entries.set('lm_head.weight', { dtype: 'F32', shape: [23, 24], bytes: new Uint8Array(0) });
    entries.set('freqs_cis', { dtype: 'F32', shape: [1, 32, 1, 4, 2], bytes: new Uint8Array(0) });
    const model = await load(entries);
    expect(model.params.lm_head).toBeUndefined();
    model.dispose();
  });

  it('needs the head where it is not tied', async () => {
    const config = { ...tinyConfig, tiedHead: false };
    const entries = entriesOf(config);
    const model = await load(entries, config);
    expect(model.params.lm_head?.weight.shape).toEqual([23, 24]);
    model.dispose();
    entries.delete('lm_head.weight');
    await expect(load(entries, config)).rejects.toThrow(/lm_head.weight is missing; it must be \[23,24\]/);
  });

  it('reports all missing, extra, mis-shaped and unreadable names in one error', async () => {
    const entries = entriesOf();
    entries.delete('transformer.ln_f.weight');
    entries.set('transformer.adapter.weight', { ...entries.get('transformer.adapter.weight')!, shape: [48, 24] });
    entries.set('transformer.wte.weight', { ...entries.get('transformer.wte.weight')!, dtype: 'I64' });
    entries.set('transformer.extra.weight', { dtype: 'F32', shape: [1], bytes: new Uint8Array(4) });
    const error = await load(entries).catch((caught: Error) => caught);
    for (const part of [
      /ln_f.weight is missing; it must be \[24\]/,
      /adapter.weight is \[48,24\]; it must be \[24,48\]/,
      /wte.weight is I64/,
      /not part of this model: transformer.extra.weight/,
    ]) {
      expect((error as Error).message).toMatch(part);
    }
  });

  it('names the tensor that holds NaN or infinity and gives back what it had loaded', async () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const entries = entriesOf();
      new Float32Array(entries.get('transformer.coda.0.mlp.fc.weight')!.bytes.buffer)[17] = bad;
      await expect(load(entries)).rejects.toThrow(/transformer.coda.0.mlp.fc.weight holds NaN or infinite values/);
    }
  });

  it('gives back what it had loaded when reading fails or is aborted', async () => {
    const source = sourceOf(entriesOf());
    const broken = {
      ...source,
      read: async (name: string) => (name.includes('coda') ? Promise.reject(new Error('disk gone')) : source.read(name)),
    };
    await expect(loadRecurrentModel({ device, config: configJson(tinyConfig), weights: broken })).rejects.toThrow('disk gone');
    const signal = AbortSignal.abort(new Error('stopped'));
    await expect(loadRecurrentModel({ device, config: configJson(tinyConfig), weights: source, signal })).rejects.toThrow('stopped');
  });
});

describe('initParams', () => {
  it('has the deviations of the paper and is a function of the seed', async () => {
    const config = { ...tinyConfig, width: 96, mlpWidth: 128 };
    const [a, b, c] = [
      initParams(device, config, { seed: 1 }),
      initParams(device, config, { seed: 1 }),
      initParams(device, config, { seed: 2 }),
    ];
    const deviation = (values: ArrayLike<number>) => Math.sqrt(Array.from(values).reduce((sum, v) => sum + v * v, 0) / values.length);
    const wqkv = await a.transformer.core_block[0]!.attn.Wqkv.weight.data();
    // The cut at 3 sigma leaves 98.7 % of the deviation.
    expect(deviation(wqkv) / Math.sqrt(2 / (5 * 96))).toBeCloseTo(0.987, 1);
    const proj = await a.transformer.core_block[1]!.mlp.proj.weight.data();
    expect(deviation(proj) / Math.sqrt(1 / (5 * 96 * (1 + 4 * 2 + 1)))).toBeCloseTo(0.987, 1);
    expect(await b.transformer.core_block[0]!.attn.Wqkv.weight.data()).toEqual(wqkv);
    expect(await c.transformer.core_block[0]!.attn.Wqkv.weight.data()).not.toEqual(wqkv);
    expect(await a.transformer.core_block[1]!.attn.Wqkv.weight.data()).not.toEqual(wqkv);
    expect(new Set(await a.transformer.ln_f.weight.data())).toEqual(new Set([1]));
    const { disposeTree } = await import('@unroll/tensor');
    for (const params of [a, b, c]) disposeTree(params);
  });
});
