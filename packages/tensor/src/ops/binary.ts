import type { Calculus } from '../calculus.js';
import { ShapeError } from '../errors.js';
import { unbroadcast } from '../gradient.js';
import { apply1, defineOp, expectDTypes, type HostOperand, type OpDef } from '../op.js';
import type { Generate, Sample } from '../sample.js';
import { broadcastShapes, broadcastStrides, showShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { kernel, perThread, rowRanges } from '../webgpu/kernel.js';

type F32 = Tensor<'f32'>;

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

/** dL/da and dL/db before the sum over repetitions. */
type BinaryVjp = (g: Tensor, a: Tensor, b: Tensor, o: Calculus) => readonly [() => Tensor, () => Tensor];

// 1 where a wins, 1/2 where both are equal, 0 elsewhere.
const share = (a: Tensor, b: Tensor, o: Calculus) => o.affine(o.sign(o.sub(a, b)), { scale: 0.5, shift: 0.5 });

const binaryVjps: Record<BinaryName, BinaryVjp> = {
  add: (g) => [() => g, () => g],
  sub: (g, _, __, o) => [() => g, () => o.neg(g)],
  mul: (g, a, b, o) => [() => o.mul(g, b), () => o.mul(g, a)],
  div: (g, a, b, o) => [() => o.div(g, b), () => o.neg(o.div(o.mul(g, a), o.square(b)))],
  maximum: (g, a, b, o) => [() => o.mul(g, share(a, b, o)), () => o.mul(g, share(b, a, o))],
  minimum: (g, a, b, o) => [() => o.mul(g, share(b, a, o)), () => o.mul(g, share(a, b, o))],
};

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
      const rows = last === 0 ? dims[0]! : out!.size / dims[last]!;
      c.kernels.binary(code, c.at(a!), c.at(b!), c.at(out!), dims.length, c.integers([...dims, ...sa, ...sb]), 0, rows);
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
    saves: { inputs: name === 'add' || name === 'sub' ? [] : [0, 1] },
    vjp({ inputs: [a, b], grads: [g], wants }, o) {
      const [da, db] = binaryVjps[name](g!, a!, b!, o);
      return [wants[0] ? unbroadcast(da(), a!.shape, o) : undefined, wants[1] ? unbroadcast(db(), b!.shape, o) : undefined];
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
