import { add, disposeTree, forEachTensor, grad, mul, sum, type Tensor } from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { afterAll, afterEach, expect, it } from 'vitest';
import {
  estimate,
  forward,
  initModel,
  initParams,
  loadRecurrentModel,
  type ModelFamily,
  ouro,
  ownParams,
  parameterShapes,
  type RecurrentModel,
  sandwich,
  type TensorSource,
  tokenLosses,
  unrollBatch,
} from '../src/index.js';
import { configJson, namesOf, tinyConfig } from './helpers.js';

const device = createCpuDevice();
afterEach(() => expect(device.memory().buffers).toBe(0));
afterAll(() => device.dispose());

/** x = scale (s + e) + shift, both by channel. */
const scaled: ModelFamily = {
  ...sandwich,
  name: 'scaled',
  hasAdapter: false,
  parts: {
    inject(model, state, e) {
      const { weight, bias } = ownParams(model, 'scale');
      return add(mul(add(state, e), weight), bias!);
    },
  },
  ownShapes: ({ width: C }) => ({ 'scale.weight': [C], 'scale.bias': [C] }),
  defaults: { stateStd: 0.25 },
};

const read = (tensor: Tensor): Float32Array => {
  const data = device.readSync(tensor) as Float32Array;
  tensor.dispose();
  return data;
};
const logits = (model: RecurrentModel) => read(forward(model, [[1, 2, 3]], { recurrences: 2 }));

/** The parameters as a checkpoint. */
function saved(model: RecurrentModel): TensorSource {
  const tensors = new Map<string, Tensor>();
  forEachTensor(model.params, (tensor, name) => tensors.set(name, tensor));
  return {
    name: 'test.safetensors',
    entries: new Map([...tensors].map(([name, { shape }]) => [name, { dtype: 'F32', shape }])),
    read: async (name) => new Uint8Array(device.readSync(tensors.get(name)!).buffer),
  };
}

it('a family has parameters of its own: by name, untrained, used, in the gradient', () => {
  const shapes = parameterShapes(tinyConfig, scaled);
  expect(shapes.get('transformer.own.scale.weight')).toEqual([24]);
  expect(shapes.has('transformer.adapter.weight')).toBe(false);
  const model = initModel(device, tinyConfig, { seed: 3, family: scaled });
  expect(namesOf(model.params).sort()).toEqual([...shapes.keys()].sort());
  const { weight, bias } = ownParams(model, 'scale');
  expect([...device.readSync(weight), ...device.readSync(bias!)]).toEqual([...new Array(24).fill(1), ...new Array(24).fill(0)]);
  expect(model.config.stateStd).toBe(0.25);
  const before = logits(model);
  device.write(bias!, new Float32Array(24).fill(0.5));
  expect(logits(model)).not.toEqual(before);
  const batch = { batch: 1, tokens: Int32Array.of(1, 2, 3), targets: Int32Array.of(2, 3, 4) };
  const grads = grad(() => sum(tokenLosses(model, batch, { n: 0, k: 2 })) as Tensor, model.params);
  expect(device.readSync(grads.transformer.own!.scale!.weight).some((x) => x !== 0)).toBe(true);
  disposeTree(grads);
  expect(() => ownParams(model, 'gate')).toThrow("no transformer.own.gate; name it in the family's ownShapes");
  model.dispose();
});

it('its checkpoint loads with the family, and names what is missing', async () => {
  const model = initModel(device, tinyConfig, { seed: 3, family: scaled });
  const weights = saved(model);
  const again = await loadRecurrentModel({ device, config: configJson(tinyConfig), weights, family: scaled });
  expect(logits(again)).toEqual(logits(model));
  const other: ModelFamily = { ...scaled, ownShapes: () => ({ 'scale.weight': [24], 'gate.weight': [1, 24] }) };
  await expect(loadRecurrentModel({ device, config: configJson(tinyConfig), weights, family: other })).rejects.toThrow(
    /transformer.own.gate.weight is missing; it must be \[1,24\]; not part of this model: transformer.own.scale.bias/,
  );
  model.dispose();
  again.dispose();
});

it('refuses names that no checkpoint could have', () => {
  const bad: ModelFamily = { ...scaled, ownShapes: () => ({ gate: [24] }) };
  expect(() => parameterShapes(tinyConfig, bad)).toThrow('family "scaled": ownShapes names "gate"; write NAME.weight or NAME.bias');
  expect(() => initParams(device, tinyConfig, { seed: 1, own: {} } as never)).toThrow('unknown option "own"');
});

it('counts what a loop reads of a family that has matrices of its own', () => {
  const gated: ModelFamily = { ...scaled, ownShapes: ({ width: C }) => ({ 'gate.weight': [C, 2 * C] }) };
  const at = (recurrences: number) => estimate(tinyConfig, { dtype: 'f32', family: gated, recurrences }).weightsPerToken;
  const plain = (recurrences: number) => estimate(tinyConfig, { dtype: 'f32', recurrences }).weightsPerToken;
  // As large as the adapter that it stands for.
  expect(at(5) - at(4)).toBe(plain(5) - plain(4));
});

it('an untrained gate stops with one half', () => {
  const config = { ...tinyConfig, preludeLayers: 0, codaLayers: 0, qkBias: false };
  const model = initModel(device, config, { seed: 3, family: ouro });
  expect(device.readSync(model.params.transformer.exit_gate!.bias)).toEqual(Float32Array.of(0));
  expect(model.config).toMatchObject({ embeddingScale: 1, stateStd: 0 });
  model.dispose();
});

it('unrollBatch gives the states, the loss of each, and what counts', () => {
  const model = initModel(device, tinyConfig, { seed: 3 });
  const batch = { batch: 2, tokens: Int32Array.of(1, 2, 3, 4), targets: Int32Array.of(2, -1, 4, 5) };
  const [states, losses, counted] = unrollBatch(model, batch, { n: 2, k: 3 }, ({ states, entropy, counted }) => {
    expect(states.map(({ shape }) => shape)).toEqual(new Array(4).fill([2, 2, 24]));
    return [states[1]!, entropy(states[1]!), counted()];
  });
  expect(read(counted!)).toEqual(Float32Array.of(1, 0, 1, 1));
  states!.dispose();
  // Behind the third recurrence of five.
  expect(read(losses!)).toEqual(read(tokenLosses(model, batch, { n: 3, k: 0 })));
  model.dispose();
});
