import { refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type HostOperand, type OpDef } from '../op.js';
import type { Generate, Sample } from '../sample.js';
import { broadcastShapes, broadcastStrides, showShape, sizeOf } from '../shape.js';
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
}

const sigmoidOf = (x: number) => 1 / (1 + Math.exp(-x));

// The order of rows is the code that the kernel knows them by.
const unaryTable = {
  neg: { f: (x) => -x, wgsl: '-v' },
  abs: { f: Math.abs, wgsl: 'abs(v)' },
  exp: { f: Math.exp, wgsl: 'exp_f(v)', uses: ['exp'], domain: [-100, 88] },
  log: { f: Math.log, wgsl: 'log_f(v)', uses: ['log'], domain: [0, 100] },
  sqrt: { f: Math.sqrt, wgsl: 'sqrt(v)', domain: [0, 100] },
  rsqrt: { f: (x) => 1 / Math.sqrt(x), wgsl: 'inverseSqrt(v)', domain: [0.01, 100] },
  reciprocal: { f: (x) => 1 / x, wgsl: '1.0 / v', domain: [0.1, 10] },
  square: { f: (x) => x * x, wgsl: 'v * v' },
  sigmoid: { f: sigmoidOf, wgsl: 'sigmoid_f(v)', uses: ['sigmoid'], domain: [-20, 20] },
  silu: { f: (x) => x * sigmoidOf(x), wgsl: 'v * sigmoid_f(v)', uses: ['sigmoid'], domain: [-20, 20] },
  tanh: { f: Math.tanh, wgsl: 'tanh_f(v)', uses: ['tanh'], domain: [-12, 12] },
  // The tanh form (Hendrycks & Gimpel 2016), which GPT-2 and its relatives use.
  gelu: {
    f: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
    wgsl: '0.5 * v * (1.0 + tanh_f(0.7978845608028654 * (v + 0.044715 * v * v * v)))',
    uses: ['tanh'],
    domain: [-6, 6],
  },
  relu: { f: (x) => Math.max(x, 0), wgsl: 'max_f(v, 0.0)', uses: ['extrema'] },
  affine: { f: (x, p, q) => x * p + q, wgsl: 'v * p.scale + p.shift', vjp: ({ g, scale, o }) => o.affine(g, { scale }) },
  sign: { f: Math.sign, wgsl: 'select(f32(v > 0.0) - f32(v < 0.0), v, is_nan(v))', uses: ['bits'], vjp: ({ g, o }) => o.affine(g, { scale: 0 }) },
} satisfies Record<string, UnaryRow>;

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
export type UnaryName = keyof typeof unaryTable;

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
      c.kernels.unary(code, c.at(x!), c.at(y!), x!.size, scale, shift);
    },
    wgsl([x], { scale, shift }, [y], traits) {
      return rowRanges(name, x!.size, [4], traits).map(({ rows, part }) =>
        perThread(unaryKernel(name), rows, traits, { bind: [part(x!, 4), part(y!, 4)], params: { n: rows, scale, shift } }),
      );
    },
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
/** GELU in its tanh form. */
export const gelu = unaryCall('gelu');
/** max(x, 0). */
export const relu = unaryCall('relu');

/** x * scale + shift. */
export function affine(x: Tensor, options: AffineOptions): F32 {
  refuseUnknownOptions('affine', options, ['scale', 'shift']);
  return apply1(unaryOps.affine, [x], { scale: options.scale ?? 1, shift: options.shift ?? 0 }) as F32;
}

// Math.max and min already have the kernels' rule: NaN wins.
const binaryTable = {
  add: (a: number, b: number) => a + b,
  sub: (a: number, b: number) => a - b,
  mul: (a: number, b: number) => a * b,
  div: (a: number, b: number) => a / b,
  maximum: (a: number, b: number) => Math.max(a, b),
  minimum: (a: number, b: number) => Math.min(a, b),
};
export type BinaryName = keyof typeof binaryTable;
const binaryNames = Object.keys(binaryTable) as BinaryName[];

/** Merges neighbouring axes that every operand walks through in one step, so that kernels see few, long runs. */
function collapse(dims: readonly number[], sa: readonly number[], sb: readonly number[]): { dims: number[]; sa: number[]; sb: number[] } {
  const out = { dims: [] as number[], sa: [] as number[], sb: [] as number[] };
  for (let i = dims.length - 1; i >= 0; i--) {
    if (dims[i] === 1) continue;
    const d = out.dims[0];
    if (d !== undefined && sa[i] === out.sa[0]! * d && sb[i] === out.sb[0]! * d) {
      out.dims[0] = d * dims[i]!;
    } else {
      out.dims.unshift(dims[i]!);
      out.sa.unshift(sa[i]!);
      out.sb.unshift(sb[i]!);
    }
  }
  return out.dims.length > 0 ? out : { dims: [1], sa: [0], sb: [0] };
}

function binaryReference(f: (a: number, b: number) => number, a: HostOperand, b: HostOperand, c: HostOperand): void {
  const sa = broadcastStrides(a.shape, c.shape);
  const sb = broadcastStrides(b.shape, c.shape);
  for (let i = 0; i < c.data.length; i++) {
    let rest = i;
    let ia = 0;
    let ib = 0;
    for (let d = c.shape.length - 1; d >= 0; d--) {
      const at = rest % c.shape[d]!;
      rest = Math.floor(rest / c.shape[d]!);
      ia += at * sa[d]!;
      ib += at * sb[d]!;
    }
    c.data[i] = f(a.data[ia]!, b.data[ib]!);
  }
}

