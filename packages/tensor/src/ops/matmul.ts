import type { CpuContext } from '../cpu/context.js';
import { isQuantized, isWeightFormat, weightFormats } from '../dtype.js';
import { DTypeError, refuseUnknownOptions, ShapeError } from '../errors.js';
import { apply1, defineOp, expectDTypes, type HostOperand, type Spec } from '../op.js';
import { weightParts } from '../quant.js';
import { roundActivations } from '../quant-group.js';
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

const recordBytes = 104;
/** From so many rows on, widening a quantised matrix in pieces costs less than it gains. See kernels/quant-panel.ts. */
const quantisedPanelRows = 12;
const quantisedPanelBytes = 272;
const widenedBytes = 17536;
// Halves are widened in pieces that stay in the second-level cache.
const wideValues = 1 << 17;

/** `multiplyRows` for a matrix b (N, K) in any format. */
export function multiplyWeight(c: CpuContext, a: number, b: Tensor, out: number, M: number, K: number, N: number): void {
  const { kernels } = c;
  const { dtype } = b;
  const at = c.at(b);
  if (!isWeightFormat(dtype)) multiplyRows(c, a, at, out, M, K, N);
  else if (K === 0) kernels.zero(out, M * N * 4);
  else if (isQuantized(dtype)) {
    const rows = c.scratch(M * Math.ceil(K / 32) * recordBytes);
    kernels.quantizeActivations(a, rows, K, 0, M);
    const scales = at + weightParts(dtype, b.shape)[1]!.offset;
    const blocks = Math.ceil(N / 8);
    const inPanels = M < quantisedPanelRows ? 0 : M % 4 === 3 ? M : M - (M % 4);
    if (inPanels > 0) {
      const panels = Math.ceil(inPanels / 4);
      const bits = dtype === 'q8' ? 8 : 4;
      const packed = c.scratch(panels * Math.ceil(K / 32) * quantisedPanelBytes);
      kernels.packQuantized(rows, packed, inPanels, K, bits, 0, panels);
      const scratch = c.scratch(widenedBytes * c.threads);
      kernels.gemmQuantized(packed, at, scales, out, inPanels, K, N, bits, scratch, widenedBytes, 0, blocks);
    }
    if (inPanels === M) return;
    const multiply = dtype === 'q8' ? kernels.matmulQ8 : kernels.matmulQ4;
    const rest = rows + inPanels * Math.ceil(K / 32) * recordBytes;
    multiply(rest, at, scales, out + inPanels * N * 4, M - inPanels, K, N, 0, blocks);
  } else {
    const step = Math.max(8, Math.floor(wideValues / K / 8) * 8);
    const wide = c.scratch(Math.min(step, N) * K * 4);
    const widen = dtype === 'f16' ? kernels.f16ToF32 : kernels.bf16ToF32;
    for (let n = 0; n < N; n += step) {
      const rows = Math.min(step, N - n);
      widen(at + n * K * 2, wide, rows * K);
      if (M === 1) kernels.matvec(a, wide, out + n * 4, K, N, 0, rows);
      else kernels.matmul(a, wide, out + n * 4, M, K, N, 0, rows);
    }
  }
}

/** The rows (M, K) that a product with b sees: int8 by groups where b is quantised. For references. */
export function seenRows(x: ArrayLike<number>, b: Spec, M: number, K: number): ArrayLike<number> {
  return isQuantized(b.dtype) ? roundActivations(x, M, K) : x;
}

export const matmulOp = defineOp<MatmulAttrs>({
  name: 'matmul',
  weight: 1,
  infer(inputs, attrs) {
    expectDTypes('matmul', inputs, ['f32', 'f32'], 1);
    const [a, b] = inputs as [Spec, Spec];
    if (isWeightFormat(b.dtype) && (attrs.transposeA || !attrs.transposeB || b.shape.length !== 2)) {
      throw new DTypeError(
        `matmul: b is ${b.dtype}${showShape(b.shape)}, which is read by rows of one matrix (N, K) alone: a (..., K), transposeB; load this weight as f32`,
      );
    }
    const { N } = plan(a, b, attrs);
    return [
      { shape: [...a.shape.slice(0, -2), attrs.transposeA ? a.shape[a.shape.length - 1]! : a.shape[a.shape.length - 2]!, N], dtype: 'f32' },
    ];
  },
  reference(inputs, attrs, [c]) {
    const [a, b] = inputs as [HostOperand, HostOperand];
    const { batch, M, K, N, sharedB } = plan(a, b, attrs);
    const rows = seenRows(a.data, b, M, K);
    for (let i = 0; i < batch * M * N; i++) {
      const n = i % N;
      const m = Math.floor(i / N) % M;
      const z = Math.floor(i / (M * N));
      let sum = 0;
      for (let k = 0; k < K; k++) {
        const x = rows[z * M * K + (attrs.transposeA ? k * M + m : m * K + k)]!;
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
    if (isWeightFormat(b!.dtype)) {
      multiplyWeight(c, c.at(a!), b!, c.at(out!), M, K, N);
      return;
    }
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
    for (const format of weightFormats) {
      for (const [M, K, N] of [
        ...sizes,
        [4, 64, 8],
        [9, 96, 24],
        [6, 70, 21],
        [1, 128, 32],
        [13, 70, 21],
        [15, 1100, 8],
        [70, 72, 75],
      ] as const) {
        samples.push({
          inputs: [g.f32([M, K]), g.weight([N, K], format)],
          attrs: { transposeA: false, transposeB: true },
          absolute: 1e-4,
          relative: 1e-5,
        });
      }
    }
    return samples;
  },
});

/**
 * Matrix product of a (..., M, K) and b (..., K, N) -> (..., M, N); a flag reads the last two axes of its operand the other way round.
 * b may have no leading axes: then one matrix serves all. The fast layout is `transposeB` with b (N, K), the layout of checkpoints; only
 * there may b be in a weight format. With q8 and q4, rows of a are rounded to int8 in groups of 32, sums within a group are exact.
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
