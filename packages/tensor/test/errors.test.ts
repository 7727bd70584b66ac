import * as T from '@unroll/tensor';
import { createCpuDevice } from '@unroll/tensor/cpu';
import { Generate, opList } from '@unroll/tensor/testing';
import { afterAll, describe, expect, it } from 'vitest';

const device = createCpuDevice();
afterAll(() => device.dispose());

const f = (...shape: number[]) => device.zeros(shape);
const i = (...shape: number[]) => device.zeros(shape, { dtype: 'i32' });
const given = (values: number[], ...shape: number[]) => device.tensor(values, shape.length > 0 ? shape : undefined, { dtype: 'i32' });
// biome-ignore lint/suspicious/noExplicitAny: what JavaScript callers can pass
const any = (value: unknown) => value as any;

type Case = readonly [call: () => unknown, type: new (message: string) => Error, message: string];
const cases: Record<string, Case> = {
  'unary dtype': [() => T.exp(i(2)), T.DTypeError, 'exp: input 0 must be f32; got i32'],
  'affine option': [() => T.affine(f(2), any({ scael: 2 })), T.OptionError, 'affine: unknown option "scael"; known options: scale, shift'],
  'binary broadcast': [
    () => T.add(f(2, 3), f(4)),
    T.ShapeError,
    'add: [2,3] and [4] do not broadcast; dims, aligned at the end, must be equal or 1',
  ],
  'binary dtype': [() => T.mul(f(2), i(2)), T.DTypeError, 'mul: input 1 must be f32; got i32'],
  'argmax empty': [() => T.argmax(f(3, 0)), T.ShapeError, 'argmax: the last axis must hold at least one value; got [3,0]'],
  'argmax scalar': [() => T.argmax(f()), T.ShapeError, 'argmax: the last axis must hold at least one value; got []'],
  'attention rank': [
    () => T.attention(f(2, 4), f(2, 1, 4), f(2, 1, 4), i(1, 2), i(1, 2)),
    T.ShapeError,
    'attention: q must be (B, T, H, D), k and v (R, Hk, D); q=[2,4] k=[2,1,4] v=[2,1,4] keyRows=[1,2] visible=[1,2]',
  ],
  'attention heads': [
    () => T.attention(f(1, 8, 6, 64), f(9, 4, 64), f(9, 4, 64), i(1, 8), i(1, 8)),
    T.ShapeError,
    'attention: q has 6 heads, k has 4; q heads must be a multiple of k heads; q=[1,8,6,64] k=[9,4,64]',
  ],
  'attention k and v': [() => T.attention(f(1, 1, 1, 4), f(2, 1, 4), f(3, 1, 4), i(1, 2), i(1, 1)), T.ShapeError, 'k=[2,1,4] v=[3,1,4]'],
  'attention rows': [
    () => T.attention(f(1, 2, 1, 4), f(2, 1, 4), f(2, 1, 4), i(2, 2), i(1, 2)),
    T.ShapeError,
    'attention: keyRows must be (B, S) and visible (B, T);',
  ],
  'attention dtype': [
    () => T.attention(f(1, 2, 1, 4), f(2, 1, 4), f(2, 1, 4), any(f(1, 2)), i(1, 2)),
    T.DTypeError,
    'attention: input 3 must be i32; got f32',
  ],
  'attention scale': [
    () => T.attention(f(1, 1, 1, 4), f(2, 1, 4), f(2, 1, 4), i(1, 2), i(1, 1), { scale: Number.NaN }),
    T.OptionError,
    'attention: scale must be a finite number; got NaN',
  ],
  'attention option': [
    () => T.attention(f(1, 1, 1, 4), f(2, 1, 4), f(2, 1, 4), i(1, 2), i(1, 1), any({ causal: true })),
    T.OptionError,
    'attention: unknown option "causal"; known options: scale',
  ],
  'concat none': [() => T.concat([], 0), T.ShapeError, 'concat: needs at least one tensor; got none'],
  'concat shapes': [() => T.concat([f(2, 3), f(2, 4)], 0), T.ShapeError, 'concat: all dims but axis 0 must be equal; got [2,3] [2,4]'],
  'concat dtypes': [() => T.concat<T.Tensor>([f(2), i(2)], 0), T.DTypeError, 'concat: input 1 must be f32; got i32'],
  'concat axis': [() => T.concat([f(2)], 1), T.ShapeError, 'concat: axis 1 does not exist in a tensor of rank 1'],
  'crossEntropy shapes': [
    () => T.crossEntropy(f(2, 3), i(3)),
    T.ShapeError,
    'crossEntropy: logits must be (..., V) and targets (...); got logits=[2,3] targets=[3]',
  ],
  'crossEntropy V': [() => T.crossEntropy(f(2, 0), i(2)), T.ShapeError, 'got logits=[2,0] targets=[2]'],
  'crossEntropy target': [
    () => T.crossEntropy(f(3, 4), given([0, -100, 4])),
    T.RangeOpError,
    'crossEntropy: target 4, at place 2, is neither in 0..3 nor ignoreIndex -100',
  ],
  'crossEntropy ignoreIndex': [
    () => T.crossEntropy(f(1, 4), i(1), { ignoreIndex: 1.5 }),
    T.OptionError,
    'crossEntropy: ignoreIndex must be a whole number of 32 bits; got 1.5',
  ],
  'crossEntropy option': [() => T.crossEntropy(f(1, 4), i(1), any({ ignore: 1 })), T.OptionError, 'crossEntropy: unknown option "ignore"'],
  'gatherRows index': [
    () => T.gatherRows(f(5, 2), given([4, 0, 7])),
    T.RangeOpError,
    'gatherRows: index 7, at place 2, is outside the rows 0..4 of the table [5,2]',
  ],
  'gatherRows negative': [() => T.gatherRows(f(5, 2), given([-1])), T.RangeOpError, 'gatherRows: index -1, at place 0'],
  'gatherRows dtype': [() => T.gatherRows(f(5, 2), f(1)), T.DTypeError, 'gatherRows: input 1 must be i32; got f32'],
  'gatherRows scalar': [() => T.gatherRows(f(), i(1)), T.ShapeError, 'gatherRows: the table needs rows; got []'],
  'matmul inner': [() => T.matmul(f(2, 3), f(4, 5)), T.ShapeError, 'matmul: the inner axes must be equal, 3 is not 4; a=[2,3] b=[4,5]'],
  'matmul transposed': [
    () => T.matmul(f(2, 3), f(4, 5), { transposeA: true, transposeB: true }),
    T.ShapeError,
    'matmul: the inner axes must be equal, 2 is not 5; a=[2,3] transposed b=[4,5] transposed',
  ],
  'matmul batch': [
    () => T.matmul(f(2, 2, 3), f(3, 3, 5)),
    T.ShapeError,
    'matmul: the leading axes must be equal, or b must have none; a=[2,2,3] b=[3,3,5]',
  ],
  'matmul rank': [() => T.matmul(f(3), f(3, 5)), T.ShapeError, 'matmul: both inputs need at least two axes; a=[3] b=[3,5]'],
  'matmul option': [
    () => T.matmul(f(2, 2), f(2, 2), any({ transB: true })),
    T.OptionError,
    'matmul: unknown option "transB"; known options: transposeA, transposeB',
  ],
  'matvec shapes': [() => T.matvec(f(2, 3), f(2)), T.ShapeError, 'matvec: w must be (N, K) and x (K); got w=[2,3] x=[2]'],
  'permute axes': [() => T.permute(f(2, 3), [0, 0]), T.ShapeError, 'permute: axes must be an order of 0 to 1; got [0,0] for [2,3]'],
  'transpose rank': [() => T.transpose(f(3)), T.ShapeError, 'transpose: needs two axes; got [3]'],
  'randomRows keys': [
    () => T.randomRows(i(3), i(3), { distribution: 'uniform', width: 1 }),
    T.ShapeError,
    'randomRows: keys must be (..., 2) for positions (...); got keys=[3] positions=[3]',
  ],
  'randomRows width': [
    () => T.randomRows(i(2), i(), { distribution: 'uniform', width: -1 }),
    T.ShapeError,
    'randomRows: width must be a whole number; got -1',
  ],
  'randomRows distribution': [
    () => T.randomRows(i(2), i(), any({ distribution: 'normal', width: 1 })),
    T.OptionError,
    'randomRows: distribution must be one of uniform, truncatedNormal, gumbel; got normal',
  ],
  'randomRows bound': [
    () => T.randomRows(i(2), i(), { distribution: 'truncatedNormal', width: 1, std: 1, bound: 9 }),
    T.OptionError,
    'randomRows: bound must be in (0, 5] and std a number from 0; got bound=9 std=1',
  ],
  'randomRows std': [
    () => T.randomRows(i(2), i(), { distribution: 'truncatedNormal', width: 1, std: Number.NaN, bound: 3 }),
    T.OptionError,
    'std=NaN',
  ],
  'randomRows option of another': [
    () => T.randomRows(i(2), i(), any({ distribution: 'gumbel', width: 1, std: 2 })),
    T.OptionError,
    'randomRows: unknown option "std"; known options: distribution, width',
  ],
  'randomKey seed': [
    () => T.randomKey(-1, 'state'),
    T.OptionError,
    'randomKey: seed must be a whole number from 0 to 9007199254740991; got -1',
  ],
  'randomKey stream': [
    () => T.randomKey(1, any('noises')),
    T.OptionError,
    'randomKey: stream must be one of state, sampling, init, noise; got noises',
  ],
  'reduce axis': [() => T.sum(f(2, 3), { axis: 2 }), T.ShapeError, 'sum: axis 2 does not exist in a tensor of rank 2'],
  'reduce empty': [
    () => T.max(f(2, 0), { axis: -1 }),
    T.ShapeError,
    'max: nothing to reduce in [2,0]; only a sum over nothing has a value',
  ],
  'reduce dtype': [() => T.mean(i(2)), T.DTypeError, 'mean: input 0 must be f32; got i32'],
  'reduce option': [
    () => T.logSumExp(f(2), any({ dim: 0 })),
    T.OptionError,
    'logSumExp: unknown option "dim"; known options: axis, keepDims',
  ],
  'reshape size': [() => T.reshape(f(2, 3), [4]), T.ShapeError, 'reshape: [2,3] has 6 values, [4] needs 4'],
  'reshape open dim': [() => T.reshape(f(2, 3), [4, -1]), T.ShapeError, 'reshape: [2,3] does not fit [4,-1]'],
  'reshape two open dims': [() => T.reshape(f(2, 3), [-1, -1]), T.ShapeError, 'reshape: [2,3] does not fit [-1,-1]'],
  'rmsNorm weight': [
    () => T.rmsNorm(f(2, 3), f(2)),
    T.ShapeError,
    'rmsNorm: the weight must be (C) for x (..., C); got x=[2,3] weight=[2]',
  ],
  'rmsNorm eps': [() => T.rmsNorm(f(2, 3), f(3), { eps: -1 }), T.OptionError, 'rmsNorm: eps must be a number from 0; got -1'],
  'rmsNorm option': [
    () => T.rmsNorm(f(2, 3), f(3), any({ epsilon: 1 })),
    T.OptionError,
    'rmsNorm: unknown option "epsilon"; known options: eps',
  ],
  'rope shapes': [
    () => T.rope(f(2, 1, 4), f(9, 3, 2), i(2), { layout: 'half' }),
    T.ShapeError,
    'rope: x must be (..., H, D) with even D, table (P, D/2, 2), positions (...); got x=[2,1,4] table=[9,3,2] positions=[2]',
  ],
  'rope layout': [
    () => T.rope(f(2, 1, 4), f(9, 2, 2), i(2), any({ layout: 'neox' })),
    T.OptionError,
    'rope: layout must be interleaved or half; got neox',
  ],
  'ropeTable D': [() => T.ropeTable(4, 3, 1e4), T.ShapeError, 'ropeTable: D must be even; got 3'],
  'ropeTable base': [() => T.ropeTable(4, 2, 0), T.OptionError, 'ropeTable: base must be a positive number; got 0'],
  'ropeTable positions': [() => T.ropeTable(-4, 2, 1e4), T.ShapeError, 'ropeTable: dims must be whole numbers'],
  'scatterRows index': [
    () => T.scatterRows(f(5, 2), given([0, 5]), f(2, 2)),
    T.RangeOpError,
    'scatterRows: index 5, at place 1, is outside the rows 0..4 of the table [5,2]',
  ],
  'scatterRows shapes': [
    () => T.scatterRows(f(5, 2), i(2), f(2, 3)),
    T.ShapeError,
    'scatterRows: rows must be (index..., table[1:]...); got table=[5,2] index=[2] rows=[2,3]',
  ],
  'scatterRows dtype': [() => T.scatterRows(f(5, 2), i(2), i(2, 2)), T.DTypeError, 'scatterRows: input 2 must be f32; got i32'],
  'siluMul odd': [() => T.siluMul(f(2, 3)), T.ShapeError, 'siluMul: the last axis holds gate and up halves and must be even; got [2,3]'],
  'slice range': [() => T.slice(f(2, 3), 1, 2, 4), T.ShapeError, 'slice: 0 <= start <= end <= 3 must hold on axis 1; got 2 to 4 of [2,3]'],
  'slice fraction': [() => T.slice(f(2, 3), 1, 0.5, 2), T.ShapeError, 'got 0.5 to 2 of [2,3]'],
  'softmax scalar': [() => T.softmax(f()), T.ShapeError, 'softmax: needs at least one axis; got []'],
  'split sizes': [() => T.split(f(4), 0, [1, 2]), T.ShapeError, 'split: sizes [1,2] add up to 3, axis 0 of [4] is 4'],
  'topK k': [() => T.topK(f(2, 3), 4), T.ShapeError, 'topK: k must be a whole number from 0 to the last axis; got k=4 for [2,3]'],
  'topK fraction': [() => T.topK(f(2, 3), 1.5), T.ShapeError, 'got k=1.5 for [2,3]'],
  'no tensor': [() => T.add(f(2), any(undefined)), T.UnrollError, 'add: input 1 must be a tensor; got undefined'],
  'tensor count': [() => device.tensor([1, 2, 3], [2, 2]), T.ShapeError, 'device.tensor: [2,2] needs 4 values; got 3'],
  'tensor dims': [() => device.zeros([2, -1]), T.ShapeError, 'device.zeros: dims must be whole numbers from 0 to 2147483647; got [2,-1]'],
  'tensor size': [
    () => device.zeros([65536, 65536]),
    T.ShapeError,
    'device.zeros: [65536,65536] has more than 2147483647 values; split it',
  ],
  'tensor absurd rank': [() => device.zeros([...new Array(40).fill(2 ** 31 - 1), 0]), T.ShapeError, 'has more than 2147483647 values'],
  'tensor whole numbers': [
    () => device.tensor([1, 2.5], [2], { dtype: 'i32' }),
    T.RangeOpError,
    'device.tensor: an i32 tensor takes whole numbers from -2^31 to 2^31 - 1; value 1 is 2.5',
  ],
  'tensor shape': [() => device.tensor([1, 2, 3], any(3)), T.ShapeError, 'device.tensor: a shape is a list of dims, such as [2, 3]; got 3'],
  'tensor of nothing': [
    () => device.tensor(any(undefined), [2]),
    T.DTypeError,
    'device.tensor: takes a flat list of numbers; got undefined',
  ],
  'tensor of rows': [
    () =>
      device.tensor(
        any([
          [1, 2],
          [3, 4],
        ]),
        [2, 2],
      ),
    T.DTypeError,
    'device.tensor: takes a flat list of numbers; value 0 is an array; flatten it, and give the shape',
  ],
  'a number for a tensor': [
    () => T.add(f(2), any(1)),
    T.UnrollError,
    'add: input 1 must be a tensor; got number; affine(x, { scale, shift })',
  ],
  'tensor of text': [() => device.tensor(any('ab'), [2]), T.DTypeError, 'device.tensor: takes a flat list of numbers; value 0 is a string'],
  'tensor of nested lists': [() => device.tensor(any([[1]]), [1]), T.DTypeError, 'value 0 is an array'],
  'tensor i32 range': [() => device.tensor([2 ** 31], [1], { dtype: 'i32' }), T.RangeOpError, 'value 0 is 2147483648'],
  'tensor dtype': [
    () => device.tensor([1], [1], any({ dtype: 'f64' })),
    T.DTypeError,
    'dtype must be one of f32, i32, f16, bf16, q8, q4; got f64',
  ],
  'tensor memory': [
    () => device.zeros([1], any({ memory: 'cache' })),
    T.OptionError,
    'device.zeros: memory must be one of weights, kv, scratch; got cache',
  ],
  'tensor option': [
    () => device.tensor([1], [1], any({ type: 'i32' })),
    T.OptionError,
    'device.tensor: unknown option "type"; known options: dtype, memory',
  ],
  'fromBytes length': [
    () => device.fromBytes(new Uint8Array(7), 'f16', [4]),
    T.ShapeError,
    'device.fromBytes: f16[4] needs 8 bytes; got 7',
  ],
  'fromBytes dtype': [
    () => device.fromBytes(new Uint8Array(8), any('f64'), [1]),
    T.DTypeError,
    'device.fromBytes: dtype must be one of f32, i32, f16, bf16, q8, q4; got f64',
  ],
  'fromBytes dtype of an object': [() => device.fromBytes(new Uint8Array(8), any('toString'), [1]), T.DTypeError, 'q8, q4; got toString'],
  'write place': [() => device.write(f(4), new Float32Array(2), 3), T.ShapeError, 'device.write: 2 values at 3 do not fit in [4]'],
  'write NaN': [() => device.write(f(4), new Float32Array(2), Number.NaN), T.ShapeError, 'device.write: 2 values at NaN do not fit in [4]'],
  'write dtype': [
    () => device.write(f(4), new Int32Array(2)),
    T.DTypeError,
    'device.write: a f32 tensor takes Float32Array; got Int32Array',
  ],
  'device size': [
    () => createCpuDevice({ maxBytes: 1000 }),
    T.OptionError,
    'createCpuDevice: maxBytes must be a whole number from 1048576 to 4294967296; got 1000',
  ],
  'device option': [
    () => createCpuDevice(any({ cores: 4 })),
    T.OptionError,
    'createCpuDevice: unknown option "cores"; known options: maxBytes',
  ],
};