function binarySamples(g: Generate): Sample<null>[] {
  const n = g.int(1, 9);
  const m = g.int(1, 9);
  const pairs: [number[], number[]][] = [
    [
      [n, m],
      [n, m],
    ],
    [[n, m], [m]],
    [[n, m], []],
    [[], [n, m]],
    [
      [n, 1],
      [n, m],
    ],
    [
      [n, 1],
      [1, m],
    ],
    [
      [2, n, 1, m],
      [3, 1],
    ],
    [[0], [0]],
    [[0, m], [1]],
    [[1], [1]],
    [
      [2, 3, 40],
      [2, 1, 40],
    ],
  ];
  return pairs.map(([a, b]) => ({ inputs: [g.f32(a), g.f32(b, 0.5, 2)], attrs: null, absolute: 1e-6, relative: 1e-6 }));
}

const binaryWgsl: Record<BinaryName, string> = {
  add: 'u + v',
  sub: 'u - v',
  mul: 'u * v',
  div: 'u / v',
  maximum: 'max_f(u, v)',
  minimum: 'min_f(u, v)',
};

const axisNames = (letter: string, rank: number) => Array.from({ length: rank }, (_, i) => `${letter}${i}`);

const binaryKernel = (name: BinaryName, rank: number) =>
  kernel(name, [rank], () => {
    const names = [...axisNames('d', rank), ...axisNames('a', rank), ...axisNames('b', rank)];
    const walk = axisNames('', rank)
      .reverse()
      .map((i) =>
        i === '0'
          ? 'ia += rest * p.a0; ib += rest * p.b0;'
          : `at = rest % p.d${i}; rest /= p.d${i}; ia += at * p.a${i}; ib += at * p.b${i};`,
      );
    return {
      params: { n: 'u32', ...Object.fromEntries(names.map((axis) => [axis, 'u32' as const])) },
      read: { a: 'f32', b: 'f32' },
      write: { c: 'f32' },
      uses: ['extrema'],
      body: `if (index >= p.n) { return; }
  var rest = index;
  var at = 0u;
  var ia = 0u;
  var ib = 0u;
  ${walk.join('\n  ')}
  let u = a[ia];
  let v = b[ib];
  c[index] = ${binaryWgsl[name]};`,
    };
  });

function defineBinary(name: BinaryName, code: number): OpDef<null> {
  return defineOp<null>({
    name,
    infer(inputs) {
      expectDTypes(name, inputs, ['f32', 'f32']);
      return [{ shape: broadcastShapes(name, inputs[0]!.shape, inputs[1]!.shape), dtype: 'f32' }];
    },
    reference([a, b], _, [c]) {
      binaryReference(binaryTable[name], a!, b!, c!);
    },
    cpu(c, [a, b], _, [out]) {
      if (out!.size === 0) return;
      const { dims, sa, sb } = collapse(out!.shape, broadcastStrides(a!.shape, out!.shape), broadcastStrides(b!.shape, out!.shape));
      const last = dims.length - 1;
      // The kernel's run knows steps of 0 and 1 only; broadcasting makes no others at the last axis.
      if (sa[last]! > 1 || sb[last]! > 1)
        throw new ShapeError(`${name}: unexpected steps for ${showShape(a!.shape)} and ${showShape(b!.shape)}`);
      c.kernels.binary(code, c.at(a!), c.at(b!), c.at(out!), dims.length, c.integers([...dims, ...sa, ...sb]));
    },
    wgsl([a, b], _, [out], traits) {
      if (out!.size === 0) return [];
      const { dims, sa, sb } = collapse(out!.shape, broadcastStrides(a!.shape, out!.shape), broadcastStrides(b!.shape, out!.shape));
      const inner = sizeOf(dims.slice(1));
      const k = binaryKernel(name, dims.length);
      const axes = (letter: string, values: readonly number[]) => Object.fromEntries(values.map((value, i) => [`${letter}${i}`, value]));
      const steps = { ...axes('d', dims), ...axes('a', sa), ...axes('b', sb) };
      const [rowA, rowB, rowC] = [sa[0]! * 4, sb[0]! * 4, inner * 4];
      return rowRanges(name, dims[0]!, [rowA, rowB, rowC], traits).map(({ rows, part }) => {
        const bind = [rowA === 0 ? a! : part(a!, rowA), rowB === 0 ? b! : part(b!, rowB), part(out!, rowC)];
        return perThread(k, rows * inner, traits, { bind, params: { ...steps, n: rows * inner } });
      });
    },
    samples: binarySamples,
  });
}

export const binaryOps = Object.fromEntries(binaryNames.map((name, code) => [name, defineBinary(name, code)])) as Record<
  BinaryName,
  OpDef<null>
>;

const binaryCall =
  (name: BinaryName) =>
  (a: Tensor, b: Tensor): F32 =>
    apply1(binaryOps[name], [a, b], null) as F32;

/** a + b, with broadcasting. */
export const add = binaryCall('add');
/** a - b, with broadcasting. */
export const sub = binaryCall('sub');
/** a * b, with broadcasting. */
export const mul = binaryCall('mul');
/** a / b, with broadcasting. */
export const div = binaryCall('div');
/** The larger of a and b, with broadcasting; NaN wins. */
export const maximum = binaryCall('maximum');
/** The smaller of a and b, with broadcasting; NaN wins. */
export const minimum = binaryCall('minimum');
