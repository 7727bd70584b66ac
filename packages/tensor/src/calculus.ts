import { attentionGrad } from './ops/attention-grad.js';
import { add, div, mul, sub } from './ops/binary.js';
import { crossEntropyGrad } from './ops/cross-entropy.js';
import { abs, affine, exp, neg, reciprocal, relu, sigmoid, sign, square, tanh } from './ops/elementwise.js';
import { concat, permute, slice, transpose } from './ops/layout.js';
import { matmul } from './ops/matmul.js';
import { sum } from './ops/reduce.js';
import { reshape } from './ops/reshape.js';
import { rmsNormGrad } from './ops/rms-norm.js';
import { gatherRows } from './ops/rows.js';
import { scatterAddRows } from './ops/scatter-add.js';
import { siluMulGrad } from './ops/silu-mul.js';

/** The operations that gradients are written in. */
export const calculus = {
  abs,
  add,
  affine,
  attentionGrad,
  concat,
  crossEntropyGrad,
  div,
  exp,
  gatherRows,
  matmul,
  mul,
  neg,
  permute,
  reciprocal,
  relu,
  reshape,
  rmsNormGrad,
  scatterAddRows,
  sigmoid,
  sign,
  siluMulGrad,
  slice,
  square,
  sub,
  sum,
  tanh,
  transpose,
};
export type Calculus = typeof calculus;
