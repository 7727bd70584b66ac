import type { CpuContext } from '../cpu/context.js';
import { refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type HostOperand, type Spec } from '../op.js';
import type { Sample } from '../sample.js';
import { tidy } from '../scope.js';
import { sameShape, showShape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { matmulWgsl } from './matmul-wgsl.js';
import { reshape } from './reshape.js';

export interface MatmulOptions {
  readonly transposeA?: boolean;
  readonly transposeB?: boolean;
}

interface MatmulAttrs {
  readonly transposeA: boolean;
  readonly transposeB: boolean;
}

interface Plan {
  readonly batch: number;
  readonly M: number;
  readonly K: number;
  readonly N: number;
  /** b has no batch axes: all of them use the one matrix. */
  readonly sharedB: boolean;
}

function plan(a: Spec, b: Spec, { transposeA, transposeB }: MatmulAttrs): Plan {
  const show = () => `a=${showShape(a.shape)}${transposeA ? ' transposed' : ''} b=${showShape(b.shape)}${transposeB ? ' transposed' : ''}`;
  if (a.shape.length < 2 || b.shape.length < 2) throw new ShapeError(`matmul: both inputs need at least two axes; ${show()}`);
  const [a0, a1] = a.shape.slice(-2) as [number, number];
  const [b0, b1] = b.shape.slice(-2) as [number, number];
  const [M, K] = transposeA ? [a1, a0] : [a0, a1];
  const [kb, N] = transposeB ? [b1, b0] : [b0, b1];
  if (K !== kb) throw new ShapeError(`matmul: the inner axes must be equal, ${K} is not ${kb}; ${show()}`);
  const batchA = a.shape.slice(0, -2);
  const batchB = b.shape.slice(0, -2);
  const sharedB = batchB.length === 0;
  if (!sharedB && !sameShape(batchA, batchB)) {
    throw new ShapeError(`matmul: the leading axes must be equal, or b must have none; ${show()}`);
  }
  const batch = sizeOf(batchA);
  // Against one matrix, rows of all batches are rows of one product.
  if (sharedB && !transposeA) return { batch: 1, M: batch * M, K, N, sharedB };
  return { batch, M, K, N, sharedB };
}

/** Packing both operands costs less than it gains from this many rows on, where rows are so long that few of them fit the first-level cache. */
const packedRows = 16;
const packedLength = 512;
const panelRows = 16;

/** Panels of all rows, each product on its own: see kernels/gemm.ts. */
function packedMatmul(c: CpuContext, a: number, b: number, out: number, { batch, M, K, N, sharedB }: Plan, attrs: MatmulAttrs): void {
  const groups = Math.ceil(M / panelRows);
  const panels = c.scratch(groups * panelRows * Math.ceil(K / 4) * 16);
  const own = 65536 + 64 + (K > 1024 ? 256 * M + 512 : 0);
  const scratch = c.scratch(own * c.threads);
  for (let z = 0; z < batch; z++) {
    c.kernels.packRows(a + z * M * K * 4, panels, M, K, Number(attrs.transposeA), 0, groups);
    const from = b + (sharedB ? 0 : z * K * N * 4);
    const columns = Math.ceil(N / panelRows);
    c.kernels.gemm(panels, from, out + z * M * N * 4, M, K, N, Number(attrs.transposeB), scratch, own, 0, columns);
  }
}

/** c (M, N) = a (M, K) times the rows of b (N, K), all by address. */
export function multiplyRows(c: CpuContext, a: number, b: number, out: number, M: number, K: number, N: number): void {
  if (K === 0) c.kernels.zero(out, M * N * 4);
  else if (M >= packedRows && K > packedLength)
    packedMatmul(c, a, b, out, { batch: 1, M, K, N, sharedB: true }, { transposeA: false, transposeB: true });
  else if (M === 1) c.kernels.matvec(a, b, out, K, N, 0, N);
  else c.kernels.matmul(a, b, out, M, K, N, 0, N);
}

/** The matrix of a product x (..., K) by b (N, K); throws ShapeError. */
export function rowsByMatrix(who: string, x: Spec, b: Spec, K = x.shape[x.shape.length - 1]): { M: number; K: number; N: number } {
  if (x.shape.length === 0 || b.shape.length !== 2 || b.shape[1] !== K) {
    throw new ShapeError(`${who}: the matrix must be (N, ${K}) for rows of ${K}; got x=${showShape(x.shape)} b=${showShape(b.shape)}`);
  }
  return { M: sizeOf(x.shape.slice(0, -1)), K: K!, N: b.shape[0]! };
}

export const matmulOp = defineOp<MatmulAttrs>({
  name: 'matmul',
  infer(inputs, attrs) {
    expectDTypes('matmul', inputs, ['f32', 'f32']);
    const [a, b] = inputs as [Spec, Spec];
    const { N } = plan(a, b, attrs);
    return [
      { shape: [...a.shape.slice(0, -2), attrs.transposeA ? a.shape[a.shape.length - 1]! : a.shape[a.shape.length - 2]!, N], dtype: 'f32' },
    ];
  },
  reference(inputs, attrs, [c]) {
    const [a, b] = inputs as [HostOperand, HostOperand];
    const { batch, M, K, N, sharedB } = plan(a, b, attrs);
    for (let i = 0; i < batch * M * N; i++) {
      const n = i % N;
      const m = Math.floor(i / N) % M;
      const z = Math.floor(i / (M * N));
      let sum = 0;
      for (let k = 0; k < K; k++) {
        const x = a.data[z * M * K + (attrs.transposeA ? k * M + m : m * K + k)]!;
        const y = b.data[(sharedB ? 0 : z) * K * N + (attrs.transposeB ? n * K + k : k * N + n)]!;
        sum += x * y;
      }
      c!.data[i] = sum;
    }
  },
  cpu(c, [a, b], attrs, [out]) {
    const shape = plan(a!, b!, attrs);
    const { batch, M, K, N, sharedB } = shape;
    if (out!.size === 0) return;
    if (K === 0) return c.kernels.zero(c.at(out!), out!.size * 4);
    // One row reads the same in both layouts of a.
    if ((M >= packedRows && K > packedLength) || !attrs.transposeB || (attrs.transposeA && M > 1))
      return packedMatmul(c, c.at(a!), c.at(b!), c.at(out!), shape, attrs);
    for (let z = 0; z < batch; z++) {
      const rows = c.at(a!) + z * M * K * 4;
      const columns = c.at(b!) + (sharedB ? 0 : z * K * N * 4);
      multiplyRows(c, rows, columns, c.at(out!) + z * M * N * 4, M, K, N);
    }
  },
  wgsl: ([a, b], attrs, [c], traits) => matmulWgsl({ ...plan(a!, b!, attrs), ...attrs }, a!, b!, c!, traits),
  vjp({ inputs: [a, b], attrs: { transposeA, transposeB }, grads: [g], wants }, o) {
    const { sharedB } = plan(a!, b!, { transposeA, transposeB });
    const flat = (x: Tensor) => o.reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape[x.shape.length - 1]!]);
    const da = () => {
      const straight = o.matmul(g!, b!, { transposeB: !transposeB });
      return transposeA ? o.transpose(straight) : straight;
    };
    const db = () => {
      if (!sharedB) {
        const turned = o.matmul(a!, g!, { transposeA: !transposeA });
        return transposeB ? o.transpose(turned) : turned;
      }
      const rows = flat(transposeA ? o.transpose(a!) : a!);
      return transposeB ? o.matmul(flat(g!), rows, { transposeA: true }) : o.matmul(rows, flat(g!), { transposeA: true });
    };
    return [wants[0] ? da() : undefined, wants[1] ? db() : undefined];
  },
  samples(g) {
    const flags = [
      [false, false],
      [false, true],
      [true, false],
      [true, true],
    ] as const;
    const sizes = [
      [1, 1, 1],
      [1, g.int(1, 40), g.int(1, 40)],
      [2, 8, 4],
      [g.int(1, 9), g.int(1, 33), g.int(1, 19)],
      [0, 3, 4],
      [3, 0, 4],
      [3, 4, 0],
      [5, 67, 13],
      [2, 5, 4],
      [3, 6, 5],
    ] as const;
    const samples: Sample<MatmulAttrs>[] = [];
    for (const [transposeA, transposeB] of flags) {
      const make = (batchA: number[], batchB: number[], [M, K, N]: readonly [number, number, number] | readonly number[]) => {
        const a = [...batchA, ...(transposeA ? [K!, M!] : [M!, K!])];
        const b = [...batchB, ...(transposeB ? [N!, K!] : [K!, N!])];
        samples.push({ inputs: [g.f32(a), g.f32(b)], attrs: { transposeA, transposeB }, absolute: 2e-5, relative: 1e-5 });
      };
      for (const size of sizes) make([], [], size);
      make([2, 3], [], sizes[3]);
      make([2, 3], [2, 3], sizes[3]);
      make([0], [], sizes[3]);
    }
    return samples;
  },
});

/**
 * Matrix product of a (..., M, K) and b (..., K, N) -> (..., M, N); a flag reads the last two axes of its operand the other way round.
 * b may have no leading axes: then one matrix serves all. The fast layout is `transposeB` with b (N, K), the layout of checkpoints.
 * An output row has the same bits whatever the number of rows.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor<'f32'> {
  refuseUnknownOptions('matmul', options, ['transposeA', 'transposeB']);
  return apply1(matmulOp, [a, b], { transposeA: options.transposeA ?? false, transposeB: options.transposeB ?? false }) as Tensor<'f32'>;
}

/** Product of w (N, K) and x (K) -> (N). */
export function matvec(w: Tensor, x: Tensor): Tensor<'f32'> {
  if (w.shape.length !== 2 || x.shape.length !== 1 || w.shape[1] !== x.shape[0]) {
    throw new ShapeError(`matvec: w must be (N, K) and x (K); got w=${showShape(w.shape)} x=${showShape(x.shape)}`);
  }
  return tidy(x.device, () => reshape(matmul(reshape(x, [1, x.size]), w, { transposeB: true }), [w.shape[0]!]));
}
