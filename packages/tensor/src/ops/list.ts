import type { AnyOp, OpDef } from '../op.js';
import { addNormGatedMatmulOp } from './add-norm-gated-matmul.js';
import { addRmsNormOp } from './add-rms-norm.js';
import { argmaxOp } from './argmax.js';
import { attentionOp } from './attention.js';
import { attentionGradOp } from './attention-grad.js';
import { binaryOps } from './binary.js';
import { concatMatmulOp } from './concat-matmul.js';
import { crossEntropyGradOp, crossEntropyOp } from './cross-entropy.js';
import { decodeAttentionOp } from './decode-attention.js';
import { unaryOps } from './elementwise.js';
import { gatedMatmulOp } from './gated-matmul.js';
import { assignOp, concatOp, copyOp, permuteOp, sliceOp } from './layout.js';
import { matmulOp } from './matmul.js';
import { addNormMatmulOp, normMatmulOp } from './norm-matmul.js';
import { randomRowsOp } from './random.js';
import { reduceOp } from './reduce.js';
import { rmsNormGradOp, rmsNormOp } from './rms-norm.js';
import { ropeOp } from './rope.js';
import { gatherRowsOp, scatterRowsOp } from './rows.js';
import { scatterAddRowsOp } from './scatter-add.js';
import { siluMulGradOp, siluMulOp } from './silu-mul.js';
import { softmaxOp } from './softmax.js';
import { topKOp } from './top-k.js';

// An operation only ever meets its own samples, so that the list may forget what its attributes are.
const erase = <A>(op: OpDef<A>): AnyOp => op as unknown as AnyOp;

/** Every operation, for the conformance tests and the benches. */
export const opList: readonly AnyOp[] = [
  ...Object.values(unaryOps).map(erase),
  ...Object.values(binaryOps).map(erase),
  erase(addNormGatedMatmulOp),
  erase(addNormMatmulOp),
  erase(addRmsNormOp),
  erase(argmaxOp),
  erase(assignOp),
  erase(attentionOp),
  erase(attentionGradOp),
  erase(concatMatmulOp),
  erase(concatOp),
  erase(copyOp),
  erase(crossEntropyOp),
  erase(crossEntropyGradOp),
  erase(decodeAttentionOp),
  erase(gatedMatmulOp),
  erase(gatherRowsOp),
  erase(matmulOp),
  erase(normMatmulOp),
  erase(permuteOp),
  erase(randomRowsOp),
  erase(reduceOp),
  erase(rmsNormOp),
  erase(rmsNormGradOp),
  erase(ropeOp),
  erase(scatterAddRowsOp),
  erase(scatterRowsOp),
  erase(siluMulOp),
  erase(siluMulGradOp),
  erase(sliceOp),
  erase(softmaxOp),
  erase(topKOp),
];