describe('errors name who, what was expected and what came', () => {
  it.each(Object.entries(cases))('%s', (_, [call, type, message]) => {
    let error: unknown;
    try {
      call();
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(type);
    expect((error as Error).message).toContain(message);
    expect((error as Error).name).toBe(type.name);
    expect(T.UnrollError.is(error)).toBe(true);
  });

  it('and leave no buffer behind', () => {
    for (const [call] of Object.values(cases)) {
      const before = device.memory().buffers;
      expect(() => T.tidy(device, call)).toThrow();
      expect(device.memory().buffers).toBe(before);
    }
  });

  it('every operation refuses every input of another dtype, by its name, but for those that only move values', () => {
    const moving = ['copy:0', 'slice:0', 'permute:0', 'gatherRows:0'];
    for (const op of opList) {
      const { inputs, attrs } = op.samples(new Generate(1))[0]!;
      inputs.forEach((input, at) => {
        if (moving.includes(`${op.name}:${at}`)) return;
        const swapped = inputs.map((other, n) =>
          n === at ? { ...other, dtype: input.dtype === 'f32' ? ('i32' as const) : ('f32' as const) } : other,
        );
        const name = op.name === 'reduce' ? 'sum' : op.name;
        expect(() => op.infer(swapped, attrs), `${op.name}, input ${at}`).toThrow(T.DTypeError);
        expect(() => op.infer(swapped, attrs)).toThrow(new RegExp(`^${name}: input \\d must be (f32|i32); got (f32|i32)$`));
      });
    }
  });
});

it('UnrollError.is knows errors of another copy of the package, and nothing else', () => {
  const foreign = Object.defineProperty(new Error('elsewhere'), Symbol.for('unroll.error'), { value: true });
  expect(T.UnrollError.is(foreign)).toBe(true);
  for (const other of [new Error('plain'), null, undefined, 'text', {}]) expect(T.UnrollError.is(other)).toBe(false);
});

it('a range error of scatterRows leaves the table as it was', () => {
  const table = device.tensor([1, 2, 3, 4], [2, 2]);
  expect(() => T.scatterRows(table, given([0, 1, 2]), f(3, 2))).toThrow(T.RangeOpError);
  expect(() => T.scatterRows(table, given([1, -2]), f(2, 2))).toThrow('scatterRows: index -2, at place 1');
  expect([...device.readSync(table)]).toEqual([1, 2, 3, 4]);
});
