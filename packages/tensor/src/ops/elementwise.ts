import type { Calculus } from '../calculus.js';
import { refuseUnknownOptions } from '../errors.js';
import { apply1, defineOp, expectDTypes, type OpDef } from '../op.js';
import type { Tensor } from '../tensor.js';
import { kernel, perThread, rowRanges } from '../webgpu/kernel.js';

type F32 = Tensor<'f32'>;

interface UnaryRow {
  readonly f: (x: number, p: number, q: number) => number;
  /** The value of v in WGSL. */
  readonly wgsl: string;
  /** Library functions that it calls. */
  readonly uses?: readonly string[];
  /** Range that the samples draw from. */
  readonly domain?: readonly [number, number];
  readonly relative?: number;
  readonly vjp: UnaryVjp;
}

// Spelled out: taken from the table, the type would depend on itself through the gradients.
export type UnaryName =
  | 'neg'
  | 'abs'
  | 'exp'
  | 'log'
  | 'sqrt'
  | 'rsqrt'
  | 'reciprocal'
  | 'square'
  | 'sigmoid'
  | 'silu'
  | 'tanh'
  | 'gelu'
  | 'relu'
  | 'affine'
  | 'sign'
  | 'atan';

/** dL/dx of g = dL/dy, x, y and the attributes. */
type UnaryVjp = (call: { g: Tensor; x: Tensor; y: Tensor; scale: number; o: Calculus }) => Tensor;

const sigmoidOf = (x: number) => 1 / (1 + Math.exp(-x));

// s + x s (1 - s)
const siluVjp: UnaryVjp = ({ g, x, y, o }) => {
  const s = o.sigmoid(x);
  return o.mul(g, o.add(s, o.mul(y, o.affine(s, { scale: -1, shift: 1 }))));
};

// (1 + t) / 2 + x (1 - t^2) u' / 2 with t = tanh(u), u = c (x + 0.044715 x^3)
const geluVjp: UnaryVjp = ({ g, x, o }) => {
  const c = Math.sqrt(2 / Math.PI);
  const squared = o.square(x);
  const t = o.tanh(o.mul(x, o.affine(squared, { scale: c * 0.044715, shift: c })));
  const slope = o.mul(x, o.affine(squared, { scale: 1.5 * c * 0.044715, shift: c / 2 }));
  const rise = o.mul(slope, o.affine(o.square(t), { scale: -1, shift: 1 }));
  return o.mul(g, o.add(o.affine(t, { scale: 0.5, shift: 0.5 }), rise));
};

// The order of rows is the code that the kernel knows them by.
const unaryTable: Readonly<Record<UnaryName, UnaryRow>> = {
  neg: { f: (x) => -x, wgsl: '-v', vjp: ({ g, o }) => o.neg(g) },
  abs: { f: Math.abs, wgsl: 'abs(v)', vjp: ({ g, x, o }) => o.mul(g, o.sign(x)) },
  exp: { f: Math.exp, wgsl: 'exp_f(v)', uses: ['exp'], domain: [-100, 88], vjp: ({ g, y, o }) => o.mul(g, y) },
  log: { f: Math.log, wgsl: 'log_f(v)', uses: ['log'], domain: [0, 100], vjp: ({ g, x, o }) => o.div(g, x) },
  sqrt: { f: Math.sqrt, wgsl: 'sqrt(v)', domain: [0, 100], vjp: ({ g, y, o }) => o.affine(o.div(g, y), { scale: 0.5 }) },
  rsqrt: {
    f: (x) => 1 / Math.sqrt(x),
    wgsl: 'inverseSqrt(v)',
    domain: [0.01, 100],
    vjp: ({ g, y, o }) => o.affine(o.mul(g, o.mul(y, o.square(y))), { scale: -0.5 }),
  },
  reciprocal: { f: (x) => 1 / x, wgsl: '1.0 / v', domain: [0.1, 10], vjp: ({ g, y, o }) => o.neg(o.mul(g, o.square(y))) },
  square: { f: (x) => x * x, wgsl: 'v * v', vjp: ({ g, x, o }) => o.affine(o.mul(g, x), { scale: 2 }) },
  sigmoid: {
    f: sigmoidOf,
    wgsl: 'sigmoid_f(v)',
    uses: ['sigmoid'],
    domain: [-20, 20],
    vjp: ({ g, y, o }) => o.mul(g, o.mul(y, o.affine(y, { scale: -1, shift: 1 }))),
  },
  silu: { f: (x) => x * sigmoidOf(x), wgsl: 'v * sigmoid_f(v)', uses: ['sigmoid'], domain: [-20, 20], vjp: siluVjp },
  tanh: {
    f: Math.tanh,
    wgsl: 'tanh_f(v)',
    uses: ['tanh'],
    domain: [-12, 12],
    vjp: ({ g, y, o }) => o.mul(g, o.affine(o.square(y), { scale: -1, shift: 1 })),
  },
  // The tanh form (Hendrycks & Gimpel 2016), which GPT-2 and its relatives use.
  gelu: {
    f: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    wgsl: '0.5 * v * (1.0 + tanh_f(0.7978845608028654 * (v + 0.044715 * v * v * v)))',
    uses: ['tanh'],
    domain: [-6, 6],
    vjp: geluVjp,
  },
  relu: { f: (x) => Math.max(x, 0), wgsl: 'max_f(v, 0.0)', uses: ['extrema'], vjp: ({ g, x, o }) => o.mul(g, o.relu(o.sign(x))) },
  affine: { f: (x, p, q) => x * p + q, wgsl: 'v * p.scale + p.shift', vjp: ({ g, scale, o }) => o.affine(g, { scale }) },
  sign: {
    f: Math.sign,
    wgsl: 'select(f32(v > 0.0) - f32(v < 0.0), v, is_nan(v))',
    uses: ['bits'],
    vjp: ({ g, o }) => o.affine(g, { scale: 0 }),
  },
  atan: {
    f: Math.atan,
    wgsl: 'atan_f(v)',
    uses: ['atan'],
    domain: [-9, 9],
    vjp: ({ g, x, o }) => o.div(g, o.affine(o.square(x), { shift: 1 })),
  },
};

