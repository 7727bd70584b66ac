import type { KernelName } from './kernels.js';

/** How the range of a kernel's last two arguments may be cut. */
interface Split {
  /** Work of one unit, about one per multiply-add or value; a nanosecond is about ten. */
  readonly work: (args: readonly number[]) => number;
  /** Pieces have a multiple of this many units. */
  readonly step: number;
  /** Pieces for each thread, where fewer than usual are better. */
  readonly pieces?: number;
}

/** How long a row is stands in memory; a row of one value still takes its time. */
const binaryWork = ([, , , , rank]: readonly number[]) => (rank === 1 ? 4 : 64);

const splits: Partial<Record<KernelName, Split>> = {
  matvec: { work: ([, , , K]) => K!, step: 8, pieces: 4 },
  matmul: { work: ([, , , M, K]) => M! * K!, step: 8 },
  matmulQ8: { work: ([, , , , M, K]) => 4 * M! * K!, step: 3, pieces: 4 },
  matmulQ4: { work: ([, , , , M, K]) => 4 * M! * K!, step: 3, pieces: 4 },
  packQuantized: { work: ([, , , K]) => 4 * K!, step: 1 },
  gemmQuantized: { work: ([, , , , M, K]) => 4 * M! * K!, step: 1 },
  quantizeActivations: { work: ([, , K]) => K!, step: 1 },
  gemm: { work: ([, , , M, K]) => 16 * M! * K!, step: 1 },
  // Of visible keys only the table's width is known: half of them, for causal attention, is what to expect.
  attention: { work: ([, , , , , , , , , , , D, S]) => 4 * D! * S!, step: 1 },
  attentionGrad: { work: ([, , , , , , , , , , , , H, Hk, D, S, , , queries]) => (5 * queries! * H! * D! * S!) / (2 * Hk!), step: 1 },
  packRows: { work: ([, , , K]) => 32 * K!, step: 1 },
  unary: { work: () => 16, step: 4 },
  binary: { work: binaryWork, step: 4 },
  siluMul: { work: ([, , I]) => 24 * I!, step: 1 },
  siluMulGrad: { work: ([, , , I]) => 32 * I!, step: 1 },
  rmsNorm: { work: ([, , , C]) => 4 * C!, step: 1 },
  rope: { work: ([, , , , H, D]) => 8 * H! * D!, step: 1 },
  softmax: { work: ([, , n]) => 24 * n!, step: 1 },
  crossEntropy: { work: ([, , , V]) => 16 * V!, step: 1 },
  crossEntropyGrad: { work: ([, , , , V]) => 24 * V!, step: 1 },
};

/** Below this, waking the others takes longer than the work. */
const worthSharing = 1 << 16;
/** More pieces than threads, so that a thread which came late or was interrupted keeps nobody waiting for long. */
const piecesPerThread = 16;

/** Units for each piece of a kernel call, 0 when it is better not shared; and its work. */
export function pieceOf(name: KernelName, args: readonly number[], threads: number): { piece: number; work: number } {
  const split = splits[name];
  if (split === undefined) return { piece: 0, work: 0 };
  const units = args[args.length - 1]! - args[args.length - 2]!;
  const work = units * split.work(args);
  if (work < worthSharing || units <= split.step) return { piece: 0, work };
  const pieces = Math.min(threads * (split.pieces ?? piecesPerThread), Math.ceil(work / (worthSharing / 4)));
  return { piece: Math.ceil(units / pieces / split.step) * split.step, work };
}

export const splitNames = Object.keys(splits) as KernelName[];
