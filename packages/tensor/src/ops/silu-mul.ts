import { ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes } from '../op.js';
import { sameShape, showShape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { type GpuDispatch, kernel, perThread, rowRanges, type Whole } from '../webgpu/kernel.js';
import type { GpuTraits } from '../webgpu/traits.js';

const siluMulKernel = () =>
  kernel('siluMul', [], () => ({
    params: { n: 'u32', half: 'u32' },
    read: { x: 'f32' },
    write: { y: 'f32' },
    uses: ['sigmoid'],
    body: `if (index >= p.n) { return; }
  let at = index + (index / p.half) * p.half;
  let gate = x[at];
  y[index] = gate * sigmoid_f(gate) * x[at + p.half];`,
  }));

/** y (rows, half) = siluMul of x (rows, 2 half). */
export function siluMulWgsl(x: Whole, y: Whole, rows: number, half: number, traits: GpuTraits): GpuDispatch[] {
  return rowRanges('siluMul', rows, [half * 8, half * 4], traits).map(({ rows, part }) =>
    perThread(siluMulKernel(), rows * half, traits, { bind: [part(x, half * 8), part(y, half * 4)], params: { n: rows * half, half } }),
  );
}

export const siluMulOp = defineOp<null>({
  name: 'siluMul',
  infer(inputs) {
    expectDTypes('siluMul', inputs, ['f32']);
    const { shape } = inputs[0]!;
    const width = shape[shape.length - 1];
    if (width === undefined || width % 2 !== 0) {
      throw new ShapeError(`siluMul: the last axis holds gate and up halves and must be even; got ${showShape(shape)}`);
    }
    return [{ shape: [...shape.slice(0, -1), width / 2], dtype: 'f32' }];
  },
  reference([x], _, [y]) {
    const half = y!.shape[y!.shape.length - 1]!;
    for (let i = 0; i < y!.data.length; i++) {
      const row = Math.floor(i / half) * 2 * half + (i % half);
      const gate = x!.data[row]!;
      y!.data[i] = (gate / (1 + Math.exp(-gate))) * x!.data[row + half]!;
    }
  },
  cpu(c, [x], _, [y]) {
    if (y!.size === 0) return;
    const half = y!.shape[y!.shape.length - 1]!;
    c.kernels.siluMul(c.at(x!), c.at(y!), half, 0, y!.size / half);
  },
  wgsl([x], _, [y], traits) {
    const half = y!.shape[y!.shape.length - 1]!;
    return y!.size === 0 ? [] : siluMulWgsl(x!, y!, y!.size / half, half, traits);
  },
  vjp: ({ inputs: [x], grads: [g] }, o) => [o.siluMulGrad(x!, g!)],
  samples(g) {
    const shapes = [[2], [1, 2], [0, 8], [3, 0], [g.int(1, 5), 2 * g.int(1, 9)], [2, 3, 32]];
    return shapes.map((shape) => ({ inputs: [g.f32(shape, -8, 8)], attrs: null, absolute: 1e-6, relative: 3e-6 }));
  },
});

/** silu(gate) * up for x (..., 2 I) with the gate values first -> (..., I). */
export function siluMul(x: Tensor): Tensor<'f32'> {
  return apply1(siluMulOp, [x], null) as Tensor<'f32'>;
}

const siluMulGradKernel = () =>
  kernel('siluMulGrad', [], () => ({
    params: { n: 'u32', half: 'u32' },
    read: { x: 'f32', g: 'f32' },
    write: { dx: 'f32' },
    uses: ['sigmoid'],
    body: `if (index >= p.n) { return; }
  let at = index + (index / p.half) * p.half;
  let gate = x[at];
  let s = sigmoid_f(gate);
  let silu = gate * s;
  dx[at] = g[index] * x[at + p.half] * (s + silu * (1.0 - s));
  dx[at + p.half] = g[index] * silu;`,
  }));

export const siluMulGradOp = defineOp<null>({
  name: 'siluMulGrad',
  infer(inputs) {
    expectDTypes('siluMulGrad', inputs, ['f32', 'f32']);
    const [y] = siluMulOp.infer([inputs[0]!], null);
    if (!sameShape(y!.shape, inputs[1]!.shape))
      throw new ShapeError(`siluMulGrad: g must be ${showShape(y!.shape)}; got ${showShape(inputs[1]!.shape)}`);
    return [inputs[0]!];
  },
  reference([x, g], _, [dx]) {
    const half = g!.shape[g!.shape.length - 1]!;
    for (let i = 0; i < g!.data.length; i++) {
      const row = Math.floor(i / half) * 2 * half + (i % half);
      const gate = x!.data[row]!;
      const s = 1 / (1 + Math.exp(-gate));
      dx!.data[row] = g!.data[i]! * x!.data[row + half]! * (s + gate * s * (1 - s));
      dx!.data[row + half] = g!.data[i]! * gate * s;
    }
  },
  cpu(c, [x, g], _, [dx]) {
    if (g!.size === 0) return;
    const half = g!.shape[g!.shape.length - 1]!;
    c.kernels.siluMulGrad(c.at(x!), c.at(g!), c.at(dx!), half, 0, g!.size / half);
  },
  wgsl([x, g], _, [dx], traits) {
    if (g!.size === 0) return [];
    const half = g!.shape[g!.shape.length - 1]!;
    return rowRanges('siluMulGrad', g!.size / half, [half * 8, half * 4], traits).map(({ rows, part }) =>
      perThread(siluMulGradKernel(), rows * half, traits, {
        bind: [part(x!, half * 8), part(g!, half * 4), part(dx!, half * 8)],
        params: { n: rows * half, half },
      }),
    );
  },
  vjp: 'second derivatives are not there',
  samples(g) {
    const n = g.int(1, 9);
    const shapes = [[1], [1, 1], [0, 4], [3, 0], [g.int(1, 5), n], [2, 3, 16]];
    return shapes.map((shape) => ({
      inputs: [g.f32([...shape.slice(0, -1), 2 * shape[shape.length - 1]!], -8, 8), g.f32(shape)],
      attrs: null,
      absolute: 5e-6,
      relative: 5e-6,
    }));
  },
});

/** dL/dx (..., 2 I) of `siluMul` for g = dL/dy (..., I). */
export function siluMulGrad(x: Tensor, g: Tensor): Tensor<'f32'> {
  return apply1(siluMulGradOp, [x, g], null) as Tensor<'f32'>;
}