interface UnaryAttrs {
  readonly scale: number;
  readonly shift: number;
}

export interface AffineOptions {
  /** 1 when absent. */
  readonly scale?: number;
  /** 0 when absent. */
  readonly shift?: number;
}

const noAttrs: UnaryAttrs = { scale: 1, shift: 0 };

const unaryKernel = (name: UnaryName) =>
  kernel(name, [], () => {
    const { wgsl, uses = [] }: UnaryRow = unaryTable[name];
    return {
      params: { n: 'u32', ...(name === 'affine' ? { scale: 'f32', shift: 'f32' } : {}) },
      read: { x: 'f32' },
      write: { y: 'f32' },
      uses,
      body: `if (index >= p.n) { return; }
  let v = x[index];
  y[index] = ${wgsl};`,
    };
  });

function defineUnary(name: UnaryName, code: number): OpDef<UnaryAttrs> {
  const row: UnaryRow = unaryTable[name];
  return defineOp<UnaryAttrs>({
    name,
    infer(inputs) {
      expectDTypes(name, inputs, ['f32']);
      return [inputs[0]!];
    },
    reference([x], { scale, shift }, [y]) {
      for (let i = 0; i < x!.data.length; i++) y!.data[i] = row.f(x!.data[i]!, scale, shift);
    },
    cpu(c, [x], { scale, shift }, [y]) {
      c.kernels.unary(code, c.at(x!), c.at(y!), scale, shift, 0, x!.size);
    },
    wgsl([x], { scale, shift }, [y], traits) {
      return rowRanges(name, x!.size, [4], traits).map(({ rows, part }) =>
        perThread(unaryKernel(name), rows, traits, { bind: [part(x!, 4), part(y!, 4)], params: { n: rows, scale, shift } }),
      );
    },
    saves: { inputs: [0], outputs: true },
    vjp: ({ inputs: [x], outputs: [y], attrs, grads: [g] }, o) => [row.vjp({ g: g!, x: x!, y: y!, scale: attrs.scale, o })],
    samples(g) {
      const [low, high] = row.domain ?? [-3, 3];
      const attrs = name === 'affine' ? { scale: 1.5, shift: -0.25 } : noAttrs;
      const shapes = [[], [0], [1], [3], [g.int(1, 7), g.int(1, 9)], [4, 16]];
      return shapes.map((shape) => ({ inputs: [g.f32(shape, low, high)], attrs, absolute: 1e-6, relative: row.relative ?? 2e-6 }));
    },
  });
}

const unaryNames = Object.keys(unaryTable) as UnaryName[];
export const unaryOps = Object.fromEntries(unaryNames.map((name, code) => [name, defineUnary(name, code)])) as Record<
  UnaryName,
  OpDef<UnaryAttrs>
>;

const unaryCall =
  (name: UnaryName) =>
  (x: Tensor): F32 =>
    apply1(unaryOps[name], [x], noAttrs) as F32;

/** -x, any shape. */
export const neg = unaryCall('neg');
/** |x|. */
export const abs = unaryCall('abs');
/** e^x. */
export const exp = unaryCall('exp');
/** Natural logarithm; log(0) = -Infinity. */
export const log = unaryCall('log');
/** Square root; NaN below 0. */
export const sqrt = unaryCall('sqrt');
/** 1 / sqrt(x). */
export const rsqrt = unaryCall('rsqrt');
/** 1 / x. */
export const reciprocal = unaryCall('reciprocal');
/** x^2. */
export const square = unaryCall('square');
/** 1 / (1 + e^-x). */
export const sigmoid = unaryCall('sigmoid');
/** x sigmoid(x). */
export const silu = unaryCall('silu');
/** Hyperbolic tangent. */
export const tanh = unaryCall('tanh');
/** Inverse tangent, in radians. */
export const atan = unaryCall('atan');
/** GELU in its tanh form. */
export const gelu = unaryCall('gelu');
/** 1, 0 or -1. */
export const sign = unaryCall('sign');
/** max(x, 0). */
export const relu = unaryCall('relu');

/** x * scale + shift. */
export function affine(x: Tensor, options: AffineOptions): F32 {
  refuseUnknownOptions('affine', options, ['scale', 'shift']);
  return apply1(unaryOps.affine, [x], { scale: options.scale ?? 1, shift: options.shift ?? 0 }) as F32;
}
